import { openDatabase } from "./database/database.ts";
import { tables } from "./orm-options.ts";
import { ConfigError } from "./settings/config.ts";
import { loadConfig } from "./settings/load-config.ts";
import { createLogger } from "./telemetry/logger.ts";

/** `npm run migrate`: applies missing migrations to the database in DATABASE_URL, before replicas of a release start. */
try {
  const config = await loadConfig(process.env);
  if (config.databaseUrl === undefined) throw new ConfigError("DATABASE_URL is required");
  const options = { poolSize: 2, timeoutSeconds: config.databaseTimeoutSeconds, tables };
  await using _database = await openDatabase(config.databaseUrl, options, createLogger(config));
  process.stdout.write("The database has all migrations of this release.\n");
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
