import { GraphQLDateTime } from "graphql-scalars";
import { Arg, Ctx, FieldResolver, ID, Mutation, Resolver, Root } from "type-graphql";
import type { TokenScope } from "../caller/caller.ts";
import { batchLoader } from "../graphql/batch-loader.ts";
import { Facts, type FieldFacts } from "../graphql/field-facts.ts";
import { chargeOf, type WriteAllowances } from "../limits/write-allowance.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { createToken, findTokens, maxTokens, revokeToken, type TokenDescription } from "./access-tokens.ts";
import { deleteUser, renameUser, type DeleteSomeOfUser } from "./change-user.ts";
import { maxNameLength } from "./create-user.ts";
import { requireSelf } from "../graphql/require-self.ts";
import {
  CreateTokenPayload,
  DeleteUserPayload,
  RevokeTokenPayload,
  TokenScopeEnum,
  AccessTokenType,
  toUserType,
  UpdateUserPayload,
  UserType,
} from "./user.type.ts";

/** For a field of Mutation that changes the account or its tokens. */
const managing: FieldFacts = { answersTo: async (_args, context) => await context.caller("MANAGE") };

/** What users do with their own accounts. */
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
    description:
      "The user's own tokens, the newest first, also those that have expired. Null only together with an error.",
  })
  @Facts({ ownerOnly: "MANAGE", listLength: () => maxTokens })
  async tokens(@Root() user: UserType, @Ctx() context: RequestContext): Promise<readonly AccessTokenType[]> {
    await requireSelf(context, user.id, "MANAGE");
    return (await this.#tokensOf(context, Number(user.id))) ?? [];
  }

  @Mutation(() => CreateTokenPayload, {
    nullable: true,
    description:
      `Creates one more token for the caller, for instance for a second device; at most ${maxTokens} at a time. ` +
      "It cannot have scopes that the caller's own token does not have (FORBIDDEN), nor be valid for longer " +
      "(BAD_USER_INPUT), and is revoked together with it. Needs the scope MANAGE.",
  })
  @Facts(managing)
  async createToken(
    @Arg("name", () => String, {
      description: `What to call it: 1 to ${maxNameLength} characters; no control characters.`,
    })
    name: string,
    @Arg("expiresAt", () => GraphQLDateTime, {
      nullable: true,
      description: "When it stops to be valid; absent: with the caller's own token, or never, until it is revoked.",
    })
    expiresAt: Date | null,
    @Arg("scopes", () => [TokenScopeEnum], {
      defaultValue: ["READ", "WRITE"],
      description: "What it allows. Give an app no more than it needs: for one that only uploads, UPLOAD.",
    })
    scopes: TokenScope[],
    @Ctx() context: RequestContext,
  ): Promise<CreateTokenPayload> {
    const caller = await context.caller("MANAGE");
    const charge = chargeOf(this.#allowances, caller, context.clientAddress);
    return await createToken(context.em(), caller, { name, expiresAt, scopes }, charge);
  }

  @Mutation(() => RevokeTokenPayload, {
    nullable: true,
    description:
      "Takes one of the caller's tokens back, also the one that is being used, and with it every token that it has made, " +
      "and that those have made. They are refused from the next request on, and uploads that are under way with them " +
      "when they end. NOT_FOUND when there is none with this id, FORBIDDEN when it is one that the caller's own token " +
      "comes from. Needs the scope MANAGE.",
  })
  @Facts(managing)
  async revokeToken(
    @Arg("id", () => ID, { description: "The token's id, not its secret." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<RevokeTokenPayload> {
    const revokedIds = await revokeToken(context.em(), await context.caller("MANAGE"), id);
    return { revokedId: revokedIds[0]!, revokedIds };
  }

  @Mutation(() => UpdateUserPayload, {
    nullable: true,
    description: "Changes the caller's own user. Needs the scope MANAGE.",
  })
  @Facts(managing)
  async updateUser(
    @Arg("name", () => String, {
      description: `1 to ${maxNameLength} characters of any script; no control characters.`,
    })
    name: string,
    @Ctx() context: RequestContext,
  ): Promise<UpdateUserPayload> {
    return { user: toUserType(await renameUser(context.em(), await context.caller("MANAGE"), name)) };
  }

  @Mutation(() => DeleteUserPayload, {
    nullable: true,
    description:
      "Deletes the caller with all recordings, links and tokens. This cannot be taken back. Needs the scope MANAGE.",
  })
  @Facts(managing)
  async deleteUser(
    @Arg("confirm", () => String, { description: "The user's name, so that nobody does this by mistake." })
    confirm: string,
    @Ctx() context: RequestContext,
  ): Promise<DeleteUserPayload> {
    const caller = await context.caller("MANAGE");
    await deleteUser(context.em(), caller, confirm, this.#deleteSomeRecords);
    return { deletedId: String(caller.id) };
  }
}
