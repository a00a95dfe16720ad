import { startEmbeddedPostgres } from "../../src/database/embedded/embedded-postgres.ts";

/**
 * Replaces the service in tests that kill it: starts the embedded server on the folder given as argument, prints its
 * address as one line of JSON, and waits. SIGTERM stops it cleanly. An error is printed in the same form.
 */
const dataDir = process.argv[2];
const print = (line: string) => process.stderr.write(`${line}\n`);
try {
  const started = performance.now();
  await using server = await startEmbeddedPostgres({
    dataDir,
    log: { debug: () => {}, info: print, warn: print, error: print },
  });
  const terminated = new Promise((resolve) => process.once("SIGTERM", resolve));
  const { url, version } = server;
  const startedInMs = Math.round(performance.now() - started);
  console.log(JSON.stringify({ url, version, dataDir: server.dataDir, startedInMs }));
  await terminated;
} catch (error) {
  console.log(JSON.stringify({ error: error instanceof Error ? error.message : String(error) }));
  process.exitCode = 1;
}
