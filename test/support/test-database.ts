import { Client } from "pg";
import { openDatabase, type Database } from "../../src/database/database.ts";
import { tables } from "../../src/orm-options.ts";
import { createLogger } from "../../src/telemetry/logger.ts";

/** A database of a test file's own on the server that the test run has started. */
export interface TestDatabase extends AsyncDisposable {
  readonly name: string;
  readonly url: string;
}

/** Creates a database with the service's tables, and nothing in them; disposing of it drops it. */
export async function createTestDatabase(): Promise<TestDatabase> {
  return await createDatabase(`template ${process.env.TEST_TEMPLATE_DATABASE}`);
}

/**
 * Opens a database with the service's tables, and nothing in them, for a test of what the service also does by itself:
 * no service is beside it. Disposing of it drops it.
 */
export async function openTestDatabase(): Promise<Database & Pick<TestDatabase, "url">> {
  await using opening = new AsyncDisposableStack();
  const { url } = opening.use(await createTestDatabase());
  const options = { poolSize: 5, timeoutSeconds: 60, tables };
  const database = opening.use(await openDatabase(url, options, createLogger({ logLevel: "silent" })));
  const open = opening.move();
  return { ...database, url, [Symbol.asyncDispose]: async () => await open.disposeAsync() };
}

/** Creates a database without tables; disposing of it drops it. */
export async function createEmptyDatabase(): Promise<TestDatabase> {
  return await createDatabase("");
}

async function createDatabase(options: string): Promise<TestDatabase> {
  const name = `test_${crypto.randomUUID().replaceAll("-", "")}`;
  await administer(`create database ${name} ${options}`);
  const url = new URL(process.env.TEST_POSTGRES_URL!);
  url.pathname = `/${name}`;
  return {
    name,
    url: url.href,
    [Symbol.asyncDispose]: async () => await administer(`drop database ${name} with (force)`),
  };
}

/** Runs a statement as the superuser of the server. */
export async function administer(statement: string): Promise<void> {
  const server = process.env.TEST_POSTGRES_URL;
  if (!server) throw new Error("Run the tests with npm test: it starts the PostgreSQL that they need");
  const client = new Client({ connectionString: server });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
