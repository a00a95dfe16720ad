import { afterAll, beforeAll, expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { S3 } from "@aws-sdk/client-s3";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { programEnv } from "./support/service-process.ts";
import { startService, type TestService } from "./support/service.ts";
import { startStrictS3, type StrictS3 } from "./support/strict-s3.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { sineWav } from "./support/wav-maker.ts";

const program = join(import.meta.dirname, "../src/store-command.js");
const keys = { accessKey: "musickey", secretKey: "musicsecret" };

let s3: StrictS3;
let database: TestDatabase;
let service: TestService;
let client: ApiClient;
let ann: Credentials;
let aws: S3;
let env: Record<string, string>;

beforeAll(async () => {
  s3 = await startStrictS3(keys, ["music"]);
  database = await createTestDatabase();
  env = {
    DATABASE_URL: database.url,
    S3_ENDPOINT: s3.url,
    S3_BUCKET: "music",
    S3_ACCESS_KEY: keys.accessKey,
    S3_SECRET_KEY: keys.secretKey,
    UPLOAD_TIMEOUT_SECONDS: "7200",
  };
  service = await startService(env);
  client = new ApiClient(service.url);
  ann = await client.createUser("Ann");
  aws = new S3({
    endpoint: s3.url,
    region: "us-east-1",
    credentials: { accessKeyId: keys.accessKey, secretAccessKey: keys.secretKey },
    forcePathStyle: true,
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  });
});

afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
  await s3[Symbol.asyncDispose]();
});

interface Ended {
  readonly code: number;
  readonly said: string;
  readonly complaint: string;
}

/** Runs the command as an operator does. */
async function run(...args: string[]): Promise<Ended> {
  return await new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], { env: { ...programEnv, ...env } }, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, said: stdout, complaint: stderr }),
    );
  });
}

async function answerOf(...args: string[]): Promise<any> {
  const { code, said, complaint } = await run(...args, "--json");
  expect([code, complaint]).toEqual([0, ""]);
  return JSON.parse(said);
}

const download = async (url: string): Promise<Buffer> => Buffer.from(await (await fetch(url)).arrayBuffer());
const query = async (text: string): Promise<any[]> => (await service.server.database.pool.query(text)).rows;
const objects = async (): Promise<string[]> =>
  ((await aws.listObjectsV2({ Bucket: "music" })).Contents ?? []).map(({ Key: key }) => key!);

it("moves recordings to S3 and back, without a moment in which they do not play", async () => {
  const uploads: { url: string; bytes: Buffer; etag: string | null }[] = [];
  for (const [seconds, quality] of [
    [1, "STANDARD"],
    [150, "HIGH"],
    [3, "LOW"],
  ] as const) {
    const { data } = await client.uploadRecord(ann, sineWav({ seconds }), { args: `, quality: ${quality}` });
    const { url } = data.uploadRecord.record;
    const { headers } = await fetch(url, { method: "HEAD" });
    uploads.push({ url, bytes: await download(url), etag: headers.get("etag") });
  }
  const requireSame = async (): Promise<void> => {
    for (const { url, bytes, etag } of uploads) {
      const answer = await fetch(url);
      expect(answer.headers.get("etag")).toBe(etag);
      expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
    }
  };
  const bytes = uploads.reduce((sum, { bytes }) => sum + bytes.length, 0);
  expect(await answerOf("move-records", "--to", "s3")).toEqual({ moved: 3, bytes, missing: 0, shown: [] });
  expect(await query("select distinct store from audio_record")).toEqual([{ store: "s3" }]);
  expect((await query("select position from mp3_chunk")).length).toBeGreaterThan(6);
  await requireSame();
  expect(await answerOf("move-records", "--to", "s3")).toEqual({ moved: 0, bytes: 0, missing: 0, shown: [] });
  expect(await answerOf("reconcile")).toMatchObject({ objects: 3, bytes, orphans: 0, missing: 0, wrongSize: 0 });

  expect(await answerOf("move-records", "--to", "s3", "--delete-source")).toEqual({ deletedSources: 3 });
  expect(await query("select position from mp3_chunk")).toEqual([]);
  await requireSame();

  expect(await answerOf("move-records", "--to", "postgres")).toEqual({ moved: 3, bytes, missing: 0, shown: [] });
  await requireSame();
  // These objects are sources, not orphans.
  expect(await answerOf("reconcile", "--delete")).toMatchObject({ objects: 3, orphans: 0, deleted: 0 });
  expect(await answerOf("move-records", "--to", "postgres", "--delete-source")).toEqual({ deletedSources: 3 });
  expect(await objects()).toEqual([]);
  await requireSame();
});

it("names the recordings that it cannot move, because bytes of them are missing, and moves the others", async () => {
  const wav = sineWav({ seconds: 1 });
  const made = await Promise.all([1, 2, 3].map(async () => await client.uploadRecord(ann, wav, { fields: "id url" })));
  const [gone, short, whole] = made.map(({ data }): { id: string; url: string } => data.uploadRecord.record);
  const keyOf = ({ id }: { id: string }): string => `mp3/${id.slice(0, 2)}/${id}`;
  const bytes = await download(whole!.url);
  await answerOf("move-records", "--to", "s3");
  await aws.deleteObject({ Bucket: "music", Key: keyOf(gone!) });
  await aws.putObject({ Bucket: "music", Key: keyOf(short!), Body: bytes.subarray(0, 1000) });
  const { code, said } = await run("move-records", "--to", "postgres", "--json");
  expect(code).toBe(1);
  expect(JSON.parse(said)).toMatchObject({ missing: 2 });
  expect(JSON.parse(said).shown).toEqual(
    [gone!.id, short!.id].toSorted().map((recordId) => ({ kind: "missing", recordId })),
  );
  expect(await query(`select store from audio_record where id = '${whole!.id}'`)).toEqual([{ store: "postgres" }]);
  expect((await download(whole!.url)).equals(bytes)).toBe(true);
  const text = await run("move-records", "--to", "postgres");
  expect(text).toMatchObject({ code: 1, said: expect.stringMatching(/Moved recordings: 0 .*\n.* missing: 2\n/) });
  expect(text.said).toContain(gone!.id);

  // The same for rows.
  await query(`delete from mp3_chunk where record_id = '${whole!.id}' and position = 1`);
  const back = await run("move-records", "--to", "s3", "--json");
  expect(back.code).toBe(1);
  expect(JSON.parse(back.said)).toMatchObject({ missing: 1, shown: [{ kind: "missing", recordId: whole!.id }] });
  await query(`delete from audio_record where id in ('${gone!.id}', '${short!.id}', '${whole!.id}')`);
  for (const record of [gone!, short!, whole!]) await aws.deleteObject({ Bucket: "music", Key: keyOf(record) });
  await query("delete from deleted_object");
  await answerOf("move-records", "--to", "postgres");
  await answerOf("move-records", "--to", "postgres", "--delete-source");
});

it("loses no recording that two runs move at the same time", async () => {
  const wav = sineWav({ seconds: 20 });
  const made = await Promise.all([1, 2, 3, 4].map(async () => await client.uploadRecord(ann, wav, { fields: "url" })));
  const urls = made.map(({ data }): string => data.uploadRecord.record.url);
  const before = await Promise.all(urls.map(download));
  await Promise.all([1, 2, 3].map(async () => await run("move-records", "--to", "s3")));
  await answerOf("move-records", "--to", "s3");
  expect(await Promise.all(urls.map(download))).toEqual(before);
  await answerOf("move-records", "--to", "postgres");
  await answerOf("move-records", "--to", "postgres", "--delete-source");
});

it("reads a recording on in the other store, if its source is deleted while it is read", async () => {
  const { data } = await client.uploadRecord(ann, sineWav({ seconds: 300, channels: 1, sampleRateHz: 22_050 }), {
    args: ", quality: HIGH",
  });
  const { url } = data.uploadRecord.record;
  const whole = await download(url);
  const reader = (await fetch(url)).body!.getReader();
  const received = [(await reader.read()).value!];
  await answerOf("move-records", "--to", "s3");
  await answerOf("move-records", "--to", "s3", "--delete-source");
  for (let next = await reader.read(); !next.done; next = await reader.read()) received.push(next.value);
  expect(Buffer.concat(received).equals(whole)).toBe(true);
});

it("finds objects without a recording, and deletes them only when it is told to and they are few", async () => {
  const orphan = "0b5f2a3e-0000-4000-8000-000000000000";
  const key = `mp3/0b/${orphan}`;
  await aws.putObject({ Bucket: "music", Key: key, Body: "abc" });
  await aws.putObject({ Bucket: "music", Key: "of-others/a", Body: "abc" });
  expect(await answerOf("reconcile")).toMatchObject({
    orphans: 1,
    orphanBytes: 3,
    youngOrphans: 1,
    deleted: 0,
    shown: [{ kind: "orphan", recordId: orphan }],
  });
  s3.hoursOlder = 25;
  const refused = await run("reconcile", "--delete");
  expect(refused).toMatchObject({ code: 1, said: "", complaint: expect.stringContaining("more than 10 %") });
  expect(await objects()).toContain(key);
  expect(await answerOf("reconcile", "--delete", "--max-percent", "50")).toMatchObject({ orphans: 1, deleted: 1 });
  expect(await objects()).not.toContain(key);
  expect(await objects()).toContain("of-others/a");
  s3.hoursOlder = 0;
});

it("deletes no more objects than it may if recordings disappear after it has counted", async () => {
  const ids = Array.from({ length: 40 }, (_, i) => `4b5f2a3e-0000-4000-8000-0000000000${10 + i}`);
  const keyOf = (id: string): string => `mp3/4b/${id}`;
  await query(
    `insert into audio_record (id, owner_id, state, store, lease_until, title, file_name, chunk_bytes)
     select id::uuid, (select id from app_user limit 1), 'receiving', 's3', now() + interval '1 hour', '', '', 1048576
     from unnest('{${ids.join()}}'::text[]) as id`,
  );
  for (const id of ids) await aws.putObject({ Bucket: "music", Key: keyOf(id), Body: "abc" });
  const { length: all } = await objects();
  s3.hoursOlder = 25;
  // Between the two lists of objects, it lists the uploads.
  s3.beforeAnswer = async ({ url }) => {
    if (!/[?&]uploads/.test(url ?? "")) return;
    s3.beforeAnswer = undefined;
    await query(`delete from audio_record where id = any('{${ids.join()}}')`);
    await query("delete from deleted_object");
  };
  const refused = await run("reconcile", "--delete");
  expect(refused).toMatchObject({ code: 1, said: "", complaint: expect.stringContaining("more than 10 %") });
  expect((await objects()).length).toBeGreaterThanOrEqual(all * 0.9);
  expect(s3.beforeAnswer).toBeUndefined();
  s3.hoursOlder = 0;
  for (const id of ids) await aws.deleteObject({ Bucket: "music", Key: keyOf(id) });
});

it("deletes no object that an upload may just be writing, however young an object the operator wants to delete", async () => {
  const [young, receiving] = ["2b5f2a3e-0000-4000-8000-000000000000", "3b5f2a3e-0000-4000-8000-000000000000"];
  const keysOf = [`mp3/2b/${young}`, `mp3/3b/${receiving}`];
  await query(
    `insert into audio_record (id, owner_id, state, store, lease_until, title, file_name, chunk_bytes)
     select '${receiving}', id, 'receiving', 's3', now() + interval '1 hour', '', '', 1048576 from app_user limit 1`,
  );
  for (const key of keysOf) await aws.putObject({ Bucket: "music", Key: key, Body: "abc" });
  const reconcile = async (...args: string[]) =>
    await answerOf("reconcile", "--delete", "--max-percent", "100", ...args);
  expect(await reconcile()).toMatchObject({ orphans: 1, youngOrphans: 1, deleted: 0 });
  s3.hoursOlder = 1; // less than UPLOAD_TIMEOUT_SECONDS
  expect(await reconcile("--min-age-hours", "0")).toMatchObject({ orphans: 1, youngOrphans: 1, deleted: 0 });
  expect(await objects()).toEqual(expect.arrayContaining(keysOf));
  s3.hoursOlder = 3;
  expect(await reconcile()).toMatchObject({ youngOrphans: 1, deleted: 0 });
  expect(await reconcile("--min-age-hours", "0")).toMatchObject({ orphans: 1, youngOrphans: 0, deleted: 1 });
  // One that has a recording is no orphan at any age.
  expect(await objects()).not.toContain(keysOf[0]);
  expect(await objects()).toContain(keysOf[1]);
  s3.hoursOlder = 0;
  await query(`delete from audio_record where id = '${receiving}'`);
  await query(`delete from deleted_object`);
  await aws.deleteObject({ Bucket: "music", Key: keysOf[1] });
});

it("deletes no rows of a recording whose object is not in the bucket", async () => {
  const { data } = await client.uploadRecord(ann, sineWav({ seconds: 1 }), { fields: "id url" });
  const { id, url } = data.uploadRecord.record;
  const bytes = await download(url);
  await answerOf("move-records", "--to", "s3");
  await aws.deleteObject({ Bucket: "music", Key: `mp3/${id.slice(0, 2)}/${id}` });
  const refused = await run("move-records", "--to", "s3", "--delete-source");
  expect(refused).toMatchObject({ code: 1, said: "", complaint: expect.stringContaining(id) });
  expect((await query(`select position from mp3_chunk where record_id = '${id}'`)).length).toBeGreaterThan(0);
  await query(`update audio_record set store = 'postgres' where id = '${id}'`);
  expect((await download(url)).equals(bytes)).toBe(true);
});

it("reports a recording whose object is missing or has another size", async () => {
  const [{ id: first }, { id: second }] = (await query(
    "select id from audio_record where store = 's3' or true limit 2",
  )) as [{ id: string }, { id: string }];
  await answerOf("move-records", "--to", "s3");
  await aws.deleteObject({ Bucket: "music", Key: `mp3/${first.slice(0, 2)}/${first}` });
  await aws.putObject({ Bucket: "music", Key: `mp3/${second.slice(0, 2)}/${second}`, Body: "abc" });
  const { code, said } = await run("reconcile", "--json");
  expect(code).toBe(1);
  const found = JSON.parse(said);
  expect(found).toMatchObject({ missing: 1, wrongSize: 1, orphans: 0 });
  expect(found.shown).toEqual(
    expect.arrayContaining([
      { kind: "missing", recordId: first, sizeBytes: 0 },
      expect.objectContaining({ kind: "wrong size", recordId: second, sizeBytes: 3 }),
    ]),
  );
});

it("ends uploads that nobody completes, once they are older than an upload may be", async () => {
  const id = "1b5f2a3e-0000-4000-8000-000000000000";
  await aws.createMultipartUpload({ Bucket: "music", Key: `mp3/1b/${id}` });
  const openUploads = async (): Promise<number> =>
    JSON.parse((await run("reconcile", "--delete", "--json")).said).openUploads;
  expect(await openUploads()).toBe(0);
  s3.hoursOlder = 3;
  expect(await openUploads()).toBe(1);
  expect((await aws.listMultipartUploads({ Bucket: "music" })).Uploads ?? []).toEqual([]);
});

it("says why the bucket cannot be used, without the keys", async () => {
  env["S3_ENDPOINT"] = "http://127.0.0.1:9"; // the port of the discard service, on which nothing listens
  env["S3_TIMEOUT_SECONDS"] = "1";
  const { code, complaint } = await run("reconcile");
  env["S3_ENDPOINT"] = s3.url;
  delete env["S3_TIMEOUT_SECONDS"];
  expect([code, complaint]).toEqual([1, expect.stringContaining("ECONNREFUSED")]);
  expect(complaint).not.toContain(keys.secretKey);
});

it("explains what it does, and what it did not understand", async () => {
  expect((await run("--help")).said).toContain("move-records --to s3");
  expect(await run()).toMatchObject({ code: 2 });
  for (const args of [
    ["move"],
    ["move-records"],
    ["move-records", "--to", "disk"],
    ["reconcile", "--to", "s3"],
    ["reconcile", "now"],
  ]) {
    expect(await run(...args)).toMatchObject({
      code: 2,
      complaint: expect.stringContaining("npm run store -- --help"),
    });
  }
  env["S3_BUCKET"] = "";
  expect(await run("reconcile")).toMatchObject({
    code: 1,
    complaint: "S3_BUCKET is not set: there is no bucket to work on\n",
  });
});
