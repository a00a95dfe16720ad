import type { Pool } from "pg";
import { Arg, Ctx, Mutation, Query, Resolver } from "type-graphql";
import { addressKey, type RateLimiter } from "../limits/rate-limiter.ts";
import { Facts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../request-context.ts";
import { createUser, maxNameLength } from "./create-user.ts";
import { CreateUserPayload, toUserType, UserType } from "./user.type.ts";

@Resolver()
export class UserResolver {
  readonly #pool: Pool;
  readonly #newUsers: RateLimiter;

  constructor(pool: Pool, newUsers: RateLimiter) {
    this.#pool = pool;
    this.#newUsers = newUsers;
  }

  @Mutation(() => CreateUserPayload, { nullable: true, description: "Creates a user and its first token." })
  @Facts({ answersTo: async () => undefined })
  async createUser(
    @Arg("name", () => String, {
      description: `1 to ${maxNameLength} characters of any script; no control characters.`,
    })
    name: string,
    @Ctx() { clientAddress }: RequestContext,
  ): Promise<CreateUserPayload> {
    await this.#newUsers.consume(addressKey(clientAddress));
    const { user, token } = await createUser(this.#pool, name);
    return { user: toUserType(user), token };
  }

  @Query(() => UserType, { description: "The user of the Bearer token." })
  async me(@Ctx() context: RequestContext): Promise<UserType> {
    return toUserType(await context.caller());
  }
}
