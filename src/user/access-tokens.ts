import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type Kysely } from "kysely";
import { v4 as uuidv4, validate as isUuid } from "uuid";
import { requireScope, type Caller, type TokenScope } from "../caller/caller.ts";
import { hashToken } from "../caller/token.ts";
import { queryBuilder, statement } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import { requireFutureExpiry } from "../input/expiry.ts";
import { rowBytes, takeAllowance, type Charge } from "../limits/write-allowance.ts";
import { checkedText } from "../input/plain-text.ts";
import { tokenRevoked, userDeleted } from "./authenticate-user.ts";
import { maxNameLength } from "./create-user.ts";
import { AccessToken, type UserTables } from "./user.entity.ts";

/** Maximum number of tokens of a user, including expired ones. */
export const maxTokens = 100;

/** A token as its owner sees it: without the secret. */
export interface TokenDescription {
  readonly id: string;
  readonly name: string;
  readonly createdAt: Date;
  /** To the minute; null if never used. */
  readonly lastUsedAt: Date | null;
  readonly expiresAt: Date | null;
  readonly scopes: readonly TokenScope[];
  /**
   * Id of the token that created it and with which it is revoked; null for the user's first token and those of the
   * operator.
   */
  readonly parentId: string | null;
}

/** The properties of a new token. */
interface TokenRequest {
  readonly name: string;
  /** Null if it expires with the caller's token, or never. */
  readonly expiresAt: Date | null;
  readonly scopes: readonly TokenScope[];
}

interface NewToken {
  readonly ownerId: number;
  readonly sha256: Uint8Array;
  readonly name: string;
  readonly expiresAt: Date | null;
  readonly scopes: TokenScope[];
  readonly parentId: string | null;
}

/** The columns of a {@link TokenDescription}. */
const describing = ["id", "name", "createdAt", "lastUsedAt", "expiresAt", "scopes", "parentId"] as const;

/** Inserts no row if the user already has {@link maxTokens}. */
const insertToken = statement((db: Kysely<UserTables>, token: NewToken) =>
  db
    .insertInto("AccessToken")
    .columns(["ownerId", "sha256", "name", "expiresAt", "scopes", "parentId"])
    .expression((eb) =>
      eb
        .selectFrom("User")
        .select((eb) => [
          "id",
          eb.val(token.sha256).as("sha256"),
          eb.val(token.name).as("name"),
          eb.val(token.expiresAt).as("expiresAt"),
          eb.val(token.scopes).as("scopes"),
          eb.val(token.parentId).as("parentId"),
        ])
        .where("id", "=", token.ownerId)
        .where(
          (eb) =>
            eb
              .selectFrom("AccessToken")
              .select(eb.fn.countAll<number>().as("tokens"))
              .where("ownerId", "=", token.ownerId),
          "<",
          maxTokens,
        ),
    )
    .returning(describing),
);

const giveNextSecret = statement((db: Kysely<UserTables>, { id, nextSha256 }: { id: string; nextSha256: Uint8Array }) =>
  db.updateTable("AccessToken").set({ nextSha256 }).where("id", "=", id).returning(describing),
);

/** A token and all its descendants; itself first. */
const findBranch = statement((db: Kysely<UserTables>, { id, ownerId }: { id: string; ownerId: number }) =>
  db
    .withRecursive("branch", (db) =>
      db
        .selectFrom("AccessToken")
        .select(["id", sql.lit<number>(0).as("depth")])
        .where("id", "=", id)
        .where("ownerId", "=", ownerId)
        .unionAll(
          db
            .selectFrom("AccessToken")
            .innerJoin("branch", "branch.id", "AccessToken.parentId")
            .select("AccessToken.id")
            .select((eb) => eb("branch.depth", "+", 1).as("depth")),
        ),
    )
    .selectFrom("branch")
    .select("id")
    .orderBy("depth"),
);

/**
 * Creates another token for the caller. It has no more rights than the caller's token, does not expire later, and is
 * revoked with it.
 * @throws {ServiceError} BAD_USER_INPUT, FORBIDDEN, RATE_LIMITED, CONFLICT if there are {@link maxTokens} already, or
 * UNAUTHENTICATED if the caller's token was revoked meanwhile
 */
export async function createToken(
  em: SqlEntityManager,
  caller: Caller,
  { name, expiresAt, scopes }: TokenRequest,
  charge: Charge,
): Promise<{ token: string; accessToken: TokenDescription }> {
  if (scopes.length === 0)
    throw new ServiceError("BAD_USER_INPUT", "A token needs at least one scope.", { argument: "scopes" });
  for (const scope of scopes) requireScope(caller, scope);
  requireFutureExpiry(expiresAt);
  if (expiresAt && caller.expiresAt && expiresAt > caller.expiresAt) {
    const message = "A new token must not expire later than the token that creates it.";
    throw new ServiceError("BAD_USER_INPUT", message, {
      argument: "expiresAt",
      max: caller.expiresAt.toISOString(),
    });
  }
  const token = uuidv4();
  const newToken = {
    ownerId: caller.id,
    sha256: hashToken(token),
    name: checkedText(name, "name", maxNameLength),
    expiresAt: expiresAt ?? caller.expiresAt,
    scopes: [...new Set(scopes)].toSorted(),
    parentId: caller.tokenId,
  };
  const accessToken = await em.transactional(async (em) => {
    await lockCaller(em, caller);
    const [inserted] = await insertToken(em, newToken);
    if (inserted) await takeAllowance(em, charge, rowBytes.token);
    return inserted;
  });
  if (!accessToken) {
    const message = `You already have ${maxTokens} tokens. Revoke one first.`;
    throw new ServiceError("CONFLICT", message, { max: maxTokens });
  }
  return { token, accessToken };
}

/**
 * Locks the caller and the caller's token until the transaction ends. Only a statement that begins with the lock held
 * counts what others have just created for the same user.
 * @throws {ServiceError} UNAUTHENTICATED if either is gone
 */
export async function lockCaller(em: SqlEntityManager, caller: Caller): Promise<void> {
  const db = queryBuilder<UserTables>(em);
  const owner = db.selectFrom("User").select("id").where("id", "=", caller.id).forNoKeyUpdate();
  if (!(await owner.executeTakeFirst())) throw userDeleted();
  if (caller.tokenId === null) return;
  const token = db.selectFrom("AccessToken").select("id").where("id", "=", caller.tokenId).forKeyShare();
  if (!(await token.executeTakeFirst())) throw tokenRevoked();
}

/**
 * Gives a token another secret; everything else of it stays. The secret that it has works until the new one is used for
 * the first time, so a caller who does not get the new one has lost nothing.
 * @param id of the caller's own token, or of one that descends from it: others may have scopes that it does not have
 * @throws {ServiceError} NOT_FOUND, FORBIDDEN, RATE_LIMITED, or UNAUTHENTICATED if the caller's token was revoked
 */
export async function renewToken(
  em: SqlEntityManager,
  caller: Caller,
  id: string | null,
  charge: Charge,
): Promise<{ token: string; accessToken: TokenDescription }> {
  const token = uuidv4();
  return await em.transactional(async (em) => {
    const branch = caller.tokenId === null ? [] : await findBranch(em, { id: caller.tokenId, ownerId: caller.id });
    if (!branch[0]) throw tokenRevoked();
    const wanted = id?.toLowerCase() ?? branch[0].id;
    if (!branch.some((descendant) => descendant.id === wanted)) {
      const exists = isUuid(wanted) && (await em.count(AccessToken, { id: wanted, owner: caller.id })) > 0;
      if (!exists) throw noSuchToken();
      throw new ServiceError("FORBIDDEN", "A token can renew only itself and the tokens that were created with it.");
    }
    const [renewed] = await giveNextSecret(em, { id: wanted, nextSha256: hashToken(token) });
    if (!renewed) throw noSuchToken();
    await takeAllowance(em, charge, rowBytes.token);
    return { token, accessToken: renewed };
  });
}

/** The tokens of users, newest first, by user id. */
export async function findTokens(
  em: SqlEntityManager,
  ownerIds: readonly number[],
): Promise<ReadonlyMap<number, readonly TokenDescription[]>> {
  const tokens = await em.find(
    AccessToken,
    { owner: [...ownerIds] },
    { exclude: ["sha256", "nextSha256"], orderBy: { createdAt: "desc", id: "asc" }, disableIdentityMap: true },
  );
  const byOwner = Map.groupBy(tokens, ({ owner }) => owner.id);
  return new Map([...byOwner].map(([ownerId, owned]) => [ownerId, owned.map(toDescription)]));
}

/**
 * Revokes a token of the caller and all its descendants. The next request with any of them is refused.
 * @returns the ids of the revoked tokens, its own first
 * @throws {ServiceError} NOT_FOUND, or FORBIDDEN if the caller's token descends from it
 */
export async function revokeToken(em: SqlEntityManager, caller: Caller, id: string): Promise<readonly string[]> {
  if (!isUuid(id)) throw noSuchToken();
  return await em.transactional(async (em) => {
    const branch = await findBranch(em, { id, ownerId: caller.id });
    const ids = branch.map((token) => token.id);
    if (ids[0] === undefined) throw noSuchToken();
    if (caller.tokenId !== null && ids.indexOf(caller.tokenId) > 0) {
      const message =
        "A token cannot revoke the token that created it. Use that token itself, or one that does not descend from it.";
      throw new ServiceError("FORBIDDEN", message);
    }
    if ((await em.nativeDelete(AccessToken, { id: ids[0] })) === 0) throw noSuchToken();
    return ids;
  });
}

function noSuchToken(): ServiceError {
  return new ServiceError("NOT_FOUND", "Token not found.");
}

type StoredToken = Pick<AccessToken, "id" | "name" | "createdAt" | "lastUsedAt" | "expiresAt" | "scopes"> & {
  readonly parent?: { readonly id: string } | null;
};

function toDescription({ id, name, createdAt, lastUsedAt, expiresAt, scopes, parent }: StoredToken): TokenDescription {
  return {
    id,
    name,
    scopes,
    parentId: parent?.id ?? null,
    createdAt,
    lastUsedAt: lastUsedAt ?? null,
    expiresAt: expiresAt ?? null,
  };
}
