import type { Pool } from "pg";
import { v4 as uuidv4, validate as isUuid } from "uuid";
import { requireScope, type Caller, type TokenScope } from "../caller/caller.ts";
import { hashToken } from "../caller/token.ts";
import { inTransaction } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { requireFutureExpiry } from "../input/expiry.ts";
import { rowBytes, takeAllowance, type Charge } from "../limits/write-allowance.ts";
import { checkedText } from "../input/plain-text.ts";
import { tokenRevoked, userDeleted } from "./authenticate-user.ts";
import { maxNameLength } from "./create-user.ts";

/** Tokens of one user that may exist at the same time, expired ones included. */
export const maxTokens = 100;

/** A token as its owner sees it later: without the secret. */
export interface TokenDescription {
  readonly id: string;
  readonly name: string;
  readonly createdAt: Date;
  /** To the minute; null: never used. */
  readonly lastUsedAt: Date | null;
  readonly expiresAt: Date | null;
  readonly scopes: readonly TokenScope[];
  /** The token that made it, with which it goes; null: the user's first, or one of the operator's. */
  readonly parentId: string | null;
}

/** What a new token is to be. */
export interface TokenRequest {
  readonly name: string;
  /** Null: it expires with the caller's own token, if that does. */
  readonly expiresAt: Date | null;
  readonly scopes: readonly TokenScope[];
}

/** A row as the pool gives it: times come as text. */
interface TokenRow {
  readonly id: string;
  readonly name: string;
  readonly created_at: string;
  readonly last_used_at: string | null;
  readonly expires_at: string | null;
  readonly scopes: TokenScope[];
  readonly parent_id: string | null;
}

/**
 * Creates one more token for the caller, which can do no more than the caller's own and no longer, and goes with it.
 * @throws {ServiceError} BAD_USER_INPUT, FORBIDDEN, RATE_LIMITED, CONFLICT when there are {@link maxTokens} already, or UNAUTHENTICATED
 * when the caller's token has been revoked meanwhile
 */
export async function createToken(
  pool: Pool,
  caller: Caller,
  { name, expiresAt, scopes }: TokenRequest,
  charge: Charge,
): Promise<{ token: string; accessToken: TokenDescription }> {
  if (scopes.length === 0)
    throw new ServiceError("BAD_USER_INPUT", "A token needs at least one scope.", { argument: "scopes" });
  for (const scope of scopes) requireScope(caller, scope);
  requireFutureExpiry(expiresAt);
  if (expiresAt && caller.expiresAt && expiresAt > caller.expiresAt) {
    const message = "A new token must not be valid for longer than the one that creates it.";
    throw new ServiceError("BAD_USER_INPUT", message, {
      argument: "expiresAt",
      max: caller.expiresAt.toISOString(),
    });
  }
  const token = uuidv4();
  const values = [
    caller.id,
    hashToken(token),
    checkedText(name, "name", maxNameLength),
    expiresAt ?? caller.expiresAt,
    [...new Set(scopes)].toSorted(),
    maxTokens,
    caller.tokenId,
  ];
  const rows = await inTransaction(pool, async (client) => {
    // One after the other: only a statement that begins with the lock held counts what others have just made.
    const locked = await client.query("select from app_user where id = $1 for no key update", [caller.id]);
    if (locked.rowCount === 0) throw userDeleted();
    if (caller.tokenId !== null) {
      const parent = await client.query("select from access_token where id = $1 for key share", [caller.tokenId]);
      if (parent.rowCount === 0) throw tokenRevoked();
    }
    const inserted = await client.query<TokenRow>(
      `insert into access_token (owner_id, sha256, name, expires_at, scopes, parent_id)
       select id, $2, $3, $4, $5, $7 from app_user
       where id = $1 and (select count(*) from access_token where owner_id = $1) < $6
       returning id, name, created_at, last_used_at, expires_at, scopes, parent_id`,
      values,
    );
    if (inserted.rows[0]) await takeAllowance(client, charge, rowBytes.token);
    return inserted.rows;
  });
  if (!rows[0]) {
    const message = `There are ${maxTokens} tokens already; revoke one first.`;
    throw new ServiceError("CONFLICT", message, { max: maxTokens });
  }
  return { token, accessToken: toDescription(rows[0]) };
}

/** The tokens of users, the newest first, by the user's id. */
export async function findTokens(
  pool: Pool,
  ownerIds: readonly number[],
): Promise<ReadonlyMap<number, readonly TokenDescription[]>> {
  const { rows } = await pool.query<TokenRow & { readonly owner_id: number }>(
    `select owner_id, id, name, created_at, last_used_at, expires_at, scopes, parent_id from access_token
     where owner_id = any($1::int[]) order by created_at desc, id`,
    [ownerIds],
  );
  const byOwner = Map.groupBy(rows, ({ owner_id }) => owner_id);
  return new Map([...byOwner].map(([ownerId, tokens]) => [ownerId, tokens.map(toDescription)]));
}

/**
 * Takes a token of the caller's back, and with it all that it has made, and those have made; the next request with any
 * of them is refused.
 * @returns their ids, its own first
 * @throws {ServiceError} NOT_FOUND, or FORBIDDEN for the token that made the caller's own
 */
export async function revokeToken(pool: Pool, caller: Caller, id: string): Promise<readonly string[]> {
  return await inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ id: string }>(
      `with recursive branch as (
         select id, 0 as depth from access_token where id = $1 and owner_id = $2
         union all
         select child.id, depth + 1 from access_token child join branch on child.parent_id = branch.id)
       select id from branch order by depth`,
      [isUuid(id) ? id : null, caller.id],
    );
    const ids = rows.map((row) => row.id);
    if (ids[0] === undefined) throw new ServiceError("NOT_FOUND", "There is no such token.");
    if (caller.tokenId !== null && ids.indexOf(caller.tokenId) > 0) {
      const message =
        "A token cannot take back the one that made it: use that one itself, or one that it has not made.";
      throw new ServiceError("FORBIDDEN", message);
    }
    const { rowCount } = await client.query("delete from access_token where id = $1", [ids[0]]);
    if (rowCount === 0) throw new ServiceError("NOT_FOUND", "There is no such token.");
    return ids;
  });
}

function toDescription(row: TokenRow): TokenDescription {
  const { id, name, scopes, created_at, last_used_at, expires_at, parent_id } = row;
  return {
    id,
    name,
    scopes,
    parentId: parent_id,
    createdAt: new Date(created_at),
    lastUsedAt: last_used_at === null ? null : new Date(last_used_at),
    expiresAt: expires_at === null ? null : new Date(expires_at),
  };
}
