import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { ofUploads, startDatabaseProxy, type DatabaseProxy } from "./support/database-proxy.ts";
import { startHalfUpload } from "./support/half-upload.ts";
import { startService, type TestService } from "./support/service.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { beginTransaction } from "./support/transaction.ts";
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
    const creating = client.run('mutation { createUser(name: "Bob") { token } }');
    const answers: Promise<Answer>[] = [
      client.run("{ me { id } }", {}, ann),
      client.run('{ record(id: "0b5f2a3e-0000-4000-8000-000000000000") { id } }', {}, ann),
      client.uploadRecord(ann, wav),
    ];
    const created = await creating;
    // A connection that was open before takes the statement, and nobody knows what becomes of it.
    const isSent = created.errors![0]!.extensions.code === "OUTCOME_UNKNOWN";
    expect(created).toMatchObject({ status: isSent ? 504 : 503, data: null });
    if (!isSent) answers.push(creating);
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
    await using lock = await beginTransaction(database.url, "lock table app_user in share mode"); // allows to look for a user
    const answer = new ApiClient(patient.url).run('mutation { createUser(name: "Bob") { user { id } token } }');
    expect(await lock.untilWaiting(1)).toBe(1);
    proxy.cut();
    proxy.restore();
    expect(await lock.untilWaiting(2)).toBe(2);
    await lock.commit();
    const { status, data } = await answer;
    expect(status).toBe(200);
    const { rows } = await lock.query("select id::text from app_user where name = 'Bob'");
    expect(rows).toEqual([{ id: data.createUser.user.id }]);
    expect((await client.run("{ me { name } }", {}, data.createUser)).data).toEqual({ me: { name: "Bob" } });
  });

  const countReceiving = async (): Promise<number> => {
    const { rows } = await service.server.database.pool.query(
      "select count(*)::int as count from audio_record where state = 'receiving'",
    );
    return rows[0].count as number;
  };
  const long = sineWav({ seconds: 100, channels: 1, sampleRateHz: 22_050 }); // two rows
  const isUnready = async () =>
    await until(
      async () => (await fetch(`${service.url}/readyz`)).status,
      (status) => status === 503,
    );

  it("holds an upload whose database goes away in the middle, and stores it when it is back", async () => {
    const { data } = await client.uploadRecord(ann, long);
    const mp3 = Buffer.from(await (await fetch(data.uploadRecord.record.url)).arrayBuffer());
    using upload = await startHalfUpload(Number(new URL(service.url).port), ann, long);
    expect(await until(countReceiving, (count) => count === 1)).toBe(1);
    proxy.cut();
    const finished = upload.finish();
    expect(await isUnready()).toBe(503);
    proxy.restore();
    await finished;
    const answer = await upload.connection.answer();
    expect(answer!.status).toBe(200);
    const { pathname, search } = new URL(JSON.parse(answer!.body).data.uploadRecord.record.url);
    const stored = Buffer.from(await (await fetch(new URL(pathname + search, service.url))).arrayBuffer());
    // Encoders take turns, so two MP3s of a file are equally long, but not equal; their heads differ in the titles.
    expect(Math.abs(stored.length - mp3.length)).toBeLessThan(500);
  });

  it.each(["statement", "answer"] as const)("stores every row once, whichever %s is lost", async (what) => {
    const statuses: number[] = [];
    for (let number = 1, lost = true; lost; number++) {
      proxy.lose(what, number, { of: ofUploads });
      const { status, data } = await client.uploadRecord(ann, long);
      lost = proxy.lost;
      proxy.restore();
      statuses.push(status);
      if (status !== 200) continue;
      const { url, id } = data.uploadRecord.record;
      const { rows } = await service.server.database.pool.query(
        "select size_bytes, (select sum(length(bytes))::int from mp3_chunk where record_id = id) as stored from audio_record where id = $1",
        [id],
      );
      expect((await (await fetch(url)).arrayBuffer()).byteLength).toBe(rows[0].size_bytes);
      expect(rows[0].stored).toBe(rows[0].size_bytes);
    }
    // At its beginning, before the file is read, the client is told at once. Two rows and the end are sent again.
    expect(statuses).toEqual([503, 200, 200, 200, 200]);
    expect(await until(countReceiving, (count) => count === 0)).toBe(0);
  });

  // A database that stops suddenly loses the commits of the last moment that did not wait for the disk.
  it.each([
    ["row", "delete from mp3_chunk where record_id in (select id from audio_record where state = 'receiving')"],
    ["recording", "delete from audio_record where state = 'receiving'"],
  ])("asks for the file again, and stores nothing, if the database has lost a %s of the upload", async (_, loss) => {
    const { pool } = service.server.database;
    const key = `, quality: HIGH, idempotencyKey: "${crypto.randomUUID()}"`;
    const longer = sineWav({ seconds: 180, channels: 1, sampleRateHz: 22_050 }); // of which the first half has a row
    const send = async (): Promise<string | undefined> => {
      const request = { args: key, fileName: "take.wav" };
      const { status, data, errors } = await client.uploadRecord(ann, longer, request);
      return status === 200 ? String(data.uploadRecord.created) : String(errors![0]!.extensions.code);
    };
    using upload = await startHalfUpload(Number(new URL(service.url).port), ann, longer, key);
    const rows = async () =>
      (await pool.query("select from mp3_chunk join audio_record on id = record_id where state = 'receiving'"))
        .rowCount;
    expect(await until(rows, (count) => count! > 0)).toBeGreaterThan(0);
    await pool.query(loss);
    await upload.finish();
    const answer = await upload.connection.answer();
    expect(JSON.parse(answer!.body).errors[0]).toMatchObject({
      message: "A part of this upload is no longer in the database. Send the file again.",
      extensions: { code: "DATABASE_UNAVAILABLE", retryAfterSeconds: 5 },
    });
    expect(await countReceiving()).toBe(0);
    expect(await send()).toBe("true");
  });

  it("holds a download whose database goes away in the middle, and continues when it is back", async () => {
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 220, channels: 1, sampleRateHz: 22_050 }), {
      args: ", quality: HIGH",
    });
    const { url } = data.uploadRecord.record;
    const whole = Buffer.from(await (await fetch(url)).arrayBuffer());
    expect(whole.length).toBeGreaterThan(4 * 1024 ** 2);
    const reader = (await fetch(url)).body!.getReader();
    const pieces = [(await reader.read()).value!];
    proxy.cut();
    expect(await isUnready()).toBe(503);
    proxy.restore();
    for (let next = await reader.read(); !next.done; next = await reader.read()) pieces.push(next.value);
    expect(Buffer.concat(pieces).equals(whole)).toBe(true);
  });

  it("refuses an upload whose database stays away, and removes its rows when it is back", async () => {
    await using impatient = await startService({
      DATABASE_URL: proxy.url,
      DATABASE_TIMEOUT_SECONDS: "2",
      DATABASE_FAILOVER_SECONDS: "1",
    });
    using upload = await startHalfUpload(
      Number(new URL(impatient.url).port),
      ann,
      sineWav({ seconds: 20, channels: 2 }),
    );
    expect(await until(countReceiving, (count) => count === 1)).toBe(1);
    proxy.cut();
    await upload.finish();
    const answer = await upload.connection.answer();
    expect(answer!.status).toBe(503);
    expect(JSON.parse(answer!.body).errors[0].extensions.code).toBe("DATABASE_UNAVAILABLE");
    proxy.restore();
    expect(await recovery()).toBe(200);
    expect(await until(countReceiving, (count) => count === 0)).toBe(0);
  });
});
