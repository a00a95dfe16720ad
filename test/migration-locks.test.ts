import { describe, expect, it } from "@jest/globals";
import { Migration } from "@mikro-orm/migrations";
import { Client } from "pg";
import { pino } from "pino";
import type { NamedMigration } from "../src/database/apply-migrations.ts";
import { openDatabase } from "../src/database/database.ts";
import { tables } from "../src/orm-options.ts";
import { ApiClient } from "./support/api-client.ts";
import { startService } from "./support/service.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";

class AlterUsers extends Migration {
  override up(): void {
    this.addSql("create table before_it (id int)");
    this.addSql("alter table app_user add column shoe_size int null");
  }
}

class IndexUsers extends Migration {
  override isTransactional(): boolean {
    return false;
  }

  override up(): void {
    this.addSql("drop index concurrently if exists user_name");
    this.addSql("create index concurrently user_name on app_user (name)");
  }
}

/** Ends in a deadlock at its first attempt. */
class Deadlocked extends Migration {
  static attempts = 0;

  override up(): void {
    Deadlocked.attempts++;
    this.addSql("alter table app_user add column shoe_size int null");
    if (Deadlocked.attempts === 1) this.addSql("do $$ begin raise exception using errcode = '40P01'; end $$");
  }
}

class Faulty extends Migration {
  override up(): void {
    this.addSql("alter table app_user add column no_such_type no_such_type null");
  }
}

type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string };

/** Applies one more migration, as the next release does. */
function migrate(url: string, added: NamedMigration["class"]) {
  const lines: LogLine[] = [];
  const logger = pino({ level: "debug" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const migrations = [...tables.migrations, { name: "99990101000000_next-release", class: added }];
  const options = { poolSize: 2, timeoutSeconds: 2, tables: { ...tables, migrations } };
  const ended = openDatabase(url, options, logger).then(
    async (database) => {
      const isMigrated = await database.isMigrated();
      await database[Symbol.asyncDispose]();
      return isMigrated;
    },
    (error: unknown) => error,
  );
  return { ended, about: (text: string) => lines.filter(({ msg }) => msg.includes(text)) };
}

/** A connection in a transaction that has read the table, as `pg_dump` does. */
async function readerOf(url: string) {
  const client = new Client({ connectionString: url, application_name: "pg_dump" });
  await client.connect();
  await client.query("begin isolation level repeatable read; select from app_user");
  const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  return { pid: rows[0]!.pid, [Symbol.asyncDispose]: async () => await client.end() };
}

describe("a migration, while another transaction has a lock on its table", () => {
  it("lets the queries of running replicas go on, says who has the lock, and is applied afterwards", async () => {
    await using database = await createTestDatabase();
    await using service = await startService({ DATABASE_URL: database.url, DATABASE_TIMEOUT_SECONDS: "5" });
    const client = new ApiClient(service.url);
    const ann = await client.createUser("Ann");
    const reader = await readerOf(database.url);
    const { ended, about } = migrate(database.url, AlterUsers);
    let answers = 0;
    while (about("got no lock").length < 2) {
      const { data } = await client.run("{ me { name } }", {}, ann);
      expect(data).toEqual({ me: { name: "Ann" } });
      answers++;
    }
    expect(answers).toBeGreaterThan(3);
    for (const line of about("got no lock")) {
      expect(line).toMatchObject({
        migration: "99990101000000_next-release",
        heldBy: [{ pid: reader.pid, application: "pg_dump", state: "idle in transaction" }],
        msg: expect.stringContaining("pg_terminate_backend"),
      });
    }
    const { pool } = service.server.database;
    // What an attempt has done is undone, and so are its locks.
    expect((await pool.query("select to_regclass('before_it') as made")).rows).toEqual([{ made: null }]);
    await reader[Symbol.asyncDispose]();
    expect(await ended).toBe(true);
    expect(about("applied a migration")).toMatchObject([{ migration: "99990101000000_next-release" }]);
    await pool.query("select shoe_size from app_user, before_it");
  });

  it("builds an index beside it, and says what it waits for", async () => {
    await using database = await createTestDatabase();
    const reader = await readerOf(database.url);
    const { ended, about } = migrate(database.url, IndexUsers);
    const [line] = await until(
      () => about("waits for the end of other transactions"),
      (found) => found.length > 0,
    );
    expect(line).toMatchObject({ heldBy: [{ pid: reader.pid, application: "pg_dump" }] });
    await reader[Symbol.asyncDispose]();
    expect(await ended).toBe(true);
    expect(about("got no lock")).toEqual([]);
  });

  it("is tried again after a deadlock", async () => {
    await using database = await createTestDatabase();
    const { ended, about } = migrate(database.url, Deadlocked);
    expect(await ended).toBe(true);
    expect(Deadlocked.attempts).toBe(2);
    expect(about("got no lock")).toHaveLength(1);
  });

  it("is not tried again if it is wrong", async () => {
    await using database = await createTestDatabase();
    const { ended } = migrate(database.url, Faulty);
    expect(String(await ended)).toContain('type "no_such_type" does not exist');
  });
});
