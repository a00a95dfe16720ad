import { Client, type QueryResult } from "pg";
import { until } from "./until.ts";

/**
 * A transaction on a connection of its own. No timeout of the service ends it, so its locks last as long as a busy
 * machine takes to reach them. Disposing of it rolls it back, unless it was committed.
 */
export interface Transaction extends AsyncDisposable {
  query(text: string, values?: readonly unknown[]): Promise<QueryResult>;
  /**
   * Waits until at least this number of the database's connections wait for locks, of this transaction or each other.
   * @returns their number, which is smaller if it took too long
   */
  untilWaiting(wanted: number): Promise<number>;
  commit(): Promise<void>;
}

/** Begins a transaction and runs its first statement. */
export async function beginTransaction(
  databaseUrl: string,
  text: string,
  values: readonly unknown[] = [],
): Promise<Transaction> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query("begin");
  await client.query(text, [...values]);
  const waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
  const count = async (): Promise<number> => {
    // Otherwise a transaction sees the same activity until its end.
    await client.query("select pg_stat_clear_snapshot()");
    return (await client.query(waiting)).rowCount!;
  };
  return {
    query: async (text, values = []) => await client.query(text, [...values]),
    untilWaiting: async (wanted) => await until(count, (found) => found >= wanted),
    commit: async () => void (await client.query("commit")),
    [Symbol.asyncDispose]: async () => await client.end(),
  };
}
