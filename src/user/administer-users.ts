import type { Pool } from "pg";
import { v4 as uuidv4 } from "uuid";
import { type Caller, tokenScopes } from "../caller/caller.ts";
import { hashToken } from "../caller/token.ts";
import { ServiceError } from "../errors/errors.ts";

/** A user as the operator sees one. */
export interface KnownUser {
  readonly id: number;
  readonly name: string;
  readonly createdAt: Date;
  readonly isVouchedFor: boolean;
  /** Null: the user is not disabled. */
  readonly disabledAt: Date | null;
}

/** Which users to list, the newest first. */
export interface UserSelection {
  /** A part of the name, in any case. */
  readonly name?: string | undefined;
  /** Only those that were made before the one with this id. */
  readonly beforeId?: number | undefined;
  readonly limit: number;
}

/** A row as the pool gives it: times come as text. */
interface UserRow {
  readonly id: number;
  readonly name: string;
  readonly created_at: string;
  readonly is_vouched_for: boolean;
  readonly disabled_at: string | null;
}

const columns = "id, name, created_at, is_vouched_for, disabled_at";

export async function listUsers(pool: Pool, { name, beforeId, limit }: UserSelection): Promise<KnownUser[]> {
  const { rows } = await pool.query<UserRow>(
    `select ${columns} from app_user
     where ($1::text is null or strpos(lower(name), lower($1)) > 0) and ($2::int is null or id < $2)
     order by id desc limit $3`,
    [name, beforeId, limit],
  );
  return rows.map(toKnownUser);
}

/** @throws {ServiceError} NOT_FOUND */
export async function findUser(pool: Pool, id: number): Promise<KnownUser> {
  const { rows } = await pool.query<UserRow>(`select ${columns} from app_user where id = $1`, [id]);
  return oneUser(rows, id);
}

/**
 * Disables a user, whose tokens are refused and whose recordings are not served from the next request on, or enables
 * one again. Nothing of the user's is deleted.
 * @throws {ServiceError} NOT_FOUND
 */
export async function setDisabled(pool: Pool, id: number, disabled: boolean): Promise<KnownUser> {
  const { rows } = await pool.query<UserRow>(
    `update app_user set disabled_at = case when $2 then coalesce(disabled_at, now()) end where id = $1 returning ${columns}`,
    [id, disabled],
  );
  return oneUser(rows, id);
}

/** What a user may store: numbers, 0 for no limit, null for what the settings say; undefined leaves it as it is. */
export interface QuotaChange {
  readonly bytes?: number | null | undefined;
  readonly seconds?: number | null | undefined;
  readonly records?: number | null | undefined;
}

/**
 * Gives a user a quota. Whom the operator gives one, he vouches for.
 * @throws {ServiceError} NOT_FOUND
 */
export async function setQuota(pool: Pool, id: number, { bytes, seconds, records }: QuotaChange): Promise<KnownUser> {
  const { rows } = await pool.query<UserRow>(
    `update app_user set is_vouched_for = true,
       quota_bytes = case when $2 then $3 else quota_bytes end,
       quota_seconds = case when $4 then $5 else quota_seconds end,
       quota_records = case when $6 then $7 else quota_records end
     where id = $1 returning ${columns}`,
    [id, bytes !== undefined, bytes, seconds !== undefined, seconds, records !== undefined, records],
  );
  return oneUser(rows, id);
}

/**
 * Makes an invitation, with which one user can be made until it expires. Those that have expired are forgotten.
 * @returns the only copy of the code, a random UUID
 */
export async function createInvitation(pool: Pool, expiresAt: Date): Promise<string> {
  const code = uuidv4();
  await pool.query(
    `with expired as (delete from invitation where expires_at <= now())
     insert into invitation (sha256, expires_at) values ($1, $2)`,
    [hashToken(code), expiresAt],
  );
  return code;
}

/** Takes back every invitation that has not been used, and says how many there were. */
export async function revokeInvitations(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ valid: boolean }>("delete from invitation returning expires_at > now() as valid");
  return rows.filter(({ valid }) => valid).length;
}

/** The operator in the user's place: may do whatever the user may. */
export function onBehalfOf({ id, name, createdAt, isVouchedFor }: KnownUser): Caller {
  return { id, name, createdAt, isVouchedFor, tokenId: null, scopes: [...tokenScopes], expiresAt: null };
}

/** Revokes all tokens of a user, and says how many there were. */
export async function revokeAllTokens(pool: Pool, ownerId: number): Promise<number> {
  const { rowCount } = await pool.query("delete from access_token where owner_id = $1", [ownerId]);
  return rowCount ?? 0;
}

function oneUser([row]: readonly UserRow[], id: number): KnownUser {
  if (!row) throw new ServiceError("NOT_FOUND", `There is no user ${id}.`);
  return toKnownUser(row);
}

function toKnownUser({ id, name, created_at, is_vouched_for, disabled_at }: UserRow): KnownUser {
  return {
    id,
    name,
    createdAt: new Date(created_at),
    isVouchedFor: is_vouched_for,
    disabledAt: disabled_at === null ? null : new Date(disabled_at),
  };
}
