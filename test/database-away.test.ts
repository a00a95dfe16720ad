import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { Pool } from "pg";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { startDatabaseProxy, type DatabaseProxy } from "./support/database-proxy.ts";
import { startHalfUpload } from "./support/half-upload.ts";
import { startService, type TestService } from "./support/service.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const wav = sineWav({ seconds: 0.5, channels: 1 });

describe("without its database", () => {
  let database: TestDatabase;
  let proxy: DatabaseProxy;
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let link: string;

  beforeEach(async () => {
    database = await createTestDatabase();
    proxy = await startDatabaseProxy(database.url);
    service = await startService({
      DATABASE_URL: proxy.url,
      MAX_UPLOADS_PER_HOUR: "100",
      SHUTDOWN_GRACE_SECONDS: "1",
      DATABASE_TIMEOUT_SECONDS: "2",
    });
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
    link = (await client.uploadRecord(ann, wav)).data.uploadRecord.record.url;
  });

  afterEach(async () => {
    proxy.restore();
    await service[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  async function refusals(): Promise<void> {
    const downloading = fetch(link);
    const answers: Promise<Answer>[] = [
      client.run("{ me { id } }", {}, ann),
      client.run('{ record(id: "0b5f2a3e-0000-4000-8000-000000000000") { id } }', {}, ann),
      client.run('mutation { createUser(name: "Bob") { token } }'),
      client.uploadRecord(ann, wav),
    ];
    for (const { status, data, errors } of await Promise.all(answers)) {
      expect({ status, data }).toEqual(
        // If the field may be null, the response still has data, which is a 200 in GraphQL over HTTP.
        data?.record === null ? { status: 200, data: { record: null } } : { status: 503, data: data && null },
      );
      expect(errors![0]!.extensions).toMatchObject({ code: "DATABASE_UNAVAILABLE", retryAfterSeconds: 5 });
      expect(JSON.stringify(errors)).not.toMatch(/connect|timeout|127\.0\.0\.1|select/i);
    }
    const download = await downloading;
    expect(download.status).toBe(503);
    expect(download.headers.get("retry-after")).toBe("5");
    expect((await download.json()).error.code).toBe("DATABASE_UNAVAILABLE");
    const ready = await until(
      async () => await fetch(`${service.url}/readyz`),
      ({ status }) => status === 503,
    );
    expect((await ready.json()).checks.database).not.toBe("ok");
    expect((await fetch(`${service.url}/healthz`)).status).toBe(200);
    expect((await client.run("{ __typename }")).status).toBe(200);
  }

  async function recovery(): Promise<number> {
    const ready = await until(
      async () => (await fetch(`${service.url}/readyz`)).status,
      (status) => status === 200,
    );
    expect((await client.uploadRecord(ann, wav)).status).toBe(200);
    expect((await fetch(link)).status).toBe(200);
    return ready;
  }

  it("answers with a code, and recovers by itself, after every connection was cut", async () => {
    proxy.cut();
    await refusals();
    proxy.restore();
    expect(await recovery()).toBe(200);
  });

  it("answers with a code within seconds if the database accepts connections but does not respond", async () => {
    proxy.silence();
    await refusals();
    proxy.restore();
    expect(await recovery()).toBe(200);
  });

  it("tells that a user was made by a statement that still ran when its connection was lost", async () => {
    await using patient = await startService({ DATABASE_URL: proxy.url });
    await using pools = new AsyncDisposableStack();
    const pool = pools.adopt(new Pool({ connectionString: database.url }), async (pool) => await pool.end());
    await using locks = new AsyncDisposableStack();
    const lock = locks.adopt(await pool.connect(), (client) => client.release(true));
    const waiting = async (): Promise<number> => {
      const { rows } = await pool.query<{ count: number }>(
        "select count(*)::int as count from pg_stat_activity where wait_event_type = 'Lock' and query like '%insert%'",
      );
      return rows[0]!.count;
    };
    await lock.query("begin");
    await lock.query("lock table app_user in share mode"); // allows to look for a user
    let isAnswered = false;
    const answer = new ApiClient(patient.url).run('mutation { createUser(name: "Bob") { user { id } token } }');
    void answer.finally(() => (isAnswered = true));
    expect(await until(waiting, (count) => count === 1)).toBe(1);
    proxy.cut();
    proxy.restore();
    await until(waiting, (count) => count === 2 || isAnswered);
    await lock.query("commit");
    const { status, data } = await answer;
    expect(status).toBe(200);
    const { rows } = await pool.query<{ id: string }>("select id::text from app_user where name = 'Bob'");
    expect(rows).toEqual([{ id: data.createUser.user.id }]);
    expect((await client.run("{ me { name } }", {}, data.createUser)).data).toEqual({ me: { name: "Bob" } });
  });

  it("refuses an upload whose database goes away in the middle, and removes its rows when it is back", async () => {
    using upload = await startHalfUpload(Number(new URL(service.url).port), ann, sineWav({ seconds: 20, channels: 2 }));
    const receiving = async () => {
      const { rows } = await service.server.database.pool.query(
        "select count(*)::int as count from audio_record where state = 'receiving'",
      );
      return rows[0].count as number;
    };
    expect(await until(receiving, (count) => count === 1)).toBe(1);
    proxy.cut();
    await upload.finish();
    const answer = await upload.connection.answer();
    expect(answer!.status).toBe(503);
    expect(JSON.parse(answer!.body).errors[0].extensions.code).toBe("DATABASE_UNAVAILABLE");
    proxy.restore();
    expect(await recovery()).toBe(200);
    expect(await until(receiving, (count) => count === 0)).toBe(0);
  });
});
