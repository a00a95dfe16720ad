import { Arg, Ctx, Mutation, Query, Resolver } from "type-graphql";
import { tokenScopes } from "../caller/caller.ts";
import { Facts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { maxNameLength } from "./create-user.ts";
import type { Registration } from "./registration.ts";
import { CreateUserPayload, toUserType, UserType } from "./user.type.ts";

@Resolver()
export class UserResolver {
  readonly #registration: Registration;

  constructor(registration: Registration) {
    this.#registration = registration;
  }

  @Mutation(() => CreateUserPayload, {
    nullable: true,
    description:
      "Creates a user and its first token, which allows everything. Where the operator has closed this, it is `REGISTRATION_CLOSED`, or takes an " +
      "invitation.",
  })
  @Facts({ answersTo: async () => undefined })
  async createUser(
    @Arg("name", () => String, {
      description: `1 to ${maxNameLength} characters of any script; no control characters.`,
    })
    name: string,
    @Arg("invite", () => String, {
      nullable: true,
      description: "The code that the operator gave, for one user; needed only where not everybody may make a user.",
    })
    invite: string | null | undefined,
    @Ctx() { clientAddress }: RequestContext,
  ): Promise<CreateUserPayload> {
    const { user, token } = await this.#registration.register(name, invite ?? undefined, clientAddress);
    return { user: toUserType(user), token };
  }

  @Query(() => UserType, {
    description: "The user of the Bearer token, whatever its scopes; `records` and `usage` need READ, `tokens` MANAGE.",
  })
  @Facts({ answersTo: async (_args, context) => await context.caller(...tokenScopes) })
  async me(@Ctx() context: RequestContext): Promise<UserType> {
    return toUserType(await context.caller(...tokenScopes));
  }
}
