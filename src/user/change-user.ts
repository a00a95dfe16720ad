import { LockMode, type SqlEntityManager } from "@mikro-orm/postgresql";
import type { Caller } from "../caller/caller.ts";
import { carryOn, confirmed } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { checkedText, composed } from "../input/plain-text.ts";
import { userDeleted } from "./authenticate-user.ts";
import { maxNameLength } from "./create-user.ts";
import { User } from "./user.entity.ts";

/** Removes some of what users own elsewhere, and says whether more is left. */
export type DeleteSomeOfUser = (em: SqlEntityManager, userId: number) => Promise<boolean>;

/**
 * Gives the user another name.
 * @throws {ServiceError} BAD_USER_INPUT when the name is blank, too long or has control characters; UNAUTHENTICATED when
 * the user has been deleted meanwhile
 */
export async function renameUser(em: SqlEntityManager, caller: Caller, given: string): Promise<Caller> {
  const name = checkedText(given, "name", maxNameLength);
  const rename = async (): Promise<Caller> => {
    if ((await em.nativeUpdate(User, { id: caller.id }, { name })) === 0) throw userDeleted();
    return { ...caller, name };
  };
  return await confirmed(rename, rename);
}

/**
 * Deletes the user with all recordings, links and tokens: in one transaction, or in several if it is much. If it fails
 * half-way, the user and the tokens are still there and it can be repeated.
 * @param confirm the user's name, so that nobody does this by mistake
 * @throws {ServiceError} BAD_USER_INPUT when the name is another, OUTCOME_UNKNOWN when it failed
 * half-way
 */
export async function deleteUser(
  em: SqlEntityManager,
  { id, name }: Caller,
  confirm: string,
  deleteSomeRecords: DeleteSomeOfUser,
): Promise<void> {
  if (composed(confirm.trim()) !== name) {
    throw new ServiceError("BAD_USER_INPUT", "confirm must be the user's current name.", { argument: "confirm" });
  }
  const deleteNext = async (): Promise<{ more: boolean }> =>
    await em.transactional(async (em) => {
      // First of all, in the order in which uploads take it at their end.
      await em.findOne(User, { id }, { fields: ["id"], lockMode: LockMode.PESSIMISTIC_WRITE });
      const more = await deleteSomeRecords(em, id);
      if (!more) await em.nativeDelete(User, { id });
      return { more };
    });
  for (let { more } = await deleteNext(); more;) ({ more } = await carryOn(deleteNext));
}
