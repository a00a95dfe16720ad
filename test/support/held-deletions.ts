import type { Pool, PoolClient } from "pg";
import { until } from "./until.ts";

const key = 4_711;

/** Statements that delete rows of a table, each of which waits until {@link letGo} is called. */
export class HeldDeletions {
  readonly #pool: Pool;
  readonly #holder: PoolClient;

  private constructor(pool: Pool, holder: PoolClient) {
    this.#pool = pool;
    this.#holder = holder;
  }

  static async of(pool: Pool, table: string): Promise<HeldDeletions> {
    const holder = await pool.connect();
    await holder.query(`select pg_advisory_lock(${key})`);
    await holder.query(
      `create function wait_for_test() returns trigger as
         $$ begin perform pg_advisory_xact_lock_shared(${key}); return null; end; $$ language plpgsql`,
    );
    await holder.query(
      `create trigger wait_for_test before delete on ${table} for each statement execute function wait_for_test()`,
    );
    return new HeldDeletions(pool, holder);
  }

  /** Number of statements that wait now. */
  async count(): Promise<number> {
    const { rows } = await this.#pool.query<{ waiting: number }>(
      `select count(*)::int as waiting from pg_locks where locktype = 'advisory' and objid = ${key} and not granted
         and database = (select oid from pg_database where datname = current_database())`,
    );
    return rows[0]!.waiting;
  }

  /** Waits until one statement waits. */
  async one(): Promise<void> {
    await until(
      async () => await this.count(),
      (count) => count === 1,
    );
  }

  async letGo(): Promise<void> {
    await this.#holder.query(`select pg_advisory_unlock(${key})`);
    this.#holder.release();
  }
}
