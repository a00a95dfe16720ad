import type { Pool } from "pg";
import { v4 as uuidv4, validate as isUuid } from "uuid";
import { hashToken } from "../caller/token.ts";
import { changeOnce } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { checkedText } from "../input/plain-text.ts";

/** A new user and the only copy of the token. */
export interface NewUser {
  readonly user: { readonly id: number; readonly name: string; readonly createdAt: Date };
  /** A random UUID; only its hash is stored. */
  readonly token: string;
}

/** Who vouches for a new user. */
export interface Admission {
  /** The code of an invitation, which is consumed. */
  readonly invitation?: string | undefined;
  readonly isVouchedFor: boolean;
}

/** A user created by the operator. */
const byOperator: Admission = { isVouchedFor: true };

/** Maximum length of a user's name, in characters. */
export const maxNameLength = 100;

/**
 * Creates a user with a first token, in one statement.
 * @throws {ServiceError} BAD_USER_INPUT if the name is blank, too long or has control characters, or if the invitation
 * is unknown, used or expired
 */
export async function createUser(
  pool: Pool,
  name: string,
  { invitation, isVouchedFor }: Admission = byOperator,
): Promise<NewUser> {
  const userName = checkedUserName(name);
  if (invitation !== undefined && !isUuid(invitation.trim())) throw invitationInvalid();
  const token = uuidv4();
  const row = await changeOnce(
    pool,
    async (client) => {
      const { rows } = await client.query<UserRow>(
        `with invited as (delete from invitation where sha256 = $1 and expires_at > now() returning sha256),
           new_user as (
             insert into app_user (name, is_vouched_for)
             select $2, $3 where $1::bytea is null or exists (select from invited)
             returning id, created_at),
           new_token as (insert into access_token (owner_id, sha256, name) select id, $4, 'first' from new_user)
         select id, created_at from new_user`,
        [invitation === undefined ? null : hashToken(invitation.trim()), userName, isVouchedFor, hashToken(token)],
      );
      return rows[0];
    },
    async () => {
      const { rows } = await pool.query<UserRow>(
        `select app_user.id, app_user.created_at
         from access_token join app_user on app_user.id = access_token.owner_id where sha256 = $1`,
        [hashToken(token)],
      );
      return rows[0];
    },
  );
  if (!row) throw invitationInvalid();
  return { user: { id: row.id, name: userName, createdAt: new Date(row.created_at) }, token };
}

/**
 * A user's name as it is stored.
 * @throws {ServiceError} BAD_USER_INPUT if it is blank, too long or has control characters
 */
export function checkedUserName(name: string): string {
  return checkedText(name, "name", maxNameLength);
}

/** A row as the pool returns it, with times as text. */
interface UserRow {
  readonly id: number;
  readonly created_at: string;
}

function invitationInvalid(): ServiceError {
  const message = "The invitation is unknown, used or expired. Ask for a new one.";
  return new ServiceError("BAD_USER_INPUT", message, { argument: "invite" });
}
