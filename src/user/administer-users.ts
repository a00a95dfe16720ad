import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql } from "kysely";
import { v4 as uuidv4 } from "uuid";
import { type Caller, tokenScopes } from "../caller/caller.ts";
import { hashToken } from "../caller/token.ts";
import { queryBuilder } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import { AccessToken, User, type UserTables } from "./user.entity.ts";

/** A user as the operator sees it. */
export interface KnownUser {
  readonly id: number;
  readonly name: string;
  readonly createdAt: Date;
  readonly isVouchedFor: boolean;
  /** Null if the user is not disabled. */
  readonly disabledAt: Date | null;
}

/** Which users to list, newest first. */
interface UserSelection {
  /** A part of the name, in any case. */
  readonly name?: string | undefined;
  /** Only users created before the one with this id. */
  readonly beforeId?: number | undefined;
  readonly limit: number;
}

const fields = ["id", "name", "createdAt", "isVouchedFor", "disabledAt"] as const;

export async function listUsers(em: SqlEntityManager, { name, beforeId, limit }: UserSelection): Promise<KnownUser[]> {
  const users = await em.find(
    User,
    {
      ...(name !== undefined && { name: { $ilike: `%${name.replace(/[\\%_]/g, "\\$&")}%` } }),
      ...(beforeId !== undefined && { id: { $lt: beforeId } }),
    },
    { fields, orderBy: { id: "desc" }, limit, disableIdentityMap: true },
  );
  return users.map(toKnownUser);
}

/** @throws {ServiceError} NOT_FOUND */
export async function findUser(em: SqlEntityManager, id: number): Promise<KnownUser> {
  return found(await em.findOne(User, { id }, { fields, disableIdentityMap: true }), id);
}

/**
 * Disables or enables a user. From the next request on, tokens of a disabled user are refused and the recordings are
 * not served. Nothing is deleted.
 * @throws {ServiceError} NOT_FOUND
 */
export async function setDisabled(em: SqlEntityManager, id: number, disabled: boolean): Promise<KnownUser> {
  const user = await queryBuilder<UserTables>(em)
    .updateTable("User")
    .set((eb) => ({ disabledAt: disabled ? eb.fn.coalesce("disabledAt", sql<Date>`now()`) : null }))
    .where("id", "=", id)
    .returning(fields)
    .executeTakeFirst();
  return found(user, id);
}

/**
 * A change of a user's quota: a number, 0 for no limit, null for the default from the settings, undefined for no
 * change.
 */
interface QuotaChange {
  readonly bytes?: number | null | undefined;
  readonly seconds?: number | null | undefined;
  readonly records?: number | null | undefined;
}

/**
 * Sets a user's quota. By doing so, the operator also vouches for the user.
 * @throws {ServiceError} NOT_FOUND
 */
export async function setQuota(
  em: SqlEntityManager,
  id: number,
  { bytes, seconds, records }: QuotaChange,
): Promise<KnownUser> {
  const user = await queryBuilder<UserTables>(em)
    .updateTable("User")
    .set({ isVouchedFor: true, quotaBytes: bytes, quotaSeconds: seconds, quotaRecords: records })
    .where("id", "=", id)
    .returning(fields)
    .executeTakeFirst();
  return found(user, id);
}

/**
 * Creates an invitation, with which one user can be created until it expires. Also deletes expired invitations.
 * @returns the only copy of the code, a random UUID
 */
export async function createInvitation(em: SqlEntityManager, expiresAt: Date): Promise<string> {
  const code = uuidv4();
  await queryBuilder<UserTables>(em)
    .with("expired", (db) => db.deleteFrom("Invitation").where("expiresAt", "<=", sql<Date>`now()`))
    .insertInto("Invitation")
    .values({ sha256: hashToken(code), expiresAt })
    .execute();
  return code;
}

/** Revokes all unused invitations and returns their number. */
export async function revokeInvitations(em: SqlEntityManager): Promise<number> {
  const revoked = await queryBuilder<UserTables>(em)
    .deleteFrom("Invitation")
    .returning((eb) => eb("expiresAt", ">", sql<Date>`now()`).as("isValid"))
    .execute();
  return revoked.filter(({ isValid }) => isValid).length;
}

/** The operator acting for a user, with all of the user's rights. */
export function onBehalfOf({ id, name, createdAt, isVouchedFor }: KnownUser): Caller {
  return {
    id,
    name,
    createdAt,
    isVouchedFor,
    tokenId: null,
    scopes: [...tokenScopes],
    expiresAt: null,
    playKey: null,
  };
}

/** Revokes all tokens of a user and returns their number. */
export async function revokeAllTokens(em: SqlEntityManager, ownerId: number): Promise<number> {
  return await em.nativeDelete(AccessToken, { owner: ownerId });
}

type StoredUser = Pick<User, (typeof fields)[number]>;

function found(user: StoredUser | null | undefined, id: number): KnownUser {
  if (!user) throw new ServiceError("NOT_FOUND", `There is no user ${id}.`);
  return toKnownUser(user);
}

function toKnownUser({ id, name, createdAt, isVouchedFor, disabledAt }: StoredUser): KnownUser {
  return { id, name, createdAt, isVouchedFor, disabledAt: disabledAt ?? null };
}
