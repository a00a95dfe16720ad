import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { expressionBuilder, sql, type Kysely } from "kysely";
import type { Caller } from "../caller/caller.ts";
import { hashToken } from "../caller/token.ts";
import { statement } from "../database/query-builder.ts";
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
    .with("noted", (db) =>
      db
        .updateTable("AccessToken")
        .set({ lastUsedAt: now })
        .where("id", "=", (eb) =>
          eb
            .selectFrom("AccessToken")
            .select("id")
            .where((eb) => eb.or([eb("sha256", "=", sha256), eb("nextSha256", "=", sha256)]))
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
    .select((eb) => [eb("AccessToken.sha256", "!=", sha256).as("isRenewed"), ...standing()])
    .where((eb) => eb.or([eb("AccessToken.sha256", "=", sha256), eb("AccessToken.nextSha256", "=", sha256)]))
    .where((eb) => eb.or([eb("AccessToken.expiresAt", "is", null), eb("AccessToken.expiresAt", ">", now)])),
);

/** Ends the secret that a token had before it was renewed. */
const endOldSecret = statement((db: Kysely<UserTables>, { sha256 }: { sha256: Uint8Array }) =>
  db.updateTable("AccessToken").set({ sha256, nextSha256: null }).where("nextSha256", "=", sha256).returning("id"),
);

/**
 * Finds the user of a token by one indexed look-up of the token's hash. No secrets are compared here. An unknown user
 * and a wrong, malformed or expired token take the same time and get the same error. Nothing is cached, so every
 * replica refuses a revoked token at once. The same statement records the use, at most once a minute, and never waits
 * for another statement that does so. The first use of a renewed token's new secret ends the old one.
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
        ? "The token is unknown, revoked or expired."
        : "The token is unknown, revoked or expired, or it belongs to another user id.",
    );
  }
  const { isDisabled, isRenewed, ...caller } = user;
  if (isDisabled) throw userDisabled();
  if (isRenewed) await endOldSecret(em, { sha256 });
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
