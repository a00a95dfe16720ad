import type { Pool } from "pg";
import { ServiceError } from "../errors.ts";
import { checkedText, composed } from "../plain-text.ts";
import { userDeleted, type Caller } from "./authenticate-user.ts";
import { maxNameLength } from "./create-user.ts";

/** Removes everything that users own elsewhere. */
export type DeleteRecordsOfUser = (pool: Pool, userId: number) => Promise<void>;

/**
 * Gives the user another name.
 * @throws {ServiceError} BAD_USER_INPUT when the name is blank, too long or has control characters; UNAUTHENTICATED when
 * the user has been deleted meanwhile
 */
export async function renameUser(pool: Pool, caller: Caller, given: string): Promise<Caller> {
  const name = checkedText(given, "name", maxNameLength);
  const { rowCount } = await pool.query("update app_user set name = $2 where id = $1", [caller.id, name]);
  if (!rowCount) throw userDeleted();
  return { ...caller, name };
}

/**
 * Deletes the user with all recordings, links and tokens. If it fails half-way, the user and the tokens are still there
 * and it can be repeated.
 * @param confirm the user's name, so that nobody does this by mistake
 * @throws {ServiceError} BAD_USER_INPUT when the name is another
 */
export async function deleteUser(
  pool: Pool,
  { id, name }: Caller,
  confirm: string,
  deleteRecords: DeleteRecordsOfUser,
): Promise<void> {
  if (composed(confirm.trim()) !== name) {
    throw new ServiceError("BAD_USER_INPUT", "confirm must be the user's name.", { argument: "confirm" });
  }
  await deleteRecords(pool, id);
  await pool.query("delete from app_user where id = $1", [id]);
}
