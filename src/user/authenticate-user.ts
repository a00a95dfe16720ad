import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { expressionBuilder, sql, type Kysely } from "kysely";
import type { Caller } from "../caller/caller.ts";
import { hashToken } from "../caller/token.ts";
import { statement } from "../database/query-builder.ts";
import { isReadOnly } from "../errors/database-failures.ts";
import { ServiceError } from "../errors/errors.ts";
import type { UserTables } from "./user.entity.ts";

const now = sql<Date>`now()`;
const aMinuteAgo = sql<Date>`now() - interval '1 minute'`;

/** Columns that tell whether a user is disabled, and whether somebody vouches for them. */
export const standing = () => {
  const eb = expressionBuilder<UserTables, "User">();
  const hasQuota = eb("User.quotaBytes", "is not", null);
  return [
    eb("User.disabledAt", "is not", null).$castTo<boolean>().as("isDisabled"),
    eb
      .or([eb("User.isVouchedFor", "=", true), hasQuota])
      .$castTo<boolean>()
      .as("isVouchedFor"),
  ] as const;
};

const findCaller = statement((db: Kysely<UserTables>, { sha256 }: { sha256: Uint8Array }) =>
  db
    .selectFrom("AccessToken")
    .innerJoin("User", "User.id", "AccessToken.ownerId")
    .select(["User.id", "User.name", "User.createdAt", "AccessToken.id as tokenId"])
    .select(["AccessToken.scopes", "AccessToken.expiresAt", "User.playKey"])
    .select((eb) => [
      eb("AccessToken.sha256", "!=", sha256).as("isRenewed"),
      eb.or([eb("lastUsedAt", "is", null), eb("lastUsedAt", "<=", aMinuteAgo)]).as("isUseDue"),
      ...standing(),
    ])
    .where((eb) => eb.or([eb("AccessToken.sha256", "=", sha256), eb("AccessToken.nextSha256", "=", sha256)]))
    .where((eb) => eb.or([eb("AccessToken.expiresAt", "is", null), eb("AccessToken.expiresAt", ">", now)])),
);

/** Records the use of a token, unless another statement is doing so. */
const noteUse = statement((db: Kysely<UserTables>, { id }: { id: string }) =>
  db
    .updateTable("AccessToken")
    .set({ lastUsedAt: now })
    .where("id", "=", (eb) =>
      eb
        .selectFrom("AccessToken")
        .select("id")
        .where("id", "=", id)
        .where((eb) => eb.or([eb("lastUsedAt", "is", null), eb("lastUsedAt", "<=", aMinuteAgo)]))
        .forUpdate()
        .skipLocked(),
    ),
);

/** Ends the secret that a token had before it was renewed. */
const endOldSecret = statement((db: Kysely<UserTables>, { sha256 }: { sha256: Uint8Array }) =>
  db.updateTable("AccessToken").set({ sha256, nextSha256: null }).where("nextSha256", "=", sha256).returning("id"),
);

/**
 * Finds the user of a token by one indexed look-up of the token's hash. No secrets are compared here. An unknown user
 * and a wrong, malformed or expired token take the same time and get the same error. Nothing is cached, so every
 * replica refuses a revoked token at once. A second statement records the use, at most once a minute. The first use of a
 * renewed token's new secret ends the old one. While the database is read-only, neither is recorded, and tokens work.
 * @param userId if given, the token must belong to this user
 * @throws {ServiceError} UNAUTHENTICATED, or USER_DISABLED
 */
export async function authenticateUser(em: SqlEntityManager, token: string, userId?: string): Promise<Caller> {
  const sha256 = hashToken(token);
  const [user] = await findCaller(em, { sha256 });
  if (!user || (userId !== undefined && userId !== String(user.id))) {
    throw new ServiceError(
      "UNAUTHENTICATED",
      userId === undefined
        ? "The token is unknown, revoked or expired. Use another one."
        : "The token is unknown, revoked or expired, or it belongs to another user id. Check both, or use another token.",
    );
  }
  const { isDisabled, isRenewed, isUseDue, ...caller } = user;
  if (isDisabled) throw userDisabled();
  try {
    if (isRenewed) await endOldSecret(em, { sha256 });
    if (isUseDue) await noteUse(em, { id: caller.tokenId });
  } catch (error) {
    if (!isReadOnly(error)) throw error;
  }
  return caller;
}

/** The error for a user whom the operator has disabled. */
export function userDisabled(): ServiceError {
  return new ServiceError("USER_DISABLED", "This user is disabled. Ask the operator of the service.");
}

/** The error for a request whose user was deleted in the meantime. */
export function userDeleted(): ServiceError {
  return new ServiceError("UNAUTHENTICATED", "The user has been deleted.");
}

/** The error for a request whose token was revoked in the meantime. */
export function tokenRevoked(): ServiceError {
  return new ServiceError("UNAUTHENTICATED", "The token was revoked in the meantime. Use another one.");
}
