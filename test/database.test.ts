import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { MikroORM } from "@mikro-orm/postgresql";
import { openDatabase, type Database } from "../src/database/database.ts";
import { ormOptions } from "../src/database/orm-options.ts";
import { createLogger } from "../src/logger.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";

describe("the database", () => {
  const logger = createLogger({ logLevel: "silent" });
  let empty: TestDatabase;

  beforeAll(async () => {
    empty = await createTestDatabase();
  });

  afterAll(async () => {
    await empty[Symbol.asyncDispose]();
  });

  it("is migrated once by replicas that start together, and then has exactly the tables of the entities", async () => {
    const replicas = await Promise.all(
      Array.from({ length: 4 }, async () => await openDatabase(empty.url, { poolSize: 2, timeoutSeconds: 10 }, logger)),
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

  it("heeds what the URL says beyond the server's address, such as `sslmode`", async () => {
    const url = `${empty.url}?application_name=told-by-url`;
    await using replica = await openDatabase(url, { poolSize: 2, timeoutSeconds: 10 }, logger);
    const { rows } = await replica.pool.query("show application_name");
    expect(rows).toEqual([{ application_name: "told-by-url" }]);
  });

  it("names what is wrong when it cannot be reached", async () => {
    await expect(
      openDatabase("postgresql://nobody@127.0.0.1:1/nothing", { poolSize: 2, timeoutSeconds: 10 }, logger),
    ).rejects.toThrow("ECONNREFUSED");
  });
});
