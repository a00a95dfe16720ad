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
      "Creates a user and its first token, which has the scopes READ, WRITE and MANAGE. If the operator has " +
      "restricted registration, this needs an invitation or fails with `REGISTRATION_CLOSED`.",
  })
  @Facts({ answersTo: async () => undefined })
  async createUser(
    @Arg("name", () => String, {
      description: `The user's name: 1 to ${maxNameLength} characters in any script, without control characters.`,
    })
    name: string,
    @Arg("invite", () => String, {
      nullable: true,
      description:
        "An invitation code from the operator, valid for one user. Needed only if registration is by invitation.",
    })
    invite: string | null | undefined,
    @Ctx() { clientAddress }: RequestContext,
  ): Promise<CreateUserPayload> {
    const { user, token } = await this.#registration.register(name, invite ?? undefined, clientAddress);
    return { user: toUserType(user), token };
  }

  @Query(() => UserType, {
    description:
      "The user of the Bearer token. Any scope is enough; `records`, `uploads`, `usage` and `uploadTickets` need READ, `tokens` needs MANAGE.",
  })
  @Facts({ answersTo: async (_args, context) => await context.caller(...tokenScopes) })
  async me(@Ctx() context: RequestContext): Promise<UserType> {
    return toUserType(await context.caller(...tokenScopes));
  }
}
