import { LockMode, type SqlEntityManager } from "@mikro-orm/postgresql";
import type { Caller } from "../caller/caller.ts";
import { carryOn, confirmed } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { checkedText, composed } from "../input/plain-text.ts";
import { userDeleted } from "./authenticate-user.ts";
import { maxNameLength } from "./create-user.ts";
import { User } from "./user.entity.ts";

/** Deletes some of the user's data in other tables, and returns whether more remains. */
export type DeleteSomeOfUser = (em: SqlEntityManager, userId: number) => Promise<boolean>;

/**
 * Renames the user.
 * @throws {ServiceError} BAD_USER_INPUT if the name is blank, too long or has control characters; UNAUTHENTICATED if
 * the user was deleted meanwhile
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
 * Deletes the user with all recordings, links and tokens, in one transaction or, for large amounts, in several. If it
 * fails half-way, the user and the tokens still exist, and it must be safe to repeat.
 * @param confirm the user's name, as a protection against mistakes
 * @throws {ServiceError} BAD_USER_INPUT if the name does not match, OUTCOME_UNKNOWN if it failed half-way
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
      // Take this lock first, in the same order as uploads do at their end.
      await em.findOne(User, { id }, { fields: ["id"], lockMode: LockMode.PESSIMISTIC_WRITE });
      const more = await deleteSomeRecords(em, id);
      if (!more) await em.nativeDelete(User, { id });
      return { more };
    });
  for (let { more } = await deleteNext(); more;) ({ more } = await carryOn(deleteNext));
}
