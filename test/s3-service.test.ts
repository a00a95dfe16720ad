import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { S3 } from "@aws-sdk/client-s3";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { openS3Client, type S3Client } from "../src/record/s3-client.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { UploadLeases } from "../src/upload/upload-leases.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { ofUploads, startDatabaseProxy, type DatabaseProxy } from "./support/database-proxy.ts";
import { startHalfUpload } from "./support/half-upload.ts";
import { decodeWithFfmpeg, problemsFoundByMp3val, readTagsWithFfmpeg } from "./support/mp3-decoders.ts";
import { readFrames } from "./support/mp3.ts";
import { needs } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { startStrictS3, type StrictS3 } from "./support/strict-s3.ts";
import { startTcpProxy, type TcpProxy } from "./support/tcp-proxy.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { chunk, id3Tag, sineWav, wavFile } from "./support/wav-maker.ts";

const keys = { accessKey: "musickey", secretKey: "a-secret-of-the-bucket" };
const headRoomBytes = 16 * 1024;
const note = sineWav({ seconds: 2, channels: 1 });
/** Its MP3 is a little longer than one part. */
const long = sineWav({ seconds: 280, channels: 1, sampleRateHz: 22_050, frequencyHz: 1000, amplitude: 0.05 });
const inHighQuality = { args: ", quality: HIGH", fields: "id url title sizeBytes" };

let s3: StrictS3;
let proxy: TcpProxy;
let database: TestDatabase;
let service: TestService;
let rows: TestService;
let client: ApiClient;
let ann: Credentials;
const settings = (): Record<string, string> => ({
  STORE: "s3",
  S3_ENDPOINT: proxy.url,
  S3_BUCKET: "music",
  S3_ACCESS_KEY: keys.accessKey,
  S3_SECRET_KEY: keys.secretKey,
  S3_TIMEOUT_SECONDS: "3",
  S3_DELETE_DELAY_SECONDS: "0",
  DATABASE_URL: database.url,
});

beforeAll(async () => {
  s3 = await startStrictS3(keys, ["music"]);
  proxy = await startTcpProxy(s3.url);
  database = await createTestDatabase();
  service = await startService(settings());
  rows = await startService();
  client = new ApiClient(service.url);
  ann = await client.createUser("Ann");
});

afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await rows[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await s3[Symbol.asyncDispose]();
});

async function upload(wav: Uint8Array, options: object = {}, to = client, user = ann): Promise<any> {
  const { data, errors } = await to.uploadRecord(user, wav, { fields: "id url title sizeBytes", ...options });
  expect(errors).toBeUndefined();
  return data.uploadRecord.record;
}

async function download(url: string, headers: Record<string, string> = {}): Promise<Buffer> {
  return Buffer.from(await (await fetch(url, { headers })).arrayBuffer());
}

const countRows = async (): Promise<number> => await count("mp3_chunk");
const countPending = async (): Promise<number> => await count("deleted_object");
async function count(table: string): Promise<number> {
  const { rows } = await service.server.database.pool.query(`select count(*)::int as count from ${table}`);
  return rows[0].count;
}

describe("a recording in S3", () => {
  it.each([
    ["a note", note, {}],
    ["a recording of several parts", long, inHighQuality],
  ])("plays as one in rows does: %s", async (_what, wav, options) => {
    const other = new ApiClient(rows.url);
    const [record, inRows] = [await upload(wav, options), await upload(wav, options, other, await other.createUser())];
    const [bytes, bytesInRows] = [await download(record.url), await download(inRows.url)];
    expect(bytes.length).toBe(record.sizeBytes);
    const padding = bytes.length - bytesInRows.length;
    expect(padding).toBe(wav === note ? 0 : headRoomBytes - headBytesOf(bytesInRows));
    const tagBytes = 10 + syncsafe(bytesInRows);
    // Which encoders were free may change the frames of a long one, but not the note's.
    expect(wav !== note || bytes.equals(bytesInRows)).toBe(true);
    expect(bytes.subarray(10, tagBytes).equals(bytesInRows.subarray(10, tagBytes))).toBe(true);
    expect(bytes.subarray(tagBytes, tagBytes + padding).every((byte) => byte === 0)).toBe(true);
    expect(await readTagsWithFfmpeg(bytes)).toEqual(await readTagsWithFfmpeg(bytesInRows));
    expect((await decodeWithFfmpeg(bytes)).length).toBe((await decodeWithFfmpeg(bytesInRows)).length);
    expect(await countRows()).toBe(0);
  });

  it("answers HEAD, ranges and conditions", async () => {
    const { url } = await upload(long, inHighQuality);
    const whole = await download(url);
    const head = await fetch(url, { method: "HEAD" });
    const etag = head.headers.get("etag")!;
    expect(head.headers.get("content-length")).toBe(String(whole.length));
    for (const [range, start, end] of [
      ["bytes=0-0", 0, 0],
      ["bytes=5242870-5242890", 5_242_870, 5_242_890],
      ["bytes=-1000", whole.length - 1000, whole.length - 1],
      ["bytes=16000-", 16_000, whole.length - 1],
    ] as const) {
      const answer = await fetch(url, { headers: { range, "if-range": etag } });
      expect([answer.status, answer.headers.get("content-range")]).toEqual([
        206,
        `bytes ${start}-${end}/${whole.length}`,
      ]);
      expect(Buffer.from(await answer.arrayBuffer()).equals(whole.subarray(start, end + 1))).toBe(true);
    }
    expect((await fetch(url, { headers: { "if-none-match": etag } })).status).toBe(304);
    expect((await fetch(url, { headers: { range: `bytes=${whole.length}-` } })).status).toBe(416);
    const several = await download(url, { range: "bytes=0-9,100-109" });
    expect(several.includes(whole.subarray(100, 110))).toBe(true);
  });

  it("plays at another level, also behind a padded head", async () => {
    const { url } = await upload(long, inHighQuality);
    const [plain, louder] = [await download(url), await download(`${url}&loudness=-16`)];
    expect(louder.length).toBe(plain.length);
    const gainOf = async (mp3: Buffer) => Number.parseFloat((await readTagsWithFfmpeg(mp3))["REPLAYGAIN_TRACK_GAIN"]!);
    expect((await gainOf(plain)) - (await gainOf(louder))).toBeGreaterThan(3);
    const peakOf = async (mp3: Buffer) =>
      (await decodeWithFfmpeg(mp3)).reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0);
    expect((await peakOf(louder)) / (await peakOf(plain))).toBeGreaterThan(1.4);
  });

  it("has its cover, which does not fit into the room for the head", async () => {
    const picture = Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), Buffer.alloc(100_000, 7)]);
    const apic = Buffer.concat([Buffer.from("\0image/png\0\x03\0", "latin1"), picture]);
    const tagged = wavFile({
      format: { channels: 1, sampleRateHz: 22_050 },
      data: long.subarray(44),
      after: [chunk("id3 ", id3Tag(3, [["APIC", apic]]))],
    });
    const record = await upload(tagged, inHighQuality);
    const bytes = await download(record.url);
    expect([bytes.length, bytes.includes(picture)]).toEqual([record.sizeBytes, true]);
    expect(readFrames(bytes.subarray(10 + syncsafe(bytes))).length).toBeGreaterThan(5000);
  });

  it("is deleted with its object, alone and with its user", async () => {
    const bob = await client.createUser("Bob");
    const [one, other] = [await upload(note, {}, client, bob), await upload(note, {}, client, bob)];
    const { data } = await client.run(`mutation { deleteRecord(id: "${one.id}") { deletedId } }`, {}, bob);
    expect(data.deleteRecord.deletedId).toBe(one.id);
    expect((await fetch(one.url)).status).toBe(404);
    expect((await fetch(other.url)).status).toBe(200);
    expect((await client.run('mutation { deleteUser(confirm: "Bob") { deletedId } }', {}, bob)).errors).toBeUndefined();
    expect((await fetch(other.url)).status).toBe(404);
    expect(await until(countPending, (pending) => pending === 0)).toBe(0);
  });

  it("leaves nothing of a refused upload", async () => {
    const args = { args: `, sourceSha256: "${"0".repeat(64)}"` };
    const { errors } = await client.uploadRecord(ann, note, args);
    expect(errors![0]!.extensions.code).toBe("BAD_USER_INPUT");
    const { rows } = await service.server.database.pool.query("select id from audio_record where state <> 'ready'");
    expect(rows).toEqual([]);
  });

  it("is still there after a restart, and beside recordings in rows", async () => {
    const record = await upload(note);
    const bytes = await download(record.url);
    await service[Symbol.asyncDispose]();
    await using both = await startService({ ...settings(), STORE: "postgres" });
    const bothClient = new ApiClient(both.url);
    const inRows = await upload(note, {}, bothClient);
    const urlOf = (url: string) => `${both.url}${new URL(url).pathname}${new URL(url).search}`;
    expect((await download(urlOf(record.url))).equals(bytes)).toBe(true);
    service = await startService(settings());
    client = new ApiClient(service.url);
    for (const { url } of [record, inRows]) {
      const { pathname, search } = new URL(url);
      expect((await download(`${service.url}${pathname}${search}`)).length).toBe(bytes.length);
    }
  });
});

describe("when S3 is away", () => {
  it("answers with a code, serves everything else, and recovers by itself", async () => {
    const record = await upload(note);
    proxy.cut();
    const [uploaded, downloaded] = await Promise.all([client.uploadRecord(ann, note), fetch(record.url)]);
    expect([uploaded.status, uploaded.errors![0]!.extensions]).toEqual([
      503,
      expect.objectContaining({ code: "STORAGE_UNAVAILABLE", retryAfterSeconds: 5 }),
    ]);
    expect([downloaded.status, downloaded.headers.get("retry-after")]).toEqual([503, "5"]);
    const text = JSON.stringify([uploaded.errors, await downloaded.json()]);
    expect(text).not.toMatch(/S3|bucket|127\.0\.0\.1|connect/i);
    const titles = await client.run(`{ record(id: "${record.id}") { title } }`, {}, ann);
    expect(titles.data.record.title).toBe("take");
    expect((await fetch(`${service.url}/readyz`)).status).toBe(200);
    proxy.restore();
    expect((await fetch(record.url)).status).toBe(200);
    await upload(note);
    // What failed uploads have left is looked for once more later.
    const open = async () => await count("deleted_object where may_be_written");
    expect(await until(open, (pending) => pending === 0)).toBe(0);
  });

  it("waits for it, if it is away for a moment only", async () => {
    const record = await upload(note);
    proxy.cut();
    const all = Promise.all([upload(note), download(record.url)]);
    await delay(1000);
    proxy.restore();
    const [second, bytes] = await all;
    expect((await download(second.url)).length).toBe(bytes.length);
  });

  it("refuses uploads with a code when the bucket is full, and stores again when there is room", async () => {
    s3.maxBytes = 0;
    const { status, errors } = await client.uploadRecord(ann, note);
    expect([status, errors![0]!.extensions.code]).toEqual([507, "STORAGE_FULL"]);
    s3.maxBytes = Infinity;
    const again = await until(
      async () => (await client.uploadRecord(ann, note)).status,
      (status) => status === 200,
    );
    expect(again).toBe(200);
  });
});

it("an operation of S3 has failed if no answer comes in time, but not if nobody waits for it any more", async () => {
  await using silent = createServer();
  await once(silent.listen(0, "127.0.0.1"), "listening");
  const endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const told: (string | undefined)[] = [];
  const open = async (timeoutSeconds: number): Promise<S3Client> =>
    await openS3Client({
      endpoint,
      region: "us-east-1",
      bucket: "music",
      keys,
      timeoutSeconds,
      onAnswer: (_operation, _seconds, failure) => void told.push(failure),
    });
  const head = async (of: S3, abortSignal: AbortSignal) =>
    await of.headObject({ Bucket: "music", Key: "a" }, { abortSignal });
  using patient = await open(600);
  const gone = new AbortController();
  const asked = once(silent, "request");
  const waiting = patient.run(head, gone.signal).catch(() => "gave up");
  await asked;
  gone.abort();
  expect(await waiting).toBe("gave up");
  expect(told).toEqual([undefined]);
  using hasty = await open(0.1);
  await expect(hasty.run(head)).rejects.toMatchObject({ code: "STORAGE_UNAVAILABLE" });
  expect(told).toEqual([undefined, "TimeoutError"]);
  silent.closeAllConnections();
});

describe("with STORE=s3, when the database is away for a moment", () => {
  let failover: DatabaseProxy;
  let patient: TestService;
  let user: ApiClient;

  beforeAll(async () => {
    failover = await startDatabaseProxy(database.url);
    patient = await startService({
      ...settings(),
      DATABASE_URL: failover.url,
      DATABASE_TIMEOUT_SECONDS: "2",
      METRICS_PORT: "0",
    });
    user = new ApiClient(patient.url);
  });

  afterAll(async () => {
    failover.restore();
    await patient[Symbol.asyncDispose]();
    await failover[Symbol.asyncDispose]();
  });

  it("stores an upload, whichever answer of the database is lost", async () => {
    const statuses: number[] = [];
    for (let number = 1, lost = true; lost; number++) {
      failover.lose("answer", number, { of: ofUploads });
      const { status, data } = await user.uploadRecord(ann, long, inHighQuality);
      lost = failover.lost;
      failover.restore();
      statuses.push(status);
      if (status !== 200) continue;
      const { url, sizeBytes } = data.uploadRecord.record;
      expect((await download(url)).length).toBe(sizeBytes);
    }
    // At its beginning, before the file is read, the client is told at once. Its bytes are charged three times; then come
    // the question whether to go on, and the end.
    expect(statuses).toEqual([503, 200, 200, 200, 200, 200, 200]);
  });

  it("counts downloads, and what S3 did, in the metrics", async () => {
    const { url, sizeBytes } = await upload(note, {}, user);
    const sent = async (): Promise<number> => {
      const text = await (await fetch(patient.server.metricsUrl!)).text();
      return Number(/^web_user_music_bytes_total\{what="mp3_sent"\} (.*)$/m.exec(text)?.[1] ?? 0);
    };
    const before = await sent();
    await download(url);
    expect(await until(sent, (bytes) => bytes === before + sizeBytes)).toBe(before + sizeBytes);
    proxy.cut();
    expect((await fetch(url)).status).toBe(503);
    proxy.restore();
    const text = await (await fetch(patient.server.metricsUrl!)).text();
    const of = (name: string): number => Number(new RegExp(`^web_user_music_${name} (.*)$`, "m").exec(text)?.[1]);
    expect(of(String.raw`s3_seconds_count\{operation="PutObject"\}`)).toBeGreaterThan(0);
    expect(of(String.raw`s3_seconds_count\{operation="GetObject"\}`)).toBeGreaterThan(0);
    expect(of("objects_waiting")).toBeGreaterThanOrEqual(0);
    expect(text).toMatch(/^web_user_music_s3_errors_total\{code="\w+"\} [1-9]/m);
  });

  it("asks for the file again if the database has lost the recording of an upload, and deletes its object", async () => {
    const { pool } = patient.server.database;
    const receiving = async () => (await pool.query("select id from audio_record where state = 'receiving'")).rows;
    using half = await startHalfUpload(Number(new URL(patient.url).port), ann, note);
    const [{ id }] = (await until(receiving, ({ length }) => length === 1)) as [{ id: string }];
    // As after the end of a server that had not yet written it to its disk: no trigger has run.
    await pool.query("delete from audio_record where id = $1", [id]);
    await pool.query("delete from deleted_object where record_id = $1", [id]);
    await half.finish();
    const answer = await half.connection.answer();
    expect(JSON.parse(answer!.body).errors[0].extensions.code).toBe("DATABASE_UNAVAILABLE");
    const noted = await pool.query("select 1 from deleted_object where record_id = $1", [id]);
    expect(noted.rowCount).toBe(1);
  });

  it("looks for the parts of an upload whose recording the database has lost, also if its client goes away", async () => {
    const { pool } = patient.server.database;
    const receiving = async () => (await pool.query("select id from audio_record where state = 'receiving'")).rows;
    const half = await startHalfUpload(Number(new URL(patient.url).port), ann, note);
    const [{ id }] = (await until(receiving, ({ length }) => length === 1)) as [{ id: string }];
    await pool.query("delete from audio_record where id = $1", [id]);
    await pool.query("delete from deleted_object where record_id = $1", [id]);
    half[Symbol.dispose]();
    const noted = async () => (await pool.query("select 1 from deleted_object where record_id = $1", [id])).rowCount;
    expect(await until(noted, (count) => count === 1, 10)).toBe(1);
  });

  it("deletes the object of an upload that is taken for dead", async () => {
    const { id, url } = await upload(note, {}, user);
    const { pool } = patient.server.database;
    await pool.query("update audio_record set state = 'dead', lease_until = now() where id = $1", [id]);
    await using leases = new UploadLeases(patient.server.database.em, createLogger({ logLevel: "silent" }));
    await leases.sweep();
    const { rows } = await pool.query("select may_be_written from deleted_object where record_id = $1", [id]);
    expect(rows).toEqual([{ may_be_written: true }]);
    expect((await fetch(url)).status).toBe(404);
  });
});

it("does not start with wrong keys, and says so without them", async () => {
  const failure = await startService({ ...settings(), S3_SECRET_KEY: "another-secret" }).catch(String);
  expect(failure).toContain("SignatureDoesNotMatch");
  expect(failure).not.toContain("secret");
});

needs("mp3val", () => {
  it("makes MP3s that mp3val finds nothing wrong with", async () => {
    const bytes = await download((await upload(long, inHighQuality)).url);
    const frames = readFrames(bytes.subarray(10 + syncsafe(bytes))).length;
    expect(await problemsFoundByMp3val(bytes, frames)).toEqual([]);
  });
});

/** The size in an ID3v2 tag at the beginning. */
function syncsafe(mp3: Buffer): number {
  return (mp3[6]! << 21) | (mp3[7]! << 14) | (mp3[8]! << 7) | mp3[9]!;
}

/** Size of the tag and the Info frame. */
function headBytesOf(mp3: Buffer): number {
  const tagBytes = 10 + syncsafe(mp3);
  return tagBytes + readFrames(mp3.subarray(tagBytes))[0]!.byteLength;
}
