import { setTimeout } from "node:timers/promises";
import type { Pool, PoolClient, QueryResult } from "pg";
import { ServiceError } from "../errors/errors.ts";
import { isDatabaseBusy, isDatabaseUnavailable } from "../errors/database-failures.ts";

/** How long the service tries to find out the outcome of a change. A restarted server is back by then. */
const lookForMs = 4000;
const firstLookMs = 50;

/**
 * Runs statements in one transaction. Each sees what others have committed before it, and any error undoes all. If the
 * response to its commit is lost, the server is asked for the outcome.
 * @throws {ServiceError} OUTCOME_UNKNOWN if the server cannot be asked
 */
export async function inTransaction<T>(pool: Pool, run: (client: PoolClient) => Promise<T>): Promise<T> {
  let committing: { readonly id: string; readonly result: T } | undefined;
  try {
    return await withClient(pool, async (client, giveUp) => {
      const begun: unknown = await client.query(
        "begin isolation level read committed; select pg_current_xact_id() as id",
      );
      const id = transactionIdIn(begun);
      try {
        committing = { id, result: await run(client) };
      } catch (error) {
        // Closing the connection ends its transaction.
        if (!isDatabaseUnavailable(error)) await client.query("rollback").catch(giveUp);
        throw error;
      }
      await client.query("commit");
      return committing.result;
    });
  } catch (error) {
    if (!committing) throw error;
    if (await isCommitted(pool, committing.id, error)) return committing.result;
    throw error;
  }
}

/**
 * Runs one statement that changes something, on a connection of its own. If its response is lost, `find` determines the
 * outcome: it looks for the result or, if that is harmless, repeats the change.
 * @param find returns the result of `change`, or undefined if nothing was done
 * @throws {ServiceError} OUTCOME_UNKNOWN if the server cannot be asked
 */
export async function changeOnce<T>(
  pool: Pool,
  change: (client: PoolClient) => Promise<T>,
  find: () => Promise<T | undefined>,
): Promise<T> {
  let sent = false;
  try {
    return await withClient(pool, async (client) => {
      sent = true;
      return await change(client);
    });
  } catch (error) {
    if (!sent || !isDatabaseUnavailable(error)) throw error;
    const { found } = await lookAgain(async () => ({ found: await find() }), error);
    if (found === undefined) throw error;
    return found;
  }
}

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
    if (nothingWasSent(error) || !isDatabaseUnavailable(error)) throw error;
    const { found } = await lookAgain(async () => ({ found: await find() }), error);
    if (found === undefined) throw error;
    return found;
  }
}

/** Whether a statement failed because no connection was available; `postgres-dialect.ts` marks such errors. */
function nothingWasSent(error: unknown): boolean {
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

/** The driver's types do not express that a query of two statements has two results. */
function transactionIdIn(results: unknown): string {
  if (!isPair(results)) throw new Error("The transaction has no id.");
  return results[1].rows[0]!.id;
}

function isPair(results: unknown): results is [unknown, QueryResult<{ id: string }>] {
  return Array.isArray(results) && results.length === 2;
}

/** Provides a connection. It is closed afterwards if it failed or if `giveUp` was called. */
async function withClient<T>(pool: Pool, use: (client: PoolClient, giveUp: () => void) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken = false;
  const giveUp = () => void (broken = true);
  client.on("error", giveUp);
  try {
    return await use(client, giveUp);
  } catch (error) {
    if (isDatabaseUnavailable(error)) giveUp();
    throw error;
  } finally {
    client.off("error", giveUp);
    client.release(broken);
  }
}

/**
 * Asks for the outcome of a transaction after the response to its commit was lost.
 * @throws {ServiceError} OUTCOME_UNKNOWN if the server cannot be asked
 */
export async function isCommitted(pool: Pool, transactionId: string, lost: unknown): Promise<boolean> {
  return await lookAgain(async () => {
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
