import { expect, it } from "@jest/globals";
import { forgetOldCounts, OldCounts } from "../src/limits/forget-old-counts.ts";
import { HeldDeletions } from "./support/held-deletions.ts";
import { openTestDatabase } from "./support/test-database.ts";

it("deletes the counts of hours that are over, in parts, and no others", async () => {
  await using database = await openTestDatabase();
  const { em, pool } = database;
  await pool.query(
    `insert into rate_limit (key, points, expire)
     select 'k' || n, 1, (extract(epoch from now()) * 1000)::bigint + case when n <= 2500 then -1 else 60000 end
     from generate_series(1, 2503) n`,
  );
  await pool.query(
    `insert into write_allowance (key, used_bytes, at)
     select 'k' || n, 1, now() - case when n <= 4 then interval '9 days' else interval '7 days' end
     from generate_series(1, 6) n`,
  );
  await forgetOldCounts(em, new AbortController().signal);
  expect((await pool.query("select from rate_limit")).rowCount).toBe(3);
  expect((await pool.query("select from write_allowance where key like 'k%'")).rowCount).toBe(2);
});

it("stops after the part that is being deleted", async () => {
  await using database = await openTestDatabase();
  const { em, pool } = database;
  await pool.query("insert into rate_limit select 'k' || n, 1, n from generate_series(1, 2500) n");
  const deletions = await HeldDeletions.of(pool, "rate_limit");
  const failures: unknown[] = [];
  const counts = new OldCounts(em, (error) => failures.push(error));
  await deletions.one();
  const stopping = counts[Symbol.asyncDispose]();
  await deletions.letGo();
  await stopping;
  expect((await pool.query("select from rate_limit")).rowCount).toBe(1500);
  expect(failures).toEqual([]);
});

it("finds them without reading the whole table", async () => {
  await using database = await openTestDatabase();
  const { pool } = database;
  await pool.query("insert into rate_limit select 'k' || n, 1, n + 1000 from generate_series(1, 20000) n");
  await pool.query("analyze rate_limit");
  const { rows } = await pool.query("explain select key from rate_limit where expire < 1010 limit 1000");
  expect(rows.map((row) => row["QUERY PLAN"]).join("\n")).toContain("rate_limit_expire_index");
});
