import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { ffmpegChildrenOf } from "./support/ffmpeg.ts";
import { SentStatements, startServiceWithoutIntervals } from "./support/sent-statements.ts";
import type { TestService } from "./support/service.ts";
import { beginTransaction } from "./support/transaction.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

describe("a short clip", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  const clip = sineWav({ seconds: 0.1, amplitude: 0.5, channels: 2 });
  const notWav = Buffer.from("This is a text, and no sound at all. ".repeat(100));

  beforeAll(async () => {
    service = await startServiceWithoutIntervals({
      MAX_UPLOADS: "1",
      MAX_UPLOADS_PER_HOUR: "1000",
      STALL_TIMEOUT_SECONDS: "300",
    });
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const query = async (text: string, values: unknown[] = []) =>
    (await service.server.database.pool.query(text, values)).rows;
  const upload = async (user: Credentials, wav: Buffer) => {
    const { status, data, errors } = await client.uploadRecord(user, wav, { fields: "id url sizeBytes" });
    return { status, code: errors?.[0]?.extensions.code, record: data?.uploadRecord?.record };
  };
  const readyEncoders = async () => (await ffmpegChildrenOf(process.pid)).length;
  const mp3Of = async ({ url }: { url: string }) => Buffer.from(await (await fetch(url)).arrayBuffer());

  it("is the same MP3 whether an encoder was ready for it or not", async () => {
    const first = await mp3Of((await upload(ann, clip)).record);
    for (let i = 0; i < 5; i++) {
      const { record } = await upload(ann, clip);
      expect((await mp3Of(record)).equals(first)).toBe(true);
      // One is ready for the next clip, which is of the same kind.
      expect(await until(readyEncoders, (ready) => ready > 0)).toBeGreaterThan(0);
    }
  });

  it("is stored with its head by the statement that makes it ready", async () => {
    await upload(ann, clip);
    using sent = new SentStatements(service.server.database.pool);
    const { record } = await upload(ann, clip);
    const texts = sent.take();
    expect(texts.filter((text) => text.includes("mp3_chunk"))).toHaveLength(1);
    const rows = await query(
      "select position, length(bytes) as bytes from mp3_chunk where record_id = $1 order by position",
      [record.id],
    );
    expect(rows.map(({ position }) => position)).toEqual([0, 1]);
    expect(rows[0].bytes + rows[1].bytes).toBe(record.sizeBytes);
  });

  it.each([
    ["whose user has no room", { quota_records: 1 }, clip, "QUOTA_EXCEEDED"],
    [
      "that is longer than its user may store",
      { quota_seconds: 1 },
      sineWav({ seconds: 3, sampleRateHz: 8000 }),
      "QUOTA_EXCEEDED",
    ],
    ["that is no WAV", {}, notWav, "UNSUPPORTED_MEDIA"],
    ["whose user has no room, and that is no WAV", { quota_records: 1 }, notWav, "QUOTA_EXCEEDED"],
  ])("%s is refused, and nothing of it is left", async (_which, quota, wav, code) => {
    const bob = await client.createUser("Bob");
    await upload(bob, clip);
    for (const [column, value] of Object.entries(quota))
      await query(`update app_user set ${column} = $2 where id = $1`, [bob.id, value]);
    for (let i = 0; i < 3; i++) expect(await upload(bob, wav)).toMatchObject({ code, record: undefined });
    expect(await query("select state from audio_record where owner_id = $1", [bob.id])).toEqual([{ state: "ready" }]);
    // The only place for an upload is free again.
    expect(await upload(ann, clip)).toMatchObject({ status: 200 });
  });

  /** Uploads clips of a new user until two encoders are ready for the next ones. */
  const userWithEncoders = async () => {
    const user = await client.createUser("Bob");
    for (let i = 0; i < 3; i++) await upload(user, clip);
    const encoders = await until(
      async () => await ffmpegChildrenOf(process.pid),
      ({ length }) => length === 2,
    );
    return { user, encoders };
  };
  const leftOf = async (encoders: readonly number[]) =>
    (await ffmpegChildrenOf(process.pid)).filter((encoder) => encoders.includes(encoder));

  it("is encoded while its row is being inserted", async () => {
    const { user, encoders } = await userWithEncoders();
    await using lock = await beginTransaction(service.databaseUrl, "select from app_user where id = $1 for update", [
      user.id,
    ]);
    const answer = upload(user, clip);
    expect(await lock.untilWaiting(1)).toBe(1);
    const left = await until(
      async () => await leftOf(encoders),
      ({ length }) => length < 2,
    );
    expect(left).toHaveLength(1);
    await lock.commit();
    expect(await answer).toMatchObject({ status: 200 });
  });

  it("whose user is deleted meanwhile is refused, and nothing of it is left, although its encoder stands still", async () => {
    const { user, encoders } = await userWithEncoders();
    for (const encoder of encoders) process.kill(encoder, "SIGSTOP");
    const remove = "delete from app_user where id = $1";
    await using deletion = await beginTransaction(service.databaseUrl, remove, [user.id]);
    const answer = upload(user, clip);
    expect(await deletion.untilWaiting(1)).toBe(1);
    await deletion.commit();
    expect(await answer).toMatchObject({ status: 401, code: "UNAUTHENTICATED" });
    expect(await query("select id from audio_record where owner_id = $1", [user.id])).toEqual([]);
    // Otherwise it would stand still for five minutes.
    const left = await until(
      async () => await leftOf(encoders),
      ({ length }) => length < 2,
    );
    expect(left).toHaveLength(1);
    for (const encoder of left) process.kill(encoder, "SIGCONT");
    expect(await upload(ann, clip)).toMatchObject({ status: 200 });
  });

  it("costs no encoder if the one before was refused", async () => {
    const { user, encoders } = await userWithEncoders();
    await query("update app_user set quota_records = 1 where id = $1", [user.id]);
    for (let i = 0; i < 5; i++) expect(await upload(user, clip)).toMatchObject({ code: "QUOTA_EXCEEDED" });
    expect((await leftOf(encoders)).length).toBeGreaterThan(0);
    await query("update app_user set quota_records = null where id = $1", [user.id]);
    expect(await upload(user, clip)).toMatchObject({ status: 200 });
  });

  it("beside another field is admitted before that runs", async () => {
    const { user } = await userWithEncoders();
    await query("update rate_limit set points = 1000 where key = $1", [`upload:user:${user.id}`]);
    const rename = 'before: updateUser(name: "Rob") { user { name } }';
    const { status, errors } = await client.uploadRecord(user, clip, { before: rename });
    expect([status, errors?.[0]?.extensions.code]).toEqual([429, "RATE_LIMITED"]);
    expect(await query("select name from app_user where id = $1", [user.id])).toEqual([{ name: "Bob" }]);
  });

  it("over the limit per hour is refused without another statement about recordings", async () => {
    const { user } = await userWithEncoders();
    await query("update rate_limit set points = 1000 where key = $1", [`upload:user:${user.id}`]);
    using sent = new SentStatements(service.server.database.pool);
    for (let i = 0; i < 2; i++) expect(await upload(user, clip)).toMatchObject({ status: 429, code: "RATE_LIMITED" });
    const texts = sent.take();
    expect(texts.filter((text) => text.includes("audio_record"))).toEqual([]);
    // From the second one on, the service knows by itself.
    expect(texts.filter((text) => text.includes("rate_limit"))).toHaveLength(1);
  });
});
