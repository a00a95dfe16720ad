import { setTimeout } from "node:timers/promises";
import type { Pool, PoolClient, QueryResult } from "pg";
import { ServiceError } from "../errors/errors.ts";
import { isDatabaseBusy, isDatabaseUnavailable } from "../errors/database-failures.ts";

/** For how long it is asked what has become of a change; a server that was started anew is back by then. */
const lookForMs = 4000;
const firstLookMs = 50;

/**
 * Runs statements in one transaction; each sees what others have committed before it, and any failure undoes all. When
 * the answer to its commit is lost, the server is asked what has become of it.
 * @throws {ServiceError} OUTCOME_UNKNOWN when the server cannot be asked
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
        // A connection that is given up ends its transaction.
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
 * Runs one statement that changes something, on a connection of its own. When its answer is lost, `find` says what it has
 * done: it looks for that or, where that does no harm, does it again.
 * @param find what `change` gives, or undefined if nothing was done
 * @throws {ServiceError} OUTCOME_UNKNOWN when the server cannot be asked
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
 * Makes a change of one statement. When its answer is lost, `find` says what it has done: it looks for that or, where that
 * does no harm, does it again.
 * @param find what `change` gives, or undefined if nothing was done
 * @throws {ServiceError} OUTCOME_UNKNOWN when the server cannot be asked
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

/** Whether a statement failed for want of a connection; `postgres-dialect.ts` says so. */
function nothingWasSent(error: unknown): boolean {
  return error instanceof Error && "nothingSent" in error;
}

/**
 * Runs the next part of a change of which a part is made already; again while the database is away for a moment.
 * @param run can be repeated
 * @throws {ServiceError} OUTCOME_UNKNOWN when it cannot be made
 */
export async function carryOn<T extends object>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    return await lookAgain(run, error);
  }
}

/** The answer to a change that may have been made, as a whole or in part. */
function outcomeUnknown(cause: unknown): ServiceError {
  const message =
    "The database was lost before it confirmed the change. Check whether the change was made before you repeat it.";
  return new ServiceError("OUTCOME_UNKNOWN", message, {}, { cause });
}

/** The driver's types leave out that a query of two statements has two results. */
function transactionIdIn(results: unknown): string {
  if (!isPair(results)) throw new Error("The transaction has no id.");
  return results[1].rows[0]!.id;
}

function isPair(results: unknown): results is [unknown, QueryResult<{ id: string }>] {
  return Array.isArray(results) && results.length === 2;
}

/** Lends a connection; one that failed, or that the borrower gives up, is closed. */
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
 * Asks what has become of a transaction when the answer to its commit was lost.
 * @throws {ServiceError} OUTCOME_UNKNOWN when the server cannot be asked
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

/** Looks until there is an answer. */
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
