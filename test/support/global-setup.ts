import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "../../src/database/embedded/embedded-postgres.ts";
import { createLogger } from "../../src/telemetry/logger.ts";

/** Starts one PostgreSQL for the whole test run, in a folder that the run removes; or uses `TEST_POSTGRES_URL`. */
export default async function globalSetup(): Promise<void> {
  if (process.env.TEST_POSTGRES_URL) return;
  const resources = new AsyncDisposableStack();
  const dataDir = await mkdtemp(join(tmpdir(), "web-user-music-test-"));
  resources.defer(async () => await rm(dataDir, { recursive: true, force: true }));
  // If run as root, PostgreSQL runs as another user, who must be able to enter.
  await chmod(dataDir, 0o711);
  const postgres = resources.use(await startEmbeddedPostgres({ dataDir, log: createLogger({ logLevel: "warn" }) }));
  process.env.TEST_POSTGRES_URL = postgres.url;
  (globalThis as { testResources?: AsyncDisposable }).testResources = resources;
}
