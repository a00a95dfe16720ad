import type { Migration } from "@mikro-orm/migrations";
import { MikroORM, type Options } from "@mikro-orm/postgresql";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import type { Logger } from "pino";
import { isLockUnavailable } from "../errors/database-failures.ts";
import { driverOptions } from "./driver-options.ts";

/** MikroORM's class declares `up` as abstract, which `super` must not call. */
declare class RunnableMigration extends Migration {
  override up(): Promise<void> | void;
}

/** A migration of this build. */
export interface NamedMigration {
  readonly name: string;
  readonly class: new (...args: ConstructorParameters<typeof Migration>) => RunnableMigration;
}

/** What {@link applyMigrations} needs. */
interface MigrationOptions {
  readonly url: string;
  /** MikroORM's options, without the list of migrations. */
  readonly orm: Options;
  readonly migrations: readonly NamedMigration[];
  /** How long a statement of a running replica may take. */
  readonly timeoutMs: number;
  /** Ends the waiting for locks. */
  readonly signal: AbortSignal | undefined;
}

/** Queries that come after a migration wait behind it, so it does not wait for a lock for longer. */
const maxLockWaitMs = 2000;
/** Pauses between two attempts, in which those queries are answered. */
const [firstPauseMs, lastPauseMs] = [2000, 30_000];
const lookEveryMs = 500;
const tellEveryMs = 60_000;

/** A migration that runs. */
interface Running {
  readonly name: string;
  readonly pid: number;
  readonly isTransactional: boolean;
  /** Transactions that it was last seen waiting for. */
  holders: readonly Holder[];
}

/** A transaction that holds a lock, in the words of the log. PostgreSQL shows all of it only to some roles. */
interface Holder {
  readonly pid: number;
  readonly user: string | null;
  readonly application: string | null;
  readonly client: string | null;
  readonly state: string | null;
  readonly transactionSeconds: number | null;
}

/**
 * Applies missing migrations. A migration that gets no lock within moments, because a long transaction or `pg_dump` has
 * one, gives up those that it has and is tried again after a pause, for as long as it takes. A statement that waited
 * for it, such as ALTER TABLE, would make every later query of its table wait, too.
 * @throws what a migration fails with
 */
export async function applyMigrations(options: MigrationOptions, logger: Logger): Promise<void> {
  const lockWaitMs = Math.ceil(Math.min(maxLockWaitMs, options.timeoutMs / 2));
  let running: Running | undefined;
  const migrationsList = options.migrations.map(({ name, class: Given }) => ({
    name,
    class: class extends Given {
      override async up(): Promise<void> {
        const isTransactional = this.isTransactional();
        // SQL as text: a setting of the transaction. Indexes that are built outside of one make no query wait.
        if (isTransactional) await this.execute(`set local lock_timeout = ${lockWaitMs}`);
        const [backend] = await this.execute("select pg_backend_pid() as pid");
        running = { name, pid: Number(backend?.["pid"]), isTransactional, holders: [] };
        await super.up();
      }
    },
  }));
  const orm = await MikroORM.init({
    ...options.orm,
    migrations: { ...options.orm.migrations, migrationsList },
  });
  const ended = new AbortController();
  const watching = watchLocks(options.url, () => running, ended.signal, logger);
  try {
    orm.migrator.on("migrated", ({ name }) => logger.info({ migration: name }, "applied a migration"));
    for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, lastPauseMs)) {
      try {
        return void (await orm.migrator.up());
      } catch (error) {
        if (!isLockUnavailable(error)) throw error;
        logger.warn({ migration: running?.name, heldBy: running?.holders }, waitsFor(pauseMs));
        running = undefined;
        await delay(pauseMs, undefined, { signal: options.signal });
      }
    }
  } finally {
    ended.abort();
    await watching;
    await orm.close(true);
  }
}

function waitsFor(pauseMs: number): string {
  return (
    "a migration got no lock on a table, because other transactions hold it; queries go on, and it is tried again in " +
    `${pauseMs / 1000} s. Wait for these transactions (pg_dump, long queries), or end them with pg_terminate_backend(pid)`
  );
}

/** Looks what a migration waits for, which the server tells only meanwhile. A failure matters to the log alone. */
async function watchLocks(
  url: string,
  running: () => Running | undefined,
  ended: AbortSignal,
  logger: Logger,
): Promise<void> {
  let client: Client | undefined;
  let toldAt = -Infinity;
  try {
    for (;;) {
      await delay(lookEveryMs, undefined, { signal: ended });
      const migration = running();
      if (!migration) continue;
      if (!client) {
        client = new Client(driverOptions(url));
        client.on("error", () => {});
        await client.connect();
      }
      // SQL as text: PostgreSQL's own tables.
      const { rows } = await client.query<Holder>(
        `select pid, usename as "user", application_name as application, host(client_addr) as client, state,
           extract(epoch from clock_timestamp() - xact_start)::int as "transactionSeconds"
         from unnest(pg_blocking_pids(${migration.pid})) as blocking (pid) left join pg_stat_activity using (pid)`,
      );
      if (rows.length === 0) continue;
      migration.holders = rows;
      if (migration.isTransactional || performance.now() - toldAt < tellEveryMs) continue;
      toldAt = performance.now();
      logger.warn(
        { migration: migration.name, heldBy: rows },
        "a migration waits for the end of other transactions; queries go on. Wait for these transactions (pg_dump, " +
          "long queries), or end them with pg_terminate_backend(pid)",
      );
    }
  } catch (error) {
    if (!ended.aborted) logger.debug({ err: error }, "could not look what a migration waits for");
  } finally {
    await client?.end().catch(() => {});
  }
}
