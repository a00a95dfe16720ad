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
      STALL_TIMEOUT_SECONDS: "3600",
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

  it("is not encoded to its end if it has no room, although its encoder stands still", async () => {
    const bob = await client.createUser("Bob");
    for (let i = 0; i < 3; i++) await upload(bob, clip);
    await query("update app_user set quota_records = 1 where id = $1", [bob.id]);
    const ready = await until(
      async () => await ffmpegChildrenOf(process.pid),
      ({ length }) => length === 2,
    );
    for (const encoder of ready) process.kill(encoder, "SIGSTOP");
    expect(await upload(bob, clip)).toMatchObject({ code: "QUOTA_EXCEEDED" });
    // It would stand still for an hour.
    const left = async () => (await ffmpegChildrenOf(process.pid)).filter((encoder) => ready.includes(encoder));
    expect(await until(left, ({ length }) => length < 2)).toHaveLength(1);
    for (const encoder of await left()) process.kill(encoder, "SIGCONT");
    expect(await upload(ann, clip)).toMatchObject({ status: 200 });
  });

  it("whose user is deleted while its row is being inserted is refused, and nothing of it is left", async () => {
    const bob = await client.createUser("Bob");
    await upload(bob, clip);
    await using deletion = await beginTransaction(service.databaseUrl, "delete from app_user where id = $1", [bob.id]);
    const answer = upload(bob, clip);
    expect(await deletion.untilWaiting(1)).toBe(1);
    await deletion.commit();
    expect(await answer).toMatchObject({ status: 401, code: "UNAUTHENTICATED" });
    expect(await query("select id from audio_record where owner_id = $1", [bob.id])).toEqual([]);
    expect(await upload(ann, clip)).toMatchObject({ status: 200 });
  });

  it("over the limit per hour is refused before its row, and takes no encoder", async () => {
    const bob = await client.createUser("Bob");
    for (let i = 0; i < 3; i++) await upload(bob, clip);
    await query("update rate_limit set points = 1000 where key = $1", [`upload:user:${bob.id}`]);
    const ready = await until(
      async () => await ffmpegChildrenOf(process.pid),
      ({ length }) => length === 2,
    );
    expect(await upload(bob, clip)).toMatchObject({ status: 429, code: "RATE_LIMITED" });
    using sent = new SentStatements(service.server.database.pool);
    expect(await upload(bob, clip)).toMatchObject({ status: 429, code: "RATE_LIMITED" });
    expect(sent.take().filter((text) => text.includes("audio_record"))).toEqual([]);
    const now = await ffmpegChildrenOf(process.pid);
    // The first one was counted while its sound was encoded. After that, the service knows.
    expect(now.filter((encoder) => ready.includes(encoder)).length).toBeGreaterThan(0);
  });
});
