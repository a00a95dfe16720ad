import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { MikroORM } from "@mikro-orm/postgresql";
import { Client } from "pg";
import { openDatabase, type Database } from "../src/database/database.ts";
import { migrations } from "../src/migrations/index.ts";
import { ormOptions, tables } from "../src/orm-options.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { migrateUpTo } from "./support/older-database.ts";
import { createEmptyDatabase, type TestDatabase } from "./support/test-database.ts";

describe("the database", () => {
  const logger = createLogger({ logLevel: "silent" });
  let empty: TestDatabase;

  beforeAll(async () => {
    empty = await createEmptyDatabase();
  });

  afterAll(async () => {
    await empty[Symbol.asyncDispose]();
  });

  it("is migrated once by replicas that start together, and then has exactly the tables of the entities", async () => {
    const replicas = await Promise.all(
      Array.from(
        { length: 4 },
        async () => await openDatabase(empty.url, { poolSize: 2, timeoutSeconds: 10, tables }, logger),
      ),
    );
    await using open = new AsyncDisposableStack();
    replicas.forEach((replica: Database) => open.use(replica));
    expect(await replicas[0]!.isMigrated()).toBe(true);

    const orm = await MikroORM.init(ormOptions(empty.url, 2));
    open.defer(async () => await orm.close(true));
    expect(await orm.migrator.checkSchema()).toBe(false);
    const drift = await orm.schema.getUpdateSchemaSQL({ wrap: false, safe: false });
    expect(drift.split("\n").filter((line) => line && !line.includes("schema_migration"))).toEqual([]);
  });

  it("stores MP3s as they are, and vacuums them when a hundredth is dead", async () => {
    await using database = await openDatabase(empty.url, { poolSize: 2, timeoutSeconds: 10, tables }, logger);
    const { rows } = await database.pool.query(
      `select attstorage as storage, toast.reloptions as vacuum from pg_class chunks
       join pg_class toast on toast.oid = chunks.reltoastrelid
       join pg_attribute on attrelid = chunks.oid and attname = 'bytes' where chunks.oid = 'mp3_chunk'::regclass`,
    );
    expect(rows).toEqual([{ storage: "e", vacuum: ["autovacuum_vacuum_scale_factor=0.01"] }]);
  });

  it("logs no counts of rate limits: their commits do not wait for the disk", async () => {
    await using database = await openDatabase(empty.url, { poolSize: 2, timeoutSeconds: 10, tables }, logger);
    const { rows } = await database.pool.query(
      "select relname as table from pg_class where relpersistence = 'u' and relkind = 'r'",
    );
    expect(rows).toEqual([{ table: "rate_limit" }]);
  });

  it("keeps the rights of earlier tokens: those with WRITE get MANAGE", async () => {
    await using before = await createEmptyDatabase();
    const last = migrations.findIndex(({ name }) => name.endsWith("least-privilege"));
    await migrateUpTo(before.url, migrations[last - 1]!.name);
    const client = new Client({ connectionString: before.url });
    await client.connect();
    await client.query(
      `insert into app_user (name) values ('Ann');
       insert into access_token (owner_id, sha256, name) select id, 'a', 'first' from app_user;
       insert into access_token (owner_id, sha256, name, scopes) select id, 'b', 'reader', '{READ}' from app_user;
       insert into access_token (owner_id, sha256, name, scopes) select id, 'c', 'writer', '{WRITE}' from app_user`,
    );
    await client.end();
    await using migrated = await openDatabase(before.url, { poolSize: 2, timeoutSeconds: 10, tables }, logger);
    const { rows } = await migrated.pool.query("select name, scopes, parent_id from access_token order by sha256");
    expect(rows).toEqual([
      { name: "first", scopes: ["READ", "WRITE", "MANAGE"], parent_id: null },
      { name: "reader", scopes: ["READ"], parent_id: null },
      { name: "writer", scopes: ["WRITE", "MANAGE"], parent_id: null },
    ]);
  });

  it("applies the parameters of the URL, such as `sslmode`", async () => {
    const url = `${empty.url}?application_name=told-by-url`;
    await using replica = await openDatabase(url, { poolSize: 2, timeoutSeconds: 10, tables }, logger);
    const { rows } = await replica.pool.query("show application_name");
    expect(rows).toEqual([{ application_name: "told-by-url" }]);
  });

  it("says what is wrong if it cannot be reached", async () => {
    await expect(
      openDatabase("postgresql://nobody@127.0.0.1:1/nothing", { poolSize: 2, timeoutSeconds: 10, tables }, logger),
    ).rejects.toThrow("ECONNREFUSED");
  });
});
