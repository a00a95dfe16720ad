import type { Pool, PoolClient } from "pg";
import type { Caller } from "../caller/caller.ts";
import { carryOn, changeOnce, inTransaction } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { checkedText, composed } from "../input/plain-text.ts";
import { userDeleted } from "./authenticate-user.ts";
import { maxNameLength } from "./create-user.ts";

/** Removes some of what users own elsewhere, and says whether more is left. */
export type DeleteSomeOfUser = (client: PoolClient, userId: number) => Promise<boolean>;

/**
 * Gives the user another name.
 * @throws {ServiceError} BAD_USER_INPUT when the name is blank, too long or has control characters; UNAUTHENTICATED when
 * the user has been deleted meanwhile
 */
export async function renameUser(pool: Pool, caller: Caller, given: string): Promise<Caller> {
  const name = checkedText(given, "name", maxNameLength);
  const rename = async (client: Pool | PoolClient): Promise<Caller> => {
    const { rowCount } = await client.query("update app_user set name = $2 where id = $1", [caller.id, name]);
    if (!rowCount) throw userDeleted();
    return { ...caller, name };
  };
  return await changeOnce(pool, rename, async () => await rename(pool));
}

/**
 * Deletes the user with all recordings, links and tokens: in one transaction, or in several if it is much. If it fails
 * half-way, the user and the tokens are still there and it can be repeated.
 * @param confirm the user's name, so that nobody does this by mistake
 * @throws {ServiceError} BAD_USER_INPUT when the name is another, OUTCOME_UNKNOWN when it failed
 * half-way
 */
export async function deleteUser(
  pool: Pool,
  { id, name }: Caller,
  confirm: string,
  deleteSomeRecords: DeleteSomeOfUser,
): Promise<void> {
  if (composed(confirm.trim()) !== name) {
    throw new ServiceError("BAD_USER_INPUT", "confirm must be the user's name.", { argument: "confirm" });
  }
  const deleteNext = async (): Promise<{ more: boolean }> =>
    await inTransaction(pool, async (client) => {
      // First of all, in the order in which uploads take it at their end.
      await client.query("select from app_user where id = $1 for update", [id]);
      const more = await deleteSomeRecords(client, id);
      if (!more) await client.query("delete from app_user where id = $1", [id]);
      return { more };
    });
  for (let { more } = await deleteNext(); more;) ({ more } = await carryOn(deleteNext));
}
