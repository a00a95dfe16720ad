/**
 * Uploads and downloads through one address while somebody restarts or kills what is behind it, as an app would that retries:
 * each upload has an idempotency key, or can be resumed, and each download goes on where it broke off. It tells what the
 * attempts got, and whether anything was lost: an upload that no retry has brought to its end within `--patience` seconds, an
 * answered recording that is not there, a recording that nobody was told about. `kill-parts.ts` runs it and does the killing.
 *
 * `node dist/bench/steady-load.js http://localhost:8000 --uploads 200 --parallel 6 --patience 180`
 */
import { createHash, randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { ApiClient, type Credentials } from "../test/support/api-client.ts";
import { sineWav } from "../test/support/wav-maker.ts";

const { values, positionals } = parseArgs({
  options: {
    uploads: { type: "string", default: "200" },
    parallel: { type: "string", default: "6" },
    patience: { type: "string", default: "180" },
  },
  allowPositionals: true,
});
const base = positionals[0] ?? "http://localhost:8000";
const [uploads, parallel, patience] = [Number(values.uploads), Number(values.parallel), Number(values.patience)];

interface Stored {
  readonly id: string;
  readonly url: string;
  readonly sizeBytes: number;
  readonly ownerId: string;
}

/** Short notes, sounds that are sent for some seconds, and a long one, whose MP3 goes to S3 in parts. */
const kinds = [
  { name: "note", wav: sineWav({ seconds: 3, channels: 1 }), quality: "STANDARD", sendSeconds: 0 },
  { name: "slow", wav: sineWav({ seconds: 30, channels: 2 }), quality: "STANDARD", sendSeconds: 12 },
  { name: "resumable", wav: sineWav({ seconds: 30, channels: 2 }), quality: "STANDARD", sendSeconds: 12 },
  { name: "long", wav: sineWav({ seconds: 150, channels: 2 }), quality: "HIGH", sendSeconds: 6 },
].map((kind) => ({ ...kind, sha256: createHash("sha256").update(kind.wav).digest("hex") }));
type Kind = (typeof kinds)[number];
const kindOf = (upload: number): Kind => kinds[upload % 20 === 19 ? 3 : [0, 0, 1, 2][upload % 4]!]!;

const client = new ApiClient(base);
const people: Credentials[] = [];
for (let i = 0; i < 4; i++) people.push(await client.createUser(`Load ${i}`));

const attempts = new Map<string, number>();
const stored: Stored[] = [];
const lost: string[] = [];
const waits: number[] = [];
const uploading = new AbortController();

function count(what: string): void {
  attempts.set(what, (attempts.get(what) ?? 0) + 1);
}

/** The bytes in pieces, spread over some seconds. */
async function* paced(bytes: Buffer, seconds: number): AsyncGenerator<Buffer, void> {
  const pieces = Math.max(1, seconds * 10);
  const pieceBytes = Math.ceil(bytes.length / pieces);
  for (let start = 0; start < bytes.length; start += pieceBytes) {
    yield bytes.subarray(start, start + pieceBytes);
    if (seconds > 0) await delay(100);
  }
}

interface Attempt {
  readonly outcome: string;
  readonly recording?: Omit<Stored, "ownerId">;
  readonly retryAfterSeconds?: number;
}

function judge(status: number, text: string, retryAfter: string | null, recordingOf: (body: any) => any): Attempt {
  let body: any;
  try {
    body = text === "" ? {} : JSON.parse(text);
  } catch {
    return { outcome: `${status} without a code` };
  }
  const recording = status === 200 ? recordingOf(body) : undefined;
  if (recording) return { outcome: "stored", recording };
  const code = body.errors?.[0]?.extensions?.code ?? body.error?.code ?? "without a code";
  return { outcome: `${status} ${code}`, retryAfterSeconds: Number(retryAfter) || 1 };
}

/** One attempt in one request. */
async function sendWhole(user: Credentials, kind: Kind, key: string): Promise<Attempt> {
  const query = `mutation ($file: Upload!, $key: UUID, $sha: String, $quality: Quality) {
    uploadRecord(file: $file, idempotencyKey: $key, sourceSha256: $sha, quality: $quality) { record { id url sizeBytes } }
  }`;
  const variables = { file: null, key, sha: kind.sha256, quality: kind.quality };
  const part = (name: string, text: string): string =>
    `--cut\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${text}\r\n`;
  const head =
    part("operations", JSON.stringify({ query, variables })) +
    part("map", '{"0":["variables.file"]}') +
    '--cut\r\ncontent-disposition: form-data; name="0"; filename="load.wav"\r\n\r\n';
  async function* body(): AsyncGenerator<Buffer, void> {
    yield Buffer.from(head);
    yield* paced(kind.wav, kind.sendSeconds);
    yield Buffer.from("\r\n--cut--\r\n");
  }
  const headers = { authorization: `Bearer ${user.token}`, "content-type": "multipart/form-data; boundary=cut" };
  const request = { method: "POST", headers, body: Readable.toWeb(Readable.from(body())) as any, duplex: "half" };
  const response = await fetch(`${base}/graphql`, request);
  const text = await response.text();
  return judge(
    response.status,
    text,
    response.headers.get("retry-after"),
    (answer) => answer.data?.uploadRecord?.record,
  );
}

/** One attempt to go on with a resumable upload. */
async function sendRest(user: Credentials, kind: Kind, key: string): Promise<Attempt> {
  const start = `mutation ($size: SafeInt, $key: UUID, $sha: String) {
    startUpload(fileName: "load.wav", sizeBytes: $size, idempotencyKey: $key, sourceSha256: $sha) { upload { url } }
  }`;
  const begun = await client.run(start, { size: kind.wav.length, key, sha: kind.sha256 }, user);
  if (!begun.data) return { outcome: `start ${begun.status} ${String(begun.errors?.[0]?.extensions.code)}` };
  const { url } = begun.data.startUpload.upload;
  const version = { "tus-resumable": "1.0.0" };
  const head = await fetch(url, { method: "HEAD", headers: version });
  if (head.status !== 200) return { outcome: `HEAD ${head.status}` };
  const offset = Number(head.headers.get("upload-offset"));
  const rest = paced(kind.wav.subarray(offset), kind.sendSeconds * (1 - offset / kind.wav.length));
  const request = {
    method: "PATCH",
    headers: { ...version, "content-type": "application/offset+octet-stream", "upload-offset": String(offset) },
    body: Readable.toWeb(Readable.from(rest)) as any,
    duplex: "half",
  };
  const response = await fetch(url, request);
  const retryAfter = response.headers.get("retry-after");
  const result = judge(response.status, await response.text(), retryAfter, ({ data }) => data?.upload?.recording);
  if (!result.recording) return result;
  const details = "query ($id: ID!) { record(id: $id) { id url sizeBytes } }";
  const { data } = await client.run(details, { id: result.recording.id }, user);
  return { outcome: result.outcome, recording: data.record };
}

async function upload(index: number): Promise<void> {
  const [user, kind, key] = [people[index % people.length]!, kindOf(index), randomUUID()];
  const started = performance.now();
  for (let attempt = 1; ; attempt++) {
    const result = await (kind.name === "resumable" ? sendRest : sendWhole)(user, kind, key).catch(
      (error: unknown) => ({
        outcome: brokenOf(error),
        retryAfterSeconds: 1,
        recording: undefined,
      }),
    );
    count(`${kind.name}: ${attempt === 1 ? "first" : "later"} attempt ${result.outcome}`);
    if (result.recording) {
      stored.push({ ...result.recording, ownerId: user.id });
      console.error(`${stored.length} answered`);
      if (attempt > 1) waits.push((performance.now() - started) / 1000);
      return;
    }
    if (performance.now() - started > patience * 1000) {
      lost.push(`${kind.name} ${key}: ${result.outcome}`);
      return;
    }
    await delay(1000 * (result.retryAfterSeconds ?? 1));
  }
}

function brokenOf(error: unknown): string {
  const { cause, message } = error as Error & { cause?: { code?: string; message?: string } };
  return `broken (${cause?.code ?? cause?.message ?? message.split("\n", 1)[0]})`;
}

/** Downloads a recording; a part that breaks off is asked for again. */
async function download({ url, sizeBytes }: Stored): Promise<boolean> {
  const deadline = performance.now() + patience * 1000;
  let got = 0;
  for (let attempt = 1; performance.now() < deadline; attempt++) {
    try {
      const response = await fetch(url, got > 0 ? { headers: { range: `bytes=${got}-` } } : {});
      if (response.ok) for await (const piece of response.body!) got += piece.length;
      else await response.body?.cancel();
      count(`download: ${attempt === 1 ? "first" : "later"} attempt ${response.status}`);
      if (response.ok && got === sizeBytes) return true;
      if (response.status === 404) return false;
    } catch (error) {
      count(`download: ${attempt === 1 ? "first" : "later"} attempt ${brokenOf(error)}`);
    }
    await delay(1000);
  }
  return false;
}

async function listen(): Promise<void> {
  while (!uploading.signal.aborted) {
    const recording = stored[Math.floor(Math.random() * stored.length)];
    if (recording && !(await download(recording))) lost.push(`download ${recording.id}`);
    await delay(100);
  }
}

const started = performance.now();
const listening = [listen(), listen()];
let next = 0;
const workers = Array.from({ length: parallel }, async () => {
  while (next < uploads) await upload(next++);
});
await Promise.all(workers);
uploading.abort();
await Promise.all(listening);
const seconds = (performance.now() - started) / 1000;

const absent: string[] = [];
for (const recording of stored) if (!(await download(recording))) absent.push(recording.id);
const untold: string[] = [];
for (const user of people) {
  const { data } = await client.run("{ me { records(first: 0) { totalCount } uploads { id } } }", {}, user);
  const told = stored.filter(({ ownerId }) => ownerId === user.id).length;
  if (data.me.records.totalCount !== told) untold.push(`${data.me.records.totalCount} recordings, ${told} answered`);
  if (data.me.uploads.length > 0) untold.push(`${data.me.uploads.length} open uploads`);
}

for (const [what, times] of [...attempts].toSorted(([a], [b]) => (a < b ? -1 : 1))) console.log(`${what}: ${times}`);
console.log(`${stored.length} of ${uploads} uploads answered in ${seconds.toFixed(0)} s`);
console.log(`longest wait of an upload that was tried again: ${Math.max(0, ...waits).toFixed(0)} s`);
console.log("lost:", lost, "answered and not there:", absent, "there and not answered:", untold);
process.exitCode = lost.length + absent.length + untold.length > 0 ? 1 : 0;
