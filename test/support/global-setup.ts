import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase } from "../../src/database/database.ts";
import { startEmbeddedPostgres } from "../../src/database/embedded/embedded-postgres.ts";
import { tables } from "../../src/orm-options.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { administer, createEmptyDatabase } from "./test-database.ts";

const logger = createLogger({ logLevel: "warn" });

/** Starts what the whole test run shares; `global-teardown.ts` ends it. */
export default async function globalSetup(): Promise<void> {
  await using starting = new AsyncDisposableStack();
  starting.use(await startTestPostgres({ fsync: false }));
  // Tests start the service's programs hundreds of times; each is compiled once.
  process.env.NODE_COMPILE_CACHE = starting.use(await makeFolder()).path;
  (globalThis as { testResources?: AsyncDisposable }).testResources = starting.move();
}

/**
 * Starts a PostgreSQL, or uses `TEST_POSTGRES_URL`, and makes the database that each test file gets a copy of. Without
 * `fsync`, commits are not on the disk when they are answered, which only a test that cuts the machine's power would see.
 */
export async function startTestPostgres({ fsync }: { readonly fsync: boolean }): Promise<AsyncDisposable> {
  await using starting = new AsyncDisposableStack();
  if (!process.env.TEST_POSTGRES_URL) {
    const { path: dataDir } = starting.use(await makeFolder());
    // If run as root, PostgreSQL runs as another user, who must be able to enter.
    await chmod(dataDir, 0o711);
    process.env.TEST_POSTGRES_URL = starting.use(await startEmbeddedPostgres({ dataDir, log: logger })).url;
    if (!fsync) {
      await administer("alter system set fsync = off");
      await administer("select pg_reload_conf()");
    }
  }
  const template = starting.use(await createEmptyDatabase());
  await (await openDatabase(template.url, { poolSize: 1, timeoutSeconds: 60, tables }, logger))[Symbol.asyncDispose]();
  process.env.TEST_TEMPLATE_DATABASE = template.name;
  return starting.move();
}

async function makeFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "web-user-music-test-"));
  return {
    path,
    [Symbol.asyncDispose]: async () => await rm(path, { recursive: true, force: true }),
  };
}
