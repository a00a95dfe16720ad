import { MikroORM, type SqlEntityManager } from "@mikro-orm/postgresql";
import { Client, type Pool, type PoolClient } from "pg";
import type { Logger } from "../logger.ts";
import { migrations } from "./migrations/index.ts";
import { PostgresSocket } from "./postgres-socket.ts";
import { driverOptions, ormOptions } from "./orm-options.ts";

/** The open database. */
export interface Database extends AsyncDisposable {
  /** The global EntityManager, to be forked for each request. */
  readonly em: SqlEntityManager;
  /** MikroORM's own connection pool, for statements where bytes or round trips count. */
  readonly pool: Pool;
  /** The server's version, such as `17.2`. */
  readonly version: string;
  /** Whether every migration that this build knows has been applied. */
  isMigrated(): Promise<boolean>;
}

/** How {@link openDatabase} uses the server. */
export interface DatabaseOptions {
  readonly poolSize: number;
  /** Seconds after which an unreachable or silent server counts as unavailable. */
  readonly timeoutSeconds: number;
}

/** Any number, the same in every replica: who holds this advisory lock applies the migrations. */
const migrationLock = 7_263_501;

/**
 * Connects, and applies the migrations that are missing; replicas that start together do this one after another.
 * @throws {Error} when the server cannot be reached, is older than PostgreSQL 14, or a migration fails
 */
export async function openDatabase(url: string, options: DatabaseOptions, logger: Logger): Promise<Database> {
  const timeoutMs = options.timeoutSeconds * 1000;
  const version = await migrate(url, timeoutMs, logger);
  const orm = await MikroORM.init({
    ...ormOptions(url, options.poolSize),
    driverOptions: {
      ...driverOptions(url),
      connectionTimeoutMillis: timeoutMs,
      query_timeout: timeoutMs,
      keepAlive: true,
      stream: () => new PostgresSocket(),
      // The server's default is made for spinning disks: with it the planner reads whole tables where an index will do.
      onConnect: async (client: PoolClient) => await client.query("set random_page_cost = 1.1"),
    },
    logger: (message) => logger.warn(message),
    debug: false,
  });
  const pool = await orm.em.getConnection().getNativeClient();
  return {
    em: orm.em,
    pool,
    version,
    isMigrated: async () => {
      const { rows } = await pool.query<{ name: string }>("select name from schema_migration");
      const applied = new Set(rows.map(({ name }) => name));
      return migrations.every(({ name }) => applied.has(name));
    },
    [Symbol.asyncDispose]: async () => await orm.close(true),
  };
}

/** Applies what is missing under an advisory lock, and returns the server's version. */
async function migrate(url: string, timeoutMs: number, logger: Logger): Promise<string> {
  const lock = new Client({ connectionString: url, connectionTimeoutMillis: timeoutMs });
  lock.on("error", (error) => logger.warn({ err: error }, "lost the connection that holds the migration lock"));
  await lock.connect().catch((cause: unknown) => {
    throw new Error(`PostgreSQL at ${new URL(url).host} cannot be used: ${reasonOf(cause)}`, { cause });
  });
  try {
    const { rows } = await lock.query<{ server_version: string }>("show server_version");
    const version = rows[0]?.server_version.split(" ", 1)[0] ?? "unknown";
    if (Number.parseInt(version, 10) < 14) throw new Error(`PostgreSQL 14 or newer is needed; this one is ${version}`);
    // Released with the transaction, so that it also works through a transaction-pooling proxy.
    await lock.query("begin");
    await lock.query("select pg_advisory_xact_lock($1)", [migrationLock]);
    const orm = await MikroORM.init(ormOptions(url, 2));
    try {
      for (const { name } of await orm.migrator.up()) logger.info({ migration: name }, "applied a migration");
    } finally {
      await orm.close(true);
    }
    await lock.query("commit");
    return version;
  } finally {
    await lock.end();
  }
}

/** A host with several addresses fails with one error for each, and no message of its own. */
function reasonOf(error: unknown): string {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  return first instanceof Error ? first.message : String(first);
}
