import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ReferenceKind } from "@mikro-orm/postgresql";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { openDatabase, type Database } from "../src/database/database.ts";
import { queryBuilder, statement } from "../src/database/query-builder.ts";
import { tables } from "../src/orm-options.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { User, type UserTables } from "../src/user/user.entity.ts";
import type { Kysely } from "kysely";
import { startDatabaseProxy, type DatabaseProxy } from "./support/database-proxy.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";

const source = join(import.meta.dirname, "..", "..", "src");

/** A statement that bypasses MikroORM, or that is text although the query builder could express it. */
const textSql =
  /\.query\b *[<(]|\bsql\.raw\b|\braw\(|\.execute\(\s*["'`]|\bsql(?:<[^`]*?>)?`[^`]*\b(?:select|insert|update|delete|with)\b/g;

/** Number of such statements in each file. */
const places = {
  "database/apply-migrations.ts": 3,
  "database/database.ts": 6,
  "database/postgres-dialect.ts": 2,
  "database/transaction.ts": 1,
  "limits/rate-limiter.ts": 1,
  "record/copy-query.ts": 1,
  "record/mp3-chunks.ts": 1,
  "upload/storage-room.ts": 5,
};

it("is written as text in a few places only, each with its reason", async () => {
  const found: Record<string, number> = {};
  const files = (await readdir(source, { recursive: true })).filter((file) => file.endsWith(".ts"));
  expect(files).toContain("user/create-user.ts");
  for (const file of files) {
    if (file.startsWith("migrations/")) continue;
    const text = await readFile(join(source, file), "utf8");
    for (const { index } of text.matchAll(textSql)) {
      found[file] = (found[file] ?? 0) + 1;
      const before = text.slice(0, index).split("\n").slice(-8).join("\n");
      expect({ file, before }).toMatchObject({ before: expect.stringContaining("// SQL as text: ") });
    }
  }
  expect(found).toEqual(places);
});

describe("the query builder", () => {
  let empty: TestDatabase;
  let proxy: DatabaseProxy;
  let database: Database;

  beforeAll(async () => {
    empty = await createTestDatabase();
    proxy = await startDatabaseProxy(empty.url);
    const options = { poolSize: 1, timeoutSeconds: 1, tables };
    database = await openDatabase(proxy.url, options, createLogger({ logLevel: "silent" }));
  });

  afterAll(async () => {
    await database[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await empty[Symbol.asyncDispose]();
  });

  const countUsers = async (): Promise<number> =>
    await database.em.transactional(async (em) => await em.count(User, {}));

  it("names every column of every entity after its property", () => {
    const db = queryBuilder<any>(database.em);
    let columns = 0;
    for (const { className, tableName, props } of database.em.getMetadata().getAll().values()) {
      for (const { name, kind, fieldNames } of props) {
        const column = kind === ReferenceKind.SCALAR ? name : `${name}Id`;
        expect(db.selectFrom(className).select(column).compile().sql).toBe(
          `select "${fieldNames[0]}" from "${tableName}"`,
        );
        columns += 1;
      }
    }
    expect(columns).toBeGreaterThan(50);
  });

  it("knows only what the entities have", () => {
    const db = queryBuilder<UserTables>(database.em);
    // @ts-expect-error: the property is createdAt.
    db.selectFrom("User").select("created_at");
    // @ts-expect-error: the entity is User.
    db.selectFrom("app_user");
    // @ts-expect-error: a reference is compared by its id.
    db.selectFrom("AccessToken").where("owner", "=", 1);
    // @ts-expect-error: a time is a Date.
    db.selectFrom("User").where("createdAt", ">", "2026-11-27");
    expect(db.selectFrom("AccessToken").where("ownerId", "=", 1).select("createdAt").compile().sql).toBe(
      'select "created_at" from "access_token" where "owner_id" = $1',
    );
  });

  it("gives times and large numbers as such, also in the rows of a CTE", async () => {
    const insertUser = statement((db: Kysely<UserTables>, { name, bytes }: { name: string; bytes: number }) =>
      db
        .with("made", (db) =>
          db.insertInto("User").values({ name, quotaBytes: bytes }).returning(["createdAt", "quotaBytes"]),
        )
        .selectFrom("made")
        .select(["createdAt", "quotaBytes"]),
    );
    for (const bytes of [2 ** 40, 0]) {
      const before = Date.now();
      const [made] = await insertUser(database.em, { name: "Ann", bytes });
      expect(made).toEqual({ createdAt: expect.any(Date), quotaBytes: bytes });
      expect(Math.abs(made!.createdAt.getTime() - before)).toBeLessThan(60_000);
    }
    const users = await database.em.fork().find(User, {}, { orderBy: { id: "asc" } });
    expect(users).toMatchObject([{ quotaBytes: 2 ** 40, createdAt: expect.any(Date) }, { quotaBytes: 0 }]);
  });

  it("refuses to make a statement of values that it cannot name", async () => {
    const broken = statement((db: Kysely<UserTables>, { ...user }: { name: string }) =>
      db.insertInto("User").values(user),
    );
    await expect(broken(database.em, { name: "Ann" })).rejects.toThrow("one by one");
  });

  it("gives a connection back on which no transaction could begin", async () => {
    const users = await countUsers();
    for (let time = 0; time < 3; time++) {
      proxy.lose("statement", 1);
      await expect(countUsers()).rejects.toThrow("Connection terminated");
      proxy.restore();
      expect(await countUsers()).toBe(users);
    }
  });

  it("closes a connection whose server has fallen silent", async () => {
    const users = await database.em.fork().count(User, {});
    proxy.silence();
    await expect(database.em.fork().count(User, {})).rejects.toThrow("timeout");
    proxy.restore();
    expect(await database.em.fork().count(User, {})).toBe(users);
  });

  const backend = async (): Promise<unknown> => (await database.pool.query("select pg_backend_pid() as id")).rows[0].id;

  it("closes the connection of a transaction whose statement took too long", async () => {
    const before = await backend();
    const sleep = database.em.transactional(async (em) => {
      await em.execute("select pg_sleep(30)");
    });
    await expect(sleep).rejects.toMatchObject({ code: "57014" });
    expect(await backend()).not.toBe(before);
  });

  it("keeps the connection of a single statement that took too long", async () => {
    const before = await backend();
    await expect(database.em.fork().execute("select pg_sleep(30)")).rejects.toMatchObject({ code: "57014" });
    expect(await backend()).toBe(before);
  });
});
