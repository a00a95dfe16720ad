import { GraphQLDateTime } from "../graphql/scalars.ts";
import { Arg, Ctx, FieldResolver, ID, Mutation, Resolver, Root } from "type-graphql";
import type { TokenScope } from "../caller/caller.ts";
import { batchLoader } from "../graphql/batch-loader.ts";
import { Facts, type FieldFacts } from "../graphql/field-facts.ts";
import { chargeOf, type WriteAllowances } from "../limits/write-allowance.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { createToken, findTokens, maxTokens, renewToken, revokeToken, type TokenDescription } from "./access-tokens.ts";
import { deleteUser, renameUser, type DeleteSomeOfUser } from "./change-user.ts";
import { maxNameLength } from "./create-user.ts";
import { requireSelf } from "../graphql/require-self.ts";
import {
  CreateTokenPayload,
  DeleteUserPayload,
  RenewTokenPayload,
  RevokeTokenPayload,
  TokenScopeEnum,
  AccessTokenType,
  toUserType,
  UpdateUserPayload,
  UserType,
} from "./user.type.ts";

/** For mutations that change the account or its tokens. */
const managing: FieldFacts = { answersTo: async (_args, context) => await context.caller("MANAGE") };

/** Queries and mutations of users for their own accounts. */
@Resolver(() => UserType)
export class AccountResolver {
  readonly #deleteSomeRecords: DeleteSomeOfUser;
  readonly #allowances: WriteAllowances;
  readonly #tokensOf: (context: RequestContext, userId: number) => Promise<readonly TokenDescription[] | undefined>;

  constructor(deleteSomeRecords: DeleteSomeOfUser, allowances: WriteAllowances) {
    this.#deleteSomeRecords = deleteSomeRecords;
    this.#allowances = allowances;
    this.#tokensOf = batchLoader(async ({ em }, userIds: readonly number[]) => await findTokens(em(), userIds));
  }

  @FieldResolver(() => [AccessTokenType], {
    nullable: true,
    description: "The user's own tokens, newest first, including expired ones. Null only if an error occurred.",
  })
  @Facts({ ownerOnly: "MANAGE", listLength: () => maxTokens })
  async tokens(@Root() user: UserType, @Ctx() context: RequestContext): Promise<readonly AccessTokenType[]> {
    await requireSelf(context, user.id, "MANAGE");
    return (await this.#tokensOf(context, Number(user.id))) ?? [];
  }

  @Mutation(() => CreateTokenPayload, {
    nullable: true,
    description:
      `Creates another token for the caller, for example for a second device. A user has at most ${maxTokens} ` +
      "tokens. The new token cannot have scopes that the caller's token does not have (FORBIDDEN), and cannot " +
      "expire later than the caller's token (BAD_USER_INPUT). It is revoked when the caller's token is " +
      "revoked. Needs the scope MANAGE.",
  })
  @Facts(managing)
  async createToken(
    @Arg("name", () => String, {
      description: `A label for the token: 1 to ${maxNameLength} characters, without control characters.`,
    })
    name: string,
    @Arg("expiresAt", () => GraphQLDateTime, {
      nullable: true,
      description: "When the token expires. If omitted, it expires with the caller's token, or never.",
    })
    expiresAt: Date | null,
    @Arg("scopes", () => [TokenScopeEnum], {
      defaultValue: ["READ", "WRITE"],
      description: "What the token allows. Give an app no more than it needs: UPLOAD for one that only uploads.",
    })
    scopes: TokenScope[],
    @Ctx() context: RequestContext,
  ): Promise<CreateTokenPayload> {
    const caller = await context.caller("MANAGE");
    const charge = chargeOf(this.#allowances, caller, context.clientAddress);
    const created = await createToken(context.em(), caller, { name, expiresAt, scopes }, charge);
    return { ...created, user: toUserType(caller) };
  }

  @Mutation(() => RenewTokenPayload, {
    nullable: true,
    description:
      "Gives a token another secret, for example because somebody may have seen the one that it has. Its id, " +
      "scopes, expiry and recordings stay, and so do the tokens that were created with it. The old secret works " +
      "until the new one is used for the first time: use the new one at once. If this response is lost, renew again: " +
      "only the last new secret counts. Fails with NOT_FOUND if no token has this id, and with FORBIDDEN if it is " +
      "neither the caller's own token nor descends from it. Needs the scope MANAGE.",
  })
  @Facts(managing)
  async renewToken(
    @Arg("id", () => ID, { nullable: true, description: "The token's id. If omitted, it is the caller's own token." })
    id: string | null,
    @Ctx() context: RequestContext,
  ): Promise<RenewTokenPayload> {
    const caller = await context.caller("MANAGE");
    const charge = chargeOf(this.#allowances, caller, context.clientAddress);
    return { ...(await renewToken(context.em(), caller, id, charge)), user: toUserType(caller) };
  }

  @Mutation(() => RevokeTokenPayload, {
    nullable: true,
    description:
      "Revokes one of the caller's tokens, possibly the one that makes this request. It also revokes every " +
      "token that was created with it, and those created with them. Revoked tokens are refused from the next " +
      "request on; uploads that are running with them fail when they end. Fails with NOT_FOUND if no token has " +
      "this id, and with FORBIDDEN if the caller's own token descends from it. Needs the scope MANAGE.",
  })
  @Facts(managing)
  async revokeToken(
    @Arg("id", () => ID, { description: "The token's id. It is not the secret." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<RevokeTokenPayload> {
    const caller = await context.caller("MANAGE");
    const revokedIds = await revokeToken(context.em(), caller, id);
    return { revokedId: revokedIds[0]!, revokedIds, user: toUserType(caller) };
  }

  @Mutation(() => UpdateUserPayload, {
    nullable: true,
    description: "Renames the caller. Needs the scope MANAGE.",
  })
  @Facts(managing)
  async updateUser(
    @Arg("name", () => String, {
      description: `The new name: 1 to ${maxNameLength} characters in any script, without control characters.`,
    })
    name: string,
    @Ctx() context: RequestContext,
  ): Promise<UpdateUserPayload> {
    return { user: toUserType(await renameUser(context.em(), await context.caller("MANAGE"), name)) };
  }

  @Mutation(() => DeleteUserPayload, {
    nullable: true,
    description:
      "Deletes the caller with all recordings, links and tokens. This cannot be undone. Needs the scope MANAGE.",
  })
  @Facts(managing)
  async deleteUser(
    @Arg("confirm", () => String, { description: "The user's current name, as a protection against mistakes." })
    confirm: string,
    @Ctx() context: RequestContext,
  ): Promise<DeleteUserPayload> {
    const caller = await context.caller("MANAGE");
    await deleteUser(context.em(), caller, confirm, this.#deleteSomeRecords);
    return { deletedId: String(caller.id) };
  }
}
