import { describe, expect, it } from "@jest/globals";
import { ApiClient } from "./support/api-client.ts";
import { needs } from "./support/needs.ts";
import { startPgBouncer } from "./support/pgbouncer.ts";
import { startService } from "./support/service.ts";
import { createEmptyDatabase, createTestDatabase } from "./support/test-database.ts";
import { sineWav } from "./support/wav-maker.ts";

needs("PgBouncer", () => {
  describe("through PgBouncer, which lends another connection for each transaction", () => {
    it("everything works: users, uploads, lists, searches, links, downloads, deletions", async () => {
      await using database = await createEmptyDatabase();
      await using pooler = await startPgBouncer(database.url);
      await using service = await startService({ DATABASE_URL: pooler.url, MAX_UPLOADS_PER_HOUR: "100" });
      const client = new ApiClient(service.url);
      const ann = await client.createUser("Ann");
      const uploads = await Promise.all(
        Array.from({ length: 6 }, async (_, at) =>
          client.uploadRecord(ann, sineWav({ seconds: 1 + at, channels: 2 }), { args: `, title: "Waltz ${at}"` }),
        ),
      );
      const records = uploads.map(({ data }) => data.uploadRecord.record);
      const { data: lists } = await client.run(
        '{ me { usage { records } records(filter: { text: "waltz 3" }) { totalCount nodes { id title peaks } } } }',
        {},
        ann,
      );
      expect(lists.me).toMatchObject({
        usage: { records: 6 },
        records: { totalCount: 1, nodes: [{ id: records[3].id, title: "Waltz 3" }] },
      });
      const create = "mutation ($recordId: ID!) { createLink(recordId: $recordId) { link { id url } } }";
      const { data: shared } = await client.run(create, { recordId: records[0].id }, ann);
      const link = await fetch(shared.createLink.link.url);
      expect([link.status, (await link.arrayBuffer()).byteLength]).toEqual([200, expect.any(Number)]);
      await Promise.all(records.map(async ({ url }) => expect((await fetch(url)).status).toBe(200)));
      const remove = "mutation ($ids: [ID!]!) { deleteRecords(ids: $ids) { deletedIds } }";
      const { data: deleted } = await client.run(remove, { ids: records.map(({ id }) => id) }, ann);
      expect(deleted.deleteRecords.deletedIds).toHaveLength(6);
      expect((await fetch(`${service.url}/readyz`)).status).toBe(200);
    });

    it("each connection of the server has the settings that the service relies on", async () => {
      await using database = await createTestDatabase();
      await using pooler = await startPgBouncer(database.url);
      await using service = await startService({ DATABASE_URL: pooler.url });
      const { pool } = service.server.database;
      // More at once than there are connections; each is replaced after a second.
      const settings = async () => {
        const { rows } = await pool.query(
          `select pg_backend_pid() as backend, current_setting('random_page_cost') as cost,
             current_setting('statement_timeout') as statement,
             current_setting('idle_in_transaction_session_timeout') as idle, pg_sleep(0.4)`,
        );
        return rows[0];
      };
      const seen = (await Promise.all(Array.from({ length: 30 }, settings))).map(({ backend, ...rest }) => {
        expect(rest).toMatchObject({ cost: "1.1", statement: "10s", idle: "5s" });
        return backend;
      });
      expect(new Set(seen).size).toBeGreaterThan(4);
    });
  });
});
