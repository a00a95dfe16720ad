import { expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { migrations } from "../src/migrations/index.ts";
import { earlierMigrations, migrateUpTo } from "./support/older-database.ts";
import { programEnv } from "./support/service-process.ts";
import { createEmptyDatabase } from "./support/test-database.ts";

const command = join(import.meta.dirname, "../src/migrate-command.js");
const run = async (env: Record<string, string>) =>
  await promisify(execFile)(process.execPath, [command], {
    env: { ...programEnv, LOG_LEVEL: "silent", ...env },
  });

it("migrates a database before the service starts, and does nothing the second time", async () => {
  await using database = await createEmptyDatabase();
  await migrateUpTo(database.url, earlierMigrations[0]!);
  for (let time = 0; time < 2; time++) {
    const { stdout } = await run({ DATABASE_URL: database.url });
    expect(stdout).toBe("The database has all migrations of this release.\n");
  }
  const client = new Client({ connectionString: database.url });
  await client.connect();
  const { rows } = await client.query("select name from schema_migration order by id");
  await client.end();
  expect(rows.map(({ name }) => name)).toEqual(migrations.map(({ name }) => name));
});

it("says what is missing", async () => {
  await expect(run({})).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining("DATABASE_URL is required") });
});
