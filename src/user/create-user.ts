import type { Pool } from "pg";
import { v4 as uuidv4, validate as isUuid } from "uuid";
import { hashToken } from "../caller/token.ts";
import { changeOnce } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import {
  allowanceUsedUp,
  chargedTable,
  chargeParameters,
  noCharge,
  rowBytes,
  type Charge,
  type RefusedCharge,
} from "../limits/write-allowance.ts";
import { checkedText } from "../input/plain-text.ts";

/** A new user and the only copy of the token. */
export interface NewUser {
  readonly user: { readonly id: number; readonly name: string; readonly createdAt: Date };
  /** A random UUID; only its hash is stored. */
  readonly token: string;
}

/** On whose word, and at whose cost, a user is made. */
export interface Admission {
  /** The code of an invitation, which is used up by this. */
  readonly invitation?: string | undefined;
  readonly charge: Charge;
  readonly isVouchedFor: boolean;
}

/** On the operator's word. */
const byOperator: Admission = { charge: noCharge, isVouchedFor: true };

/** Characters of a user's name, at most. */
export const maxNameLength = 100;

/**
 * Creates a user with a first token, in one statement.
 * @throws {ServiceError} BAD_USER_INPUT when the name is blank, too long or has control characters, or the invitation
 *   is unknown, used or expired; RATE_LIMITED when an allowance is used up
 */
export async function createUser(
  pool: Pool,
  name: string,
  { invitation, charge, isVouchedFor }: Admission = byOperator,
): Promise<NewUser> {
  const trimmed = checkedText(name, "name", maxNameLength);
  if (invitation !== undefined && !isUuid(invitation.trim())) throw invitationInvalid();
  const token = uuidv4();
  const row = await changeOnce(
    pool,
    async (client) => {
      const { rows } = await client.query<UserRow>(
        `with ${chargedTable(1)},
           invited as (delete from invitation where sha256 = $4 and expires_at > now() returning sha256),
           new_user as (
             insert into app_user (name, is_vouched_for)
             select $5, $6 from charged
             where refused is null and ($4::bytea is null or exists (select from invited))
             returning id, created_at),
           new_token as (insert into access_token (owner_id, sha256, name) select id, $7, 'first' from new_user)
         select id, created_at, refused from charged left join new_user on true`,
        [
          ...chargeParameters(charge, rowBytes.user),
          invitation === undefined ? null : hashToken(invitation.trim()),
          trimmed,
          isVouchedFor,
          hashToken(token),
        ],
      );
      return rows[0]!;
    },
    async () => {
      const { rows } = await pool.query<UserRow>(
        `select app_user.id, app_user.created_at, null as refused
         from access_token join app_user on app_user.id = access_token.owner_id where sha256 = $1`,
        [hashToken(token)],
      );
      return rows[0];
    },
  );
  if (row.refused) throw allowanceUsedUp(charge, row.refused);
  if (row.id === null) throw invitationInvalid();
  return { user: { id: row.id, name: trimmed, createdAt: new Date(row.created_at) }, token };
}

/** A row as the pool gives it: times come as text. */
interface UserRow {
  readonly id: number | null;
  readonly created_at: string;
  readonly refused: RefusedCharge | null;
}

function invitationInvalid(): ServiceError {
  const message = "The invitation is unknown, used or expired. Ask for a new one.";
  return new ServiceError("BAD_USER_INPUT", message, { argument: "invite" });
}
