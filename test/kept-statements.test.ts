import { expect, it } from "@jest/globals";
import type { Pool } from "pg";
import { ApiClient } from "./support/api-client.ts";
import { needs } from "./support/needs.ts";
import { startPgBouncer } from "./support/pgbouncer.ts";
import { startService, type TestService } from "./support/service.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { sineWav } from "./support/wav-maker.ts";

/** Creates a user, uploads and looks at the recording, a few times. */
async function use(service: TestService): Promise<void> {
  const client = new ApiClient(service.url);
  for (let i = 0; i < 8; i++) {
    const ann = await client.createUser("Ann");
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.2 }));
    expect((await fetch(data.uploadRecord.record.url)).status).toBe(200);
  }
}

/** The statements that the server keeps for each of the pool's connections. */
async function keptBy(pool: Pool): Promise<string[][]> {
  const clients = await Promise.all(Array.from({ length: pool.totalCount }, async () => await pool.connect()));
  const kept = [];
  for (const client of clients) {
    const { rows } = await client.query<{ statement: string }>("select statement from pg_prepared_statements");
    kept.push(rows.map(({ statement }) => statement));
    client.release();
  }
  return kept;
}

it("PostgreSQL keeps the statements of requests", async () => {
  await using service = await startService();
  await use(service);
  const kept = await keptBy(service.server.database.pool);
  for (const part of [/^select .* from "access_token"/, /^with "verdict"/, /^select .* from "audio_record"/]) {
    expect(kept.flat()).toContainEqual(expect.stringMatching(part));
  }
});

it("a lost connection is replaced by one that begins without them", async () => {
  await using service = await startService();
  await use(service);
  const { pool } = service.server.database;
  await pool.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()",
  );
  await use(service);
  expect((await keptBy(pool)).flat()).toContainEqual(expect.stringMatching(/^with "verdict"/));
});

it("a migration that changes the type of a column fails no request of a replica that is running", async () => {
  await using service = await startService();
  await use(service);
  const { pool } = service.server.database;
  const change = "alter table app_user alter column name type varchar(1000)";
  expect(await pool.query(change)).toMatchObject({ command: "ALTER" });
  await use(service);
});

it("nor an upload that ends in a transaction", async () => {
  await using service = await startService();
  const client = new ApiClient(service.url);
  const ann = await client.createUser("Ann");
  const upload = async () => {
    const { data } = await client.run("mutation { createUploadTicket { ticket } }", {}, ann);
    const args = `, ticket: "${data.createUploadTicket.ticket}"`;
    return (await client.uploadRecord(undefined, sineWav({ seconds: 0.2 }), { args })).status;
  };
  for (let i = 0; i < 3; i++) expect(await upload()).toBe(200);
  await service.server.database.pool.query("alter table audio_record alter column title type varchar(1000)");
  for (let i = 0; i < 3; i++) expect(await upload()).toBe(200);
});

needs("PgBouncer", () => {
  it("a pooling proxy, which lends another connection for each transaction, gets them without a name", async () => {
    await using database = await createTestDatabase();
    await using pooler = await startPgBouncer(database.url);
    await using service = await startService({ DATABASE_URL: pooler.url });
    await use(service);
    expect((await keptBy(service.server.database.pool)).flat()).toEqual([]);
  });
});
