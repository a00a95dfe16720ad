import { readConfig } from "../../src/settings/config.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { startServer, type Server } from "../../src/server.ts";
import { createTestDatabase } from "./test-database.ts";

/** A running service with a database of its own. */
export interface TestService extends AsyncDisposable {
  readonly server: Server;
  readonly url: string;
  readonly databaseUrl: string;
}

/** Starts the whole service on a free port with a database in which nothing is stored. */
export async function startService(env: Readonly<Record<string, string>> = {}): Promise<TestService> {
  await using opening = new AsyncDisposableStack();
  const databaseUrl = env.DATABASE_URL ?? opening.use(await createTestDatabase()).url;
  const defaults = { HOST: "127.0.0.1", PORT: "0", LOG_LEVEL: "silent", DATABASE_URL: databaseUrl };
  // The end of a test does not wait for what it has left open, such as a player that has heard enough.
  const config = readConfig({ ...defaults, SHUTDOWN_GRACE_SECONDS: "1", ...env });
  const server = opening.use(await startServer(config, createLogger(config)));
  const open = opening.move();
  return { server, url: server.url, databaseUrl, [Symbol.asyncDispose]: async () => await open.disposeAsync() };
}
