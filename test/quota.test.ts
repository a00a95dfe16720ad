import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { Client } from "pg";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const usageQuery = "{ me { usage { bytes seconds records limits { bytes seconds records } } } }";

describe("a quota", () => {
  let service: TestService;
  let database: Client;
  let client: ApiClient;
  const wav = sineWav({ seconds: 0.5 });

  beforeAll(async () => {
    service = await startService({ QUOTA_RECORDS: "10" });
    database = new Client({ connectionString: service.databaseUrl });
    await database.connect();
    client = new ApiClient(service.url);
  });

  afterAll(async () => {
    await database.end();
    await service[Symbol.asyncDispose]();
  });

  const userWith = async (quota: { bytes?: number; seconds?: number; records?: number } = {}): Promise<Credentials> => {
    const user = await client.createUser();
    await database.query("update app_user set quota_bytes = $2, quota_seconds = $3, quota_records = $4 where id = $1", [
      user.id,
      quota.bytes,
      quota.seconds,
      quota.records,
    ]);
    return user;
  };
  const usageOf = async (user: Credentials) => (await client.run(usageQuery, {}, user)).data.me.usage;
  const rowsOf = async (user: Credentials): Promise<number> =>
    Number((await database.query("select count(*) from audio_record where owner_id = $1", [user.id])).rows[0].count);
  const refusalOf = async (user: Credentials, file: Blob | Buffer = wav) => {
    const { status, data, errors } = await client.uploadRecord(user, file);
    expect([status, data]).toEqual([403, null]);
    return errors![0]!.extensions;
  };

  it("is visible in the result of an upload with the user's own token", async () => {
    const [user, other] = [await userWith(), await userWith()];
    const { data } = await client.uploadRecord(other, wav, {
      fields: "owner { id usage { records } }",
      declarations: ", $userId: ID, $token: UUID",
      args: ", userId: $userId, token: $token",
      variables: { userId: user.id, token: user.token },
    });
    expect(data.uploadRecord.record.owner).toEqual({ id: user.id, usage: { records: 1 } });
  });

  it("is shown with its usage", async () => {
    const user = await userWith({ bytes: 1_000_000, seconds: 0 });
    expect(await usageOf(user)).toEqual({
      bytes: 0,
      seconds: 0,
      records: 0,
      limits: { bytes: 1_000_000, seconds: null, records: 10 },
    });
    const { data } = await client.uploadRecord(user, wav, { fields: "sizeBytes" });
    expect(await usageOf(user)).toMatchObject({
      bytes: data.uploadRecord.record.sizeBytes,
      seconds: 0.5,
      records: 1,
    });
  });

  it("of recordings is never exceeded by fifty uploads at once, on two replicas", async () => {
    const user = await userWith();
    await using replica = await startService({ DATABASE_URL: service.databaseUrl, QUOTA_RECORDS: "10" });
    const other = new ApiClient(replica.url);
    const answers = await Promise.all(
      Array.from({ length: 50 }, async (_, at) => await (at % 2 ? client : other).uploadRecord(user, wav)),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(10);
    for (const { status, errors } of answers.filter((answer) => answer.status !== 200)) {
      expect([status, errors![0]!.extensions]).toEqual([
        403,
        { code: "QUOTA_EXCEEDED", limit: "records", max: 10, used: 10, requestId: expect.any(String) },
      ]);
    }
    expect((await usageOf(user)).records).toBe(10);
    expect(await rowsOf(user)).toBe(10);
  });

  it("of bytes and of seconds can be used completely, but not exceeded by concurrent uploads", async () => {
    const { data } = await client.uploadRecord(await userWith(), wav, { fields: "sizeBytes" });
    const { sizeBytes } = data.uploadRecord.record;
    for (const [limit, quota] of [
      ["bytes", { bytes: 4 * sizeBytes, records: 0 }],
      ["seconds", { seconds: 2, records: 0 }],
    ] as const) {
      const user = await userWith(quota);
      const answers = await Promise.all(Array.from({ length: 12 }, async () => await client.uploadRecord(user, wav)));
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(4);
      expect(await usageOf(user)).toMatchObject({ bytes: 4 * sizeBytes, seconds: 2, records: 4 });
      expect(await refusalOf(user)).toMatchObject({ code: "QUOTA_EXCEEDED", limit });
      expect(await rowsOf(user)).toBe(4);
    }
  });

  it("ends an upload as soon as it cannot fit", async () => {
    const long = sineWav({ seconds: 20, channels: 1, sampleRateHz: 16_000 });
    const bySeconds = await userWith({ seconds: 1 });
    expect(await refusalOf(bySeconds, long)).toMatchObject({
      code: "QUOTA_EXCEEDED",
      limit: "seconds",
      max: 1,
      used: 0,
    });
    const byBytes = await userWith({ bytes: 5000 });
    expect(await refusalOf(byBytes, long)).toMatchObject({
      code: "QUOTA_EXCEEDED",
      limit: "bytes",
      max: 5000,
      used: 0,
    });
    expect([await rowsOf(bySeconds), await rowsOf(byBytes)]).toEqual([0, 0]);
  });

  it("that is used up refuses an upload before its file is read", async () => {
    const user = await userWith({ records: 1 });
    await client.uploadRecord(user, wav);
    // If the file were read, it would be refused as UNSUPPORTED_MEDIA.
    expect(await refusalOf(user, Buffer.from("not a WAV"))).toMatchObject({ limit: "records", max: 1, used: 1 });
  });

  it("is freed by deleting", async () => {
    const user = await userWith({ records: 1 });
    await client.uploadRecord(user, wav);
    await refusalOf(user);
    await database.query("delete from audio_record where owner_id = $1", [user.id]);
    expect(await usageOf(user)).toMatchObject({ bytes: 0, seconds: 0, records: 0 });
    expect((await client.uploadRecord(user, wav)).status).toBe(200);
  });

  it("returns the recording to a retried upload even if it is used up by then", async () => {
    const user = await userWith({ records: 1 });
    const retried = { args: `, idempotencyKey: "${uuidv4()}"` };
    const first = await client.uploadRecord(user, wav, retried);
    const second = await client.uploadRecord(user, wav, retried);
    expect(second.data.uploadRecord).toEqual({ created: false, record: first.data.uploadRecord.record });
  });

  it("of one user does not affect others", async () => {
    const [full, free] = [await userWith({ records: 1 }), await userWith({ bytes: 0, seconds: 0, records: 0 })];
    await client.uploadRecord(full, wav);
    await refusalOf(full);
    for (let count = 0; count < 11; count++) expect((await client.uploadRecord(free, wav)).status).toBe(200);
    expect((await usageOf(free)).limits).toEqual({ bytes: null, seconds: null, records: null });
  });

  it("is summed up from the index alone", async () => {
    await database.query("vacuum audio_record");
    await database.query("set enable_seqscan = off");
    const { rows } = await database.query(
      `explain select sum(size_bytes), sum(source_samples * 1000000 / source_sample_rate_hz), count(*)
       from audio_record where owner_id = 1 and state = 'ready'`,
    );
    await database.query("reset enable_seqscan");
    expect(JSON.stringify(rows)).toContain("Index Only Scan using audio_record_usage");
  });
});
