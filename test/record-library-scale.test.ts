import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openDatabase, type Database } from "../src/database/database.ts";
import { tables } from "../src/orm-options.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import type { Compilable } from "kysely";
import { queryBuilder } from "../src/database/query-builder.ts";
import { countQuery, pageQuery, type RecordFilter } from "../src/library/list-records.ts";
import type { RecordOrder } from "../src/library/record-cursor.ts";
import { createUser } from "../src/user/create-user.ts";
import { seedRecords } from "./support/seed-records.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";

describe("a library of 100,000 recordings", () => {
  let empty: TestDatabase;
  let database: Database;
  let ownerId: number;

  beforeAll(async () => {
    empty = await createTestDatabase();
    // On a busy machine, seeding takes long.
    database = await openDatabase(
      empty.url,
      { poolSize: 2, timeoutSeconds: 300, tables },
      createLogger({ logLevel: "silent" }),
    );
    ({ id: ownerId } = (await createUser(database.em, "Ann")).user);
    await seedRecords(database.pool, { ownerId: String(ownerId), count: 100_000 });
  });

  afterAll(async () => {
    await database[Symbol.asyncDispose]();
    await empty[Symbol.asyncDispose]();
  });

  const explain = async (query: Compilable): Promise<string> => {
    const { sql, parameters } = query.compile();
    const { rows } = await database.pool.query(`explain (costs off) ${sql}`, [...parameters]);
    return rows.map((row: Record<string, string>) => row["QUERY PLAN"]).join("\n");
  };

  const page = (order: RecordOrder, filter: RecordFilter = {}, deep = false) => {
    const key = { CREATED_AT: 1.77e15, TITLE: "gig take 5", DURATION: 300, SIZE: 3e6 }[order.field];
    const after = deep ? { key, id: "88888888-8888-4888-8888-888888888888" } : undefined;
    return pageQuery(
      queryBuilder(database.em),
      ownerId,
      { size: 20, backward: false, after, before: undefined },
      filter,
      order,
    );
  };

  it.each([
    ["CREATED_AT", "audio_record_library"],
    ["TITLE", "audio_record_title"],
    ["DURATION", "audio_record_duration"],
    ["SIZE", "audio_record_size"],
  ] as const)("reads a page by %s out of the index %s alone, without sorting", async (field, index) => {
    for (const direction of ["ASC", "DESC"] as const) {
      for (const deep of [false, true]) {
        const plan = await explain(page({ field, direction }, {}, deep));
        expect(plan).toMatch(new RegExp(`Index Only Scan (Backward )?using ${index} `));
        expect(plan).not.toMatch(/Sort|Seq Scan|Heap Scan/);
        expect(/Index Cond: .*ROW\(/.test(plan)).toBe(deep);
      }
    }
  });

  it("searches in one index alone, in every order and with every filter", async () => {
    const filters: RecordFilter[] = [
      { text: "take 77777" },
      { text: "blues" },
      { text: "nowhere", durationSeconds: { min: 5, max: 500 } },
      { text: "wav", createdAt: { from: new Date("2026-02-01"), before: new Date("2026-03-01") } },
    ];
    for (const filter of filters) {
      for (const field of ["CREATED_AT", "TITLE", "DURATION", "SIZE"] as const) {
        for (const deep of [false, true]) {
          const plan = await explain(page({ field, direction: "DESC" }, filter, deep));
          expect(plan).toMatch(/Index Only Scan (Backward )?using audio_record_library /);
          expect(plan).not.toMatch(/Seq Scan|Heap Scan|Index Scan/);
        }
      }
      expect(await explain(countQuery(queryBuilder(database.em), ownerId, filter))).toMatch(
        /Index Only Scan using audio_record_library /,
      );
    }
  });

  it("counts in an index alone", async () => {
    const filters: RecordFilter[] = [{}, { durationSeconds: { max: 10 } }, { createdAt: { from: new Date() } }];
    for (const filter of filters) {
      const plan = await explain(countQuery(queryBuilder(database.em), ownerId, filter));
      expect(plan).toMatch(/Index Only Scan/);
      expect(plan).not.toMatch(/Seq Scan|Heap Scan/);
    }
  });
});
