import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type Kysely } from "kysely";
import type { Caller } from "../caller/caller.ts";
import { hashToken } from "../caller/token.ts";
import { statement } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import type { UserTables } from "./user.entity.ts";

const now = sql<Date>`now()`;
const aMinuteAgo = sql<Date>`now() - interval '1 minute'`;

const findCaller = statement((db: Kysely<UserTables>, { sha256 }: { sha256: Uint8Array }) =>
  db
    .with("noted", (db) =>
      db
        .updateTable("AccessToken")
        .set({ lastUsedAt: now })
        .where("id", "=", (eb) =>
          eb
            .selectFrom("AccessToken")
            .select("id")
            .where("sha256", "=", sha256)
            .where((eb) => eb.or([eb("expiresAt", "is", null), eb("expiresAt", ">", now)]))
            .where((eb) => eb.or([eb("lastUsedAt", "is", null), eb("lastUsedAt", "<=", aMinuteAgo)]))
            .forUpdate()
            .skipLocked(),
        ),
    )
    .selectFrom("AccessToken")
    .innerJoin("User", "User.id", "AccessToken.ownerId")
    .select(["User.id", "User.name", "User.createdAt", "AccessToken.id as tokenId"])
    .select(["AccessToken.scopes", "AccessToken.expiresAt"])
    .select((eb) => [
      eb("User.disabledAt", "is not", null).as("isDisabled"),
      eb.or([eb("User.isVouchedFor", "=", true), eb("User.quotaBytes", "is not", null)]).as("isVouchedFor"),
    ])
    .where("AccessToken.sha256", "=", sha256)
    .where((eb) => eb.or([eb("AccessToken.expiresAt", "is", null), eb("AccessToken.expiresAt", ">", now)])),
);

/**
 * Finds the user whose token this is, by one indexed look-up of the token's hash: no comparison of secrets takes place
 * here, and an unknown user and a wrong, malformed or expired token cost the same and are told the same. Nothing is
 * remembered, so that a revoked token is refused at once by every replica.
 * The same statement notes the use, at most once a minute, and never waits for another that does so.
 * @param userId when given, the token must be this user's
 * @throws {ServiceError} UNAUTHENTICATED, or USER_DISABLED
 */
export async function authenticateUser(em: SqlEntityManager, token: string, userId?: string): Promise<Caller> {
  const [user] = await findCaller(em, { sha256: hashToken(token) });
  if (!user || (userId !== undefined && userId !== String(user.id))) {
    throw new ServiceError(
      "UNAUTHENTICATED",
      userId === undefined
        ? "The token is unknown, revoked or expired."
        : "The token is unknown, revoked or expired, or it belongs to another user id.",
    );
  }
  const { isDisabled, ...caller } = user;
  if (isDisabled) {
    throw new ServiceError("USER_DISABLED", "This user is disabled. Ask the operator of the service.");
  }
  return { ...caller, isVouchedFor: Boolean(caller.isVouchedFor) };
}

/** The refusal of what was begun for a user who has been deleted meanwhile. */
export function userDeleted(): ServiceError {
  return new ServiceError("UNAUTHENTICATED", "The user has been deleted.");
}

/** The refusal of what was begun with a token that has been revoked meanwhile. */
export function tokenRevoked(): ServiceError {
  return new ServiceError("UNAUTHENTICATED", "The token was revoked in the meantime. Use another one.");
}
