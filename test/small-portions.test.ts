import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { maxReadyEncoders } from "../src/audio/encoder/ready-encoders.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { ffmpegChildrenOf } from "./support/ffmpeg.ts";
import { startServiceProcess } from "./support/service-process.ts";
import { startService, type TestService } from "./support/service.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const second = 44_100 * 4;
const wav = sineWav({ seconds: 12, frequencyHz: 430, amplitude: 0.4, channels: 2, bits: 16 });

describe("a take that is sent a second at a time while it is made", () => {
  let database: TestDatabase;
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    database = await createTestDatabase();
    service = await startService({ DATABASE_URL: database.url });
    client = new ApiClient(service.url);
    ann = await client.createUser();
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  async function begin(): Promise<string> {
    const { data } = await client.run('mutation { startUpload(fileName: "take.wav") { upload { url } } }', {}, ann);
    return data.startUpload.upload.url;
  }

  /** Sends the file from `from` to `to` in portions of a second, and returns where it got to. */
  async function send(url: string, from: number, to: number): Promise<number> {
    for (let at = from; at < to; at += second) {
      const answer = await patch(url, wav.subarray(at, Math.min(to, at + second)), at);
      expect([answer.status, answer.headers.get("upload-offset")]).toEqual([204, String(Math.min(to, at + second))]);
    }
    return to;
  }

  /** Ends the take at `from`, and returns its recording. */
  async function end(url: string, from: number): Promise<Record<string, unknown>> {
    const answer = await patch(url, wav.subarray(from), from, { "upload-length": String(wav.length) });
    expect(answer.status).toBe(200);
    return (await answer.json()).data.upload.recording;
  }

  /** How far an upload could go on without its process: from its checkpoint with the pieces behind that. */
  async function keptUpTo(url: string): Promise<number> {
    const { rows } = await service.server.database.pool.query<{ checkpoint: number; end: number; size: number }>(
      `select checkpoint_bytes::int as checkpoint, end_bytes::int as end, length(bytes) as size
       from resumable_upload left join upload_piece on upload_id = id where secret = $1 order by end_bytes`,
      [url.split("/").at(-1)],
    );
    let kept = rows[0]!.checkpoint;
    for (const { end, size } of rows) if (end > kept && end - size <= kept) kept = end;
    return kept;
  }

  const stateOf = async (url: string) => {
    const { rows } = await service.server.database.pool.query<{
      epoch: number;
      isHeld: boolean;
      offset: number;
      pieceBytes: number;
    }>(
      `select epoch, holder is not null as "isHeld", offset_bytes::int as offset,
         (select coalesce(sum(length(bytes)), 0)::int from upload_piece where upload_id = id) as "pieceBytes"
       from resumable_upload where secret = $1`,
      [url.split("/").at(-1)],
    );
    return rows[0]!;
  };

  it("is one conversion, and has what one request would have", async () => {
    const url = await begin();
    const at = await send(url, 0, wav.length - second);
    expect(await stateOf(url)).toMatchObject({ epoch: 1, isHeld: true, offset: at });
    const recording = await end(url, at);
    const whole = await client.uploadRecord(ann, wav, {
      fields: "durationSeconds sizeBytes sourceSha256 samplePeakDbfs",
    });
    expect(recording).toMatchObject(whole.data.uploadRecord.record);
    expect(await stateOf(url)).toMatchObject({ isHeld: false, pieceBytes: 0 });
  });

  it("goes on after a question for its offset", async () => {
    const url = await begin();
    const at = await send(url, 0, 3 * second);
    const head = await fetch(url, { method: "HEAD" });
    expect([head.status, head.headers.get("upload-offset")]).toEqual([200, String(at)]);
    await send(url, at, at + second);
    expect(await stateOf(url)).toMatchObject({ epoch: 1, isHeld: true });
    expect((await end(url, at + second))["sourceSha256"]).toMatch(/^[\da-f]{64}$/);
  });

  it("gives its encoder back when nothing comes for some seconds, and goes on later", async () => {
    const url = await begin();
    const at = await send(url, 0, 4 * second);
    const settled = await until(
      async () => await stateOf(url),
      ({ isHeld }) => !isHeld,
    );
    expect(settled.isHeld).toBe(false);
    // Those that are ready for any upload remain.
    const left = await until(
      async () => await ffmpegChildrenOf(process.pid),
      ({ length }) => length <= maxReadyEncoders,
    );
    expect(left.length).toBeLessThanOrEqual(maxReadyEncoders);
    const recording = await end(url, at);
    // It was taken up twice, and completed.
    expect((await stateOf(url)).epoch).toBe(3);
    expect(recording["durationSeconds"]).toBe(12);
  });

  it("keeps no more of the file than what comes behind its last checkpoint", async () => {
    const url = await begin();
    const long = sineWav({ seconds: 80, channels: 2, bits: 16 });
    let most = 0;
    for (let at = 0; at < long.length; at += 4 * second) {
      expect((await patch(url, long.subarray(at, at + 4 * second), at)).status).toBe(204);
      most = Math.max(most, (await stateOf(url)).pieceBytes);
    }
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThan(long.length - 4 * second);
  });

  it("keeps every byte that was told, in a checkpoint or behind it, whatever the size of its portions", async () => {
    const url = await begin();
    const long = sineWav({ seconds: 150, channels: 2, bits: 16 });
    let at = 0;
    for (const bytes of [4_000_000, 1_000_000, 8_400_000, 300_000, 6_000_000, 200_000, 3_000_000]) {
      expect((await patch(url, long.subarray(at, at + bytes), at)).status).toBe(204);
      at += bytes;
      expect(await keptUpTo(url)).toBe(at);
    }
  });

  it("leaves few pieces, however small its portions are", async () => {
    const url = await begin();
    for (let at = 0; at < 3000; at += 100) expect((await patch(url, wav.subarray(at, at + 100), at)).status).toBe(204);
    const pieces = "select from upload_piece join resumable_upload on id = upload_id where secret = $1";
    expect((await service.server.database.pool.query(pieces, [url.split("/").at(-1)])).rows).toHaveLength(1);
    expect(await keptUpTo(url)).toBe(3000);
    const next = await send(url, 3000, 10_000);
    expect(await keptUpTo(url)).toBe(next);
    expect((await end(url, next))["durationSeconds"]).toBe(12);
  });

  it("goes on at another replica at once, and the first one stores nothing more", async () => {
    await using other = await startService({ DATABASE_URL: database.url });
    const url = await begin();
    const at = await send(url, 0, 3 * second);
    const there = url.replace(service.url, other.url);
    const next = await send(there, at, at + second);
    expect(await stateOf(url)).toMatchObject({ epoch: 2, isHeld: true, offset: next });
    const late = await patch(url, wav.subarray(at, at + second), at);
    expect([late.status, late.headers.get("upload-offset")]).toEqual([409, String(next)]);
    expect((await end(there, next))["durationSeconds"]).toBe(12);
  });

  it("is refused at its next second when its token was revoked", async () => {
    const bob = await client.createUser("Bob");
    const made = await client.run(
      'mutation { createToken(name: "phone", scopes: [UPLOAD]) { token accessToken { id } } }',
      {},
      bob,
    );
    const { token, accessToken } = made.data.createToken;
    const started = await client.run(
      'mutation { startUpload(fileName: "take.wav") { upload { url } } }',
      {},
      { id: bob.id, token },
    );
    const { url } = started.data.startUpload.upload;
    const at = await send(url, 0, second);
    await client.run("mutation ($id: ID!) { revokeToken(id: $id) { revokedId } }", { id: accessToken.id }, bob);
    expect((await patch(url, wav.subarray(at), at)).status).toBe(401);
  });

  it("loses nothing that was told when its replica is killed between two seconds", async () => {
    await using killed = await startServiceProcess({ DATABASE_URL: database.url });
    const url = await begin();
    const at = await send(url.replace(service.url, killed.url), 0, 5 * second);
    killed.child.kill("SIGKILL");
    const head = await fetch(url, { method: "HEAD" });
    expect(Number(head.headers.get("upload-offset"))).toBe(at);
    expect((await end(url, at))["durationSeconds"]).toBe(12);
  });
});

async function patch(
  url: string,
  bytes: Buffer,
  offset: number,
  headers: Record<string, string> = {},
): Promise<Response> {
  return await fetch(url, {
    method: "PATCH",
    headers: { "content-type": "application/offset+octet-stream", "upload-offset": String(offset), ...headers },
    body: new Uint8Array(bytes),
  });
}
