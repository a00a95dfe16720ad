import { MikroORM, type Options, type SqlEntityManager } from "@mikro-orm/postgresql";
import { sql } from "kysely";
import { setTimeout as delay } from "node:timers/promises";
import { Client, Pool, TypeOverrides, types, type ClientBase } from "pg";
import type { Logger } from "pino";
import { applyMigrations, type NamedMigration } from "./apply-migrations.ts";
import { driverOptions } from "./driver-options.ts";
import { PooledPostgres, setUp, type OnStatementEnd } from "./postgres-dialect.ts";
import { PostgresSocket } from "./postgres-socket.ts";
import { address, UnusableDatabaseError, unusableDatabase } from "./start-failures.ts";

/** The open database. */
export interface Database extends AsyncDisposable {
  /** The global EntityManager. Fork it for each request. */
  readonly em: SqlEntityManager;
  /** The connections of {@link em}, for statements that neither it nor its query builder can express. */
  readonly pool: Pool;
  /** The server's version, such as `17.2`. */
  readonly version: string;
  /** Its address: `host:port`, or the folder of its Unix socket. */
  readonly address: string;
  /** Whether all migrations of this build have been applied. */
  isMigrated(): Promise<boolean>;
  /** Whether the database is read-only now, as after a failover to a standby. */
  isReadOnly(): Promise<boolean>;
}

/** Options of {@link openDatabase}. */
interface DatabaseOptions {
  readonly poolSize: number;
  /** Seconds after which a server that does not answer counts as unavailable. */
  readonly timeoutSeconds: number;
  readonly tables: Tables;
  /** Is told about each statement of MikroORM and its query builder. */
  readonly onStatementEnd?: OnStatementEnd | undefined;
  /** Ends the waiting for another process that migrates, and for locks that a migration needs. */
  readonly signal?: AbortSignal;
}

/** The tables of the service, passed in by the composition root. */
export interface Tables {
  /** MikroORM's options for this database. */
  readonly ormOptions: (url: string, poolSize: number) => Options;
  /** All migrations of this build. */
  readonly migrations: readonly NamedMigration[];
}

/** Key of the advisory lock for applying migrations. It is arbitrary, and the same in every replica. */
const migrationLock = 7_263_501;

/** The default is for spinning disks: with it, the planner reads whole tables although an index would do. */
const randomPageCost = 1.1;

/**
 * Session settings that the service relies on, whatever the settings of the server, database or role: the formats of
 * dates and numbers, timeouts in the server for when nobody waits any more, and the costs of the planner. A pooling proxy
 * in between has to make them itself; see `docs/scale.md`.
 */
function sessionSettings(timeoutMs: number): string {
  return [
    "set datestyle = 'ISO, MDY'",
    "set intervalstyle = 'postgres'",
    "set timezone = 'UTC'",
    "set extra_float_digits = 1",
    "set standard_conforming_strings = on",
    `set statement_timeout = ${timeoutMs}`,
    // If a replica falls silent within a transaction, its locks are free before statements that wait for them time out.
    `set idle_in_transaction_session_timeout = ${Math.ceil(timeoutMs / 2)}`,
    // Otherwise the connections of a machine that is gone count for two hours.
    "set tcp_keepalives_idle = 60",
    "set tcp_keepalives_interval = 10",
    "set tcp_keepalives_count = 3",
    `set random_page_cost = ${randomPageCost}`,
  ].join("; ");
}

/**
 * Makes the planner's costs the default of the current role in the current database. Unlike what a session sets, they
 * also hold on the connections that a pooling proxy opens.
 */
const roleSettings = `do $$ begin
  execute format('alter role %I in database %I set random_page_cost = ${randomPageCost}', current_user, current_database());
  exception when others then null; -- not allowed, or another replica does it now
end $$`;

/**
 * Connects and applies missing migrations. Replicas that start together do this one after the other.
 * @throws {UnusableDatabaseError} if the server is unreachable, older than PostgreSQL 14, read-only or has an encoding
 * other than UTF-8, or if a migration fails
 */
export async function openDatabase(url: string, options: DatabaseOptions, logger: Logger): Promise<Database> {
  const found = await migrate(url, options, logger);
  const pool = openPool(url, options, logger);
  const orm = await MikroORM.init({
    ...options.tables.ormOptions(url, options.poolSize),
    driverOptions: new PooledPostgres(pool, options.onStatementEnd),
    ensureDatabase: false,
    logger: (message) => logger.warn(message),
    debug: false,
  });
  return {
    em: orm.em,
    pool,
    ...found,
    isMigrated: async () => {
      const applied = await orm.em
        .getKysely<{ schema_migration: { name: string } }>()
        .selectFrom("schema_migration")
        .select("name")
        .execute();
      const names = new Set(applied.map(({ name }) => name));
      return options.tables.migrations.every(({ name }) => names.has(name));
    },
    isReadOnly: async () => {
      const setting = sql<boolean>`current_setting('transaction_read_only')::boolean`;
      const { isReadOnly } = await orm.em
        .getKysely<object>()
        .selectNoFrom(setting.as("isReadOnly"))
        .executeTakeFirstOrThrow();
      return isReadOnly;
    },
    [Symbol.asyncDispose]: async () => await orm.close(true),
  };
}

const parsedTypes = new TypeOverrides();
// All 64-bit integers in the database are smaller than 2^53.
parsedTypes.setTypeParser(types.builtins.INT8, Number);

/** Connections that are made when they are needed, with the settings of a session. */
export function openPool(
  url: string,
  { poolSize, timeoutSeconds }: Pick<DatabaseOptions, "poolSize" | "timeoutSeconds">,
  logger: Logger,
): Pool {
  const timeoutMs = timeoutSeconds * 1000;
  const pool = new Pool({
    ...driverOptions(url),
    max: poolSize,
    connectionTimeoutMillis: timeoutMs,
    // This client-side timeout is for a server that does not respond. A working server ends the statement itself,
    // earlier.
    query_timeout: timeoutMs + 1000,
    keepAlive: true,
    stream: () => new PostgresSocket(),
    types: parsedTypes,
    onConnect: async (client: ClientBase) => await setUp(client, sessionSettings(timeoutMs)),
  });
  // Without a listener, a lost connection would end the process.
  pool.on("error", (error) => logger.warn({ err: error }, "lost an idle connection to the database"));
  pool.on("connect", (client) =>
    client.on("error", (error) => logger.warn({ err: error }, "lost a connection to the database")),
  );
  return pool;
}

/** Applies missing migrations under an advisory lock, and returns facts about the server. */
async function migrate(
  url: string,
  { timeoutSeconds, tables, signal }: DatabaseOptions,
  logger: Logger,
): Promise<Pick<Database, "version" | "address">> {
  const lock = new Client({ ...driverOptions(url), connectionTimeoutMillis: timeoutSeconds * 1000 });
  lock.on("error", (error) => logger.warn({ err: error }, "lost the connection that holds the migration lock"));
  await lock.connect().catch((cause: unknown) => {
    throw unusableDatabase(lock, cause);
  });
  try {
    const { version, schema } = await requireUsableServer(lock);
    // SQL as text: defaults of a role.
    await lock.query(roleSettings);
    const waiting = setTimeout(() => logger.warn("waiting for another process that applies migrations"), 5000);
    await takeMigrationLock(lock, signal).finally(() => clearTimeout(waiting));
    const { migrations: options = {}, ...others } = tables.ormOptions(url, 2);
    // MikroORM 7.2 looks for its table in `public`, but creates it according to the search path.
    const tableName = `${schema}.${options.tableName}`;
    // Developers create migrations from the snapshot. Applying them changes no file.
    const orm = { ...others, migrations: { ...options, tableName, snapshot: false } };
    const { migrations } = tables;
    await applyMigrations({ url, orm, migrations, timeoutMs: timeoutSeconds * 1000, signal }, logger);
    // SQL as text: releases the lock.
    await lock.query("commit");
    return { version, address: address(lock) };
  } catch (cause) {
    throw unusableDatabase(lock, cause);
  } finally {
    await lock.end();
  }
}

const lockRetryMs = 200;

/**
 * Asks for the lock until it is free. It ends with its transaction, so that it works through a pooling proxy, too.
 * `create index concurrently`, in the process that has the lock, waits for the end of each transaction that has a snapshot at
 * that moment. So each attempt has a transaction of its own, and does not wait. (A statement with parameters would keep its
 * snapshot afterwards.)
 */
async function takeMigrationLock(client: Client, signal: AbortSignal | undefined): Promise<void> {
  for (;;) {
    // SQL as text: an advisory lock.
    await client.query(
      "begin isolation level read committed; set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0",
    );
    const { rows } = await client.query<{ isTaken: boolean }>(
      `select pg_try_advisory_xact_lock(${migrationLock}) as "isTaken"`,
    );
    if (rows[0]?.isTaken) return;
    // SQL as text: so that the index can be created.
    await client.query("rollback");
    await delay(lockRetryMs, undefined, { signal });
  }
}

/** Returns the server's version and the schema in which tables are created. */
async function requireUsableServer(client: Client): Promise<{ version: string; schema: string }> {
  // SQL as text: MikroORM is not open yet.
  const { rows } = await client.query<{
    version: string;
    encoding: string;
    schema: string | null;
    isReadOnly: boolean;
  }>(
    `select current_setting('server_version') as version, current_setting('server_encoding') as encoding,
            current_schema() as schema,
            current_setting('transaction_read_only')::boolean as "isReadOnly"`,
  );
  const { version = "unknown", encoding, schema = null, isReadOnly } = rows[0] ?? {};
  const number = version.split(" ", 1)[0]!;
  if (Number.parseInt(number, 10) < 14) {
    throw new UnusableDatabaseError(
      `The service needs PostgreSQL 14 or newer; the one at ${address(client)} is ${number}.`,
    );
  }
  if (encoding !== "UTF8") {
    throw new UnusableDatabaseError(
      `The database ${client.database} has the encoding ${encoding}, which cannot store most of the world's letters. ` +
        `Create one with: create database "${client.database}" encoding 'UTF8' template template0;`,
    );
  }
  if (isReadOnly) throw Object.assign(new Error("it does not accept writes"), { code: "25006" });
  if (schema === null) throw Object.assign(new Error("its search path names no schema"), { code: "3F000" });
  return { version: number, schema };
}
