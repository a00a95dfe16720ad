import type { Pool } from "pg";
import { ServiceError } from "../errors/errors.ts";
import type { Caller, TokenScope } from "../caller/caller.ts";
import { hashToken } from "../caller/token.ts";

/** A row as the pool gives it: times come as text. */
interface UserRow {
  readonly id: number;
  readonly name: string;
  readonly created_at: string;
  readonly is_vouched_for: boolean;
  readonly disabled: boolean;
  readonly token_id: string;
  readonly scopes: TokenScope[];
  readonly expires_at: string | null;
}

/**
 * Finds the user whose token this is, by one indexed look-up of the token's hash: no comparison of secrets takes place
 * here, and an unknown user and a wrong, malformed or expired token cost the same and are told the same. Nothing is
 * remembered, so that a revoked token is refused at once by every replica.
 * The same statement notes the use, at most once a minute, and never waits for another that does so.
 * @param userId when given, the token must be this user's
 * @throws {ServiceError} UNAUTHENTICATED, or USER_DISABLED
 */
export async function authenticateUser(pool: Pool, token: string, userId?: string): Promise<Caller> {
  const { rows } = await pool.query<UserRow>(
    `with noted as (
       update access_token set last_used_at = now() where id = (
         select id from access_token
         where sha256 = $1 and (expires_at > now()) is not false
           and (last_used_at > now() - interval '1 minute') is not true
         for update skip locked))
     select app_user.id, app_user.name, app_user.created_at, app_user.disabled_at is not null as disabled,
       app_user.is_vouched_for or quota_bytes is not null as is_vouched_for, access_token.id as token_id,
       access_token.scopes, access_token.expires_at
     from access_token join app_user on app_user.id = access_token.owner_id
     where access_token.sha256 = $1 and (access_token.expires_at > now()) is not false`,
    [hashToken(token)],
  );
  const user = rows[0];
  if (!user || (userId !== undefined && userId !== String(user.id))) {
    throw new ServiceError(
      "UNAUTHENTICATED",
      userId === undefined
        ? "The token is not valid: unknown, revoked or expired."
        : "The user id and token do not belong together, or the token is not valid.",
    );
  }
  if (user.disabled) {
    throw new ServiceError("USER_DISABLED", "This user has been disabled: ask the operator of the service.");
  }
  const { id, name, created_at, is_vouched_for, token_id, scopes, expires_at } = user;
  return {
    id,
    name,
    createdAt: new Date(created_at),
    isVouchedFor: is_vouched_for,
    tokenId: token_id,
    scopes,
    expiresAt: expires_at === null ? null : new Date(expires_at),
  };
}

/** The refusal of what was begun for a user who has been deleted meanwhile. */
export function userDeleted(): ServiceError {
  return new ServiceError("UNAUTHENTICATED", "The user has been deleted.");
}

/** The refusal of what was begun with a token that has been revoked meanwhile. */
export function tokenRevoked(): ServiceError {
  return new ServiceError("UNAUTHENTICATED", "The token was revoked meanwhile. Use another one.");
}
