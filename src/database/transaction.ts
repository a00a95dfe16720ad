import { setTimeout } from "node:timers/promises";
import type { Pool } from "pg";
import { ServiceError } from "../errors/errors.ts";
import { isDatabaseBusy, isDatabaseUnavailable, isReadOnly } from "../errors/database-failures.ts";

/**
 * No further attempt to find out the outcome of a change begins after this time. A restarted server is back by then.
 */
const lookForMs = 4000;
const firstLookMs = 50;

/**
 * Makes a change of one statement. If its response is lost, `find` determines the outcome: it looks for the result or,
 * if that is harmless, repeats the change.
 * @param find returns the result of `change`, or undefined if nothing was done
 * @throws {ServiceError} OUTCOME_UNKNOWN if the server cannot be asked
 */
export async function confirmed<T>(change: () => Promise<T>, find: () => Promise<T | undefined>): Promise<T> {
  try {
    return await change();
  } catch (error) {
    if (isNothingSent(error) || isReadOnly(error) || !isDatabaseUnavailable(error)) throw error;
    const { found } = await lookAgain(async () => ({ found: await find() }), error);
    if (found === undefined) throw error;
    return found;
  }
}

/** Whether a statement failed because no connection was available; `postgres-dialect.ts` marks such errors. */
export function isNothingSent(error: unknown): boolean {
  return error instanceof Error && "nothingSent" in error;
}

/**
 * Runs the next part of a change of which a part has already been made. It retries while the database is briefly
 * unavailable.
 * @param run must be safe to repeat
 * @throws {ServiceError} OUTCOME_UNKNOWN if it cannot be made
 */
export async function carryOn<T extends object>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    return await lookAgain(run, error);
  }
}

/** The error for a change that may have been made, completely or in part. */
function outcomeUnknown(cause: unknown): ServiceError {
  const message =
    "The database was lost before it confirmed the change. Check whether the change was made before you repeat it.";
  return new ServiceError("OUTCOME_UNKNOWN", message, {}, { cause });
}

/**
 * Asks for the outcome of a transaction after the response to its commit was lost.
 * @throws {ServiceError} OUTCOME_UNKNOWN if the server cannot be asked
 */
export async function isCommitted(pool: Pool, transactionId: string, lost: unknown): Promise<boolean> {
  return await lookAgain(async () => {
    // SQL as text: the driver, below MikroORM and its query builder, asks this.
    const { rows } = await pool.query<{ status: string | null }>("select pg_xact_status($1::xid8) as status", [
      transactionId,
    ]);
    const status = rows[0]?.status;
    return status === "committed" ? true : status === "aborted" ? false : undefined;
  }, lost);
}

/** Repeats `look` until it has an answer. */
async function lookAgain<T>(look: () => Promise<T | undefined>, lost: unknown): Promise<T> {
  const giveUpAt = performance.now() + lookForMs;
  for (let waitMs = firstLookMs; performance.now() < giveUpAt; waitMs *= 2) {
    await setTimeout(waitMs);
    try {
      const answer = await look();
      if (answer !== undefined) return answer;
    } catch (error) {
      if (error instanceof ServiceError) throw error;
      if (!isDatabaseUnavailable(error) && !isDatabaseBusy(error)) throw outcomeUnknown(error);
    }
  }
  throw outcomeUnknown(lost);
}
