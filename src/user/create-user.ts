import { createHash } from "node:crypto";
import type { Pool } from "pg";
import { v4 as uuidv4 } from "uuid";
import { checkedText } from "../plain-text.ts";

/** A new user and the only copy of the token. */
export interface NewUser {
  readonly user: { readonly id: number; readonly name: string; readonly createdAt: Date };
  /** A random UUID; only its hash is stored. */
  readonly token: string;
}

/** Characters of a user's name, at most. */
export const maxNameLength = 100;

/**
 * Creates a user with a first token, in one statement.
 * @throws {ServiceError} BAD_USER_INPUT when the name is blank, too long or has control characters
 */
export async function createUser(pool: Pool, name: string): Promise<NewUser> {
  const trimmed = checkedText(name, "name", maxNameLength);
  const token = uuidv4();
  const { rows } = await pool.query<{ id: number; created_at: string }>(
    `with new_user as (insert into app_user (name) values ($1) returning id, created_at),
          new_token as (insert into access_token (owner_id, sha256, name) select id, $2, 'first' from new_user)
     select id, created_at from new_user`,
    [trimmed, hashToken(token)],
  );
  const row = rows[0]!;
  return { user: { id: row.id, name: trimmed, createdAt: new Date(row.created_at) }, token };
}

/** What is stored of a token: its SHA-256. */
export function hashToken(token: string): Buffer {
  return createHash("sha256").update(token.toLowerCase()).digest();
}
