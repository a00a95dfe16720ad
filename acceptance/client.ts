/**
 * A client of the service for the acceptance tests. It knows what the documents say and imports nothing of the service,
 * so it can be pointed at any address.
 */
import assert from "node:assert/strict";

/** The address under test, without a final slash. */
export const base = (process.env.BASE ?? "").replace(/\/+$/, "");
assert(URL.canParse(base), "Set BASE to the service's address: BASE=http://localhost:8000 npm run acceptance");

/** The answer to a GraphQL request. */
export interface Answer {
  readonly status: number;
  readonly data: any;
  /** The code of the first error. */
  readonly code: string | undefined;
}

/** Runs a GraphQL document. */
export async function run(query: string, variables: object = {}, token?: string): Promise<Answer> {
  return await post({ "content-type": "application/json", ...bearer(token) }, JSON.stringify({ query, variables }));
}

/** Uploads a file with the given arguments of `uploadRecord`, named as in the schema. */
export async function upload(token: string, file: Blob, args: Readonly<Record<string, string>> = {}): Promise<Answer> {
  const types: Readonly<Record<string, string>> = {
    title: "String",
    quality: "Quality",
    visibility: "Visibility",
    idempotencyKey: "UUID",
  };
  const names = Object.keys(args);
  const query = `mutation ($file: Upload!${names.map((name) => `, $${name}: ${types[name]}`).join("")}) {
    uploadRecord(file: $file${names.map((name) => `, ${name}: $${name}`).join("")}) { created record { ${fields} } }
  }`;
  const form = new FormData();
  form.set("operations", JSON.stringify({ query, variables: { ...args, file: null } }));
  form.set("map", JSON.stringify({ 0: ["variables.file"] }));
  form.set("0", file, "take.wav");
  return await post(bearer(token), form);
}

/** What the tests ask of a recording. */
export const fields = "id title url streamUrl durationSeconds sizeBytes owner { id }";

export const bearer = (token: string | undefined): Record<string, string> =>
  token === undefined ? {} : { authorization: `Bearer ${token}` };

async function post(headers: Record<string, string>, body: string | FormData): Promise<Answer> {
  const response = await fetch(`${base}/graphql`, { method: "POST", headers, body });
  const { data, errors } = (await response.json()) as { data?: any; errors?: { extensions: { code: string } }[] };
  return { status: response.status, data, code: errors?.[0]?.extensions.code };
}

const sampleRateHz = 44_100;

/** A WAV of 16 bits with a sine in each channel. */
export function sineWav({ seconds, channels = 2 }: { seconds: number; channels?: number }): Blob {
  const blockBytes = 2 * channels;
  const second = Buffer.alloc(sampleRateHz * blockBytes);
  for (let at = 0; at < second.length; at += 2) {
    const frame = Math.floor(at / blockBytes);
    second.writeInt16LE(Math.round(12_000 * Math.sin((2 * Math.PI * 440 * frame) / sampleRateHz)), at);
  }
  const dataBytes = Math.round(seconds * sampleRateHz) * blockBytes;
  const header = Buffer.alloc(44);
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + dataBytes, 4);
  header.write("WAVEfmt ", 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(channels, 22);
  header.writeUInt32LE(sampleRateHz, 24);
  header.writeUInt32LE(sampleRateHz * blockBytes, 28);
  header.writeUInt16LE(blockBytes, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36);
  header.writeUInt32LE(dataBytes, 40);
  // A sine of a whole number of hertz begins anew every second.
  const sound = Array.from({ length: Math.ceil(seconds) }, () => second);
  return new Blob([new Blob([header, ...sound]).slice(0, 44 + dataBytes)], { type: "audio/wav" });
}

const bitrates = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];

/**
 * The seconds of sound in an MP3 of 44.1 kHz: it follows the frame headers from the end of the ID3v2 tag to the last byte.
 * @throws {Error} if anything else stands between two frames
 */
export function secondsOfMp3(mp3: Buffer): number {
  assert.equal(mp3.toString("latin1", 0, 3), "ID3");
  let at = 10 + ((mp3[6]! << 21) | (mp3[7]! << 14) | (mp3[8]! << 7) | mp3[9]!);
  let frames = -1; // the first one has no sound: it tells players the length
  for (; at < mp3.length; frames++) {
    // MPEG-1 Layer III at 44.1 kHz
    assert.equal(mp3.readUInt16BE(at) & 0xfffa, 0xfffa, `no frame at byte ${at}`);
    assert.equal(mp3[at + 2]! & 0x0c, 0, `another sample rate at byte ${at}`);
    const padding = (mp3[at + 2]! >> 1) & 1;
    at += Math.floor((144_000 * bitrates[mp3[at + 2]! >> 4]!) / sampleRateHz) + padding;
  }
  assert.equal(at, mp3.length, "the last frame is cut off");
  return (frames * 1152) / sampleRateHz;
}

const tusHeaders = { "tus-resumable": "1.0.0" };

/** How many bytes of a resumable upload the service has. */
export async function offsetOf(url: string): Promise<number> {
  const { status, headers } = await fetch(url, { method: "HEAD", headers: tusHeaders });
  assert.equal(status, 200);
  return Number(headers.get("upload-offset"));
}

/** Sends bytes of a resumable upload, of which the service has `offset`. */
export async function append(
  url: string,
  offset: number,
  body: Blob | ReadableStream,
  signal?: AbortSignal,
): Promise<Response> {
  const type = { "content-type": "application/offset+octet-stream", "upload-offset": String(offset) };
  const request = {
    method: "PATCH",
    headers: { ...tusHeaders, ...type },
    body,
    duplex: "half",
    signal: signal ?? null,
  };
  return await fetch(url, request);
}

/** Sends what is missing of a file, as docs/resumable.md says, and returns the recording. */
export async function sendRest(url: string, file: Blob): Promise<any> {
  for (let attempt = 0; attempt < 20; attempt++) {
    const offset = await offsetOf(url);
    const response = await append(url, offset, file.slice(offset));
    const text = await response.text();
    if (response.status === 200) return JSON.parse(text).data.upload.recording;
    assert([204, 408, 409, 423, 429, 503].includes(response.status), `${response.status} ${text}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  throw new Error("The upload does not come to its end");
}

/** Starts a resumable upload as clients do that know only tus, and returns its address. */
export async function startWithTus(token: string, bytes: number): Promise<string> {
  const metadata = `filename ${Buffer.from("tus.wav").toString("base64")}`;
  const response = await fetch(`${base}/uploads`, {
    method: "POST",
    headers: { ...tusHeaders, ...bearer(token), "upload-length": String(bytes), "upload-metadata": metadata },
  });
  assert.equal(response.status, 201, await response.text());
  return new URL(response.headers.get("location")!, base).href;
}
