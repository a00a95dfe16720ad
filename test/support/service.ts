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

/** Starts the whole service on a free port with an empty database. */
export async function startService(env: Readonly<Record<string, string>> = {}): Promise<TestService> {
  await using opening = new AsyncDisposableStack();
  const databaseUrl = env.DATABASE_URL ?? opening.use(await createTestDatabase()).url;
  const config = readConfig({ HOST: "127.0.0.1", PORT: "0", LOG_LEVEL: "silent", DATABASE_URL: databaseUrl, ...env });
  const server = opening.use(await startServer(config, createLogger(config)));
  const open = opening.move();
  return { server, url: server.url, databaseUrl, [Symbol.asyncDispose]: async () => await open.disposeAsync() };
}
