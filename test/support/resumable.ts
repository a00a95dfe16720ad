import { expect } from "@jest/globals";
import { Readable } from "node:stream";
import { ApiClient, type Credentials } from "./api-client.ts";
import { decodeWithFfmpeg } from "./mp3-decoders.ts";
import { infoChunk, sineWav, wavFile } from "./wav-maker.ts";

/** A request of the tus protocol. */
export interface TusRequest {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: Buffer | Readable | undefined;
  /** Breaks the connection when it is aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** A stereo take with a title in its tags, whose loudness changes. */
export function take(seconds: number): Buffer {
  const wav = sineWav({ seconds, frequencyHz: 430, amplitude: 0.8, channels: 2, bits: 16 });
  const data = wav.subarray(wav.indexOf("data") + 8);
  for (let at = 0; at < data.length; at += 4410 * 4) data.writeInt16LE(Math.round(20_000 * Math.sin(at)), at);
  return wavFile({ data, after: [infoChunk({ INAM: "A take" })] });
}

/** Starts an upload with GraphQL. */
export async function begin(client: ApiClient, user: Credentials, variables: object): Promise<any> {
  const start = `mutation ($fileName: String!, $sizeBytes: SafeInt, $key: UUID, $sha: String) {
    startUpload(fileName: $fileName, sizeBytes: $sizeBytes, idempotencyKey: $key, sourceSha256: $sha) {
      upload { id url offset expiresAt }
    }
  }`;
  const { data, errors } = await client.run(start, { fileName: "take.wav", ...variables }, user);
  expect(errors).toBeUndefined();
  return data.startUpload.upload;
}

/** Sends a request of the tus protocol. */
export async function tus(
  url: string,
  { method = "PATCH", headers = {}, body, signal }: TusRequest = {},
): Promise<Response> {
  const bytes = body instanceof Readable ? (Readable.toWeb(body) as any) : body && new Uint8Array(body);
  const request = {
    method,
    headers: { "tus-resumable": "1.0.0", ...headers },
    body: bytes,
    duplex: "half",
    signal: signal ?? null,
  };
  return await fetch(url, request);
}

/** Sends bytes of a file, of which so many have arrived. */
export async function append(
  url: string,
  body: Buffer | Readable,
  offset: number,
  headers: Record<string, string> = {},
  signal?: AbortSignal,
): Promise<Response> {
  const type = { "content-type": "application/offset+octet-stream" };
  return await tus(url, { headers: { ...type, "upload-offset": String(offset), ...headers }, body, signal });
}

/** How many bytes of an upload have arrived. */
export async function offsetOf(url: string): Promise<number> {
  const head = await tus(url, { method: "HEAD" });
  expect(head.status).toBe(200);
  return Number(head.headers.get("upload-offset"));
}

/** The fields that do not depend on when or by what a file was sent. */
const facts =
  "title durationSeconds sizeBytes channels sampleRateHz warnings samplePeakDbfs truePeakDbtp " +
  "sourceSha256 tags { name value } loudness { integratedLufs rangeLu }";

/**
 * Uploads the same file in one request, and compares facts, length and sound of the two recordings. `given` is what only the
 * resumable upload was told.
 */
export async function expectSameAsInOneRequest(
  client: ApiClient,
  user: Credentials,
  wav: Buffer,
  recording: { readonly url: string },
  given: { readonly title?: string; readonly fileName?: string } = {},
): Promise<void> {
  const { data, errors } = await client.uploadRecord(user, wav, { fields: `url ${facts}` });
  expect(errors).toBeUndefined();
  const { url, ...plain } = data.uploadRecord.record;
  expect(recording).toMatchObject({ ...plain, ...given });
  const [mp3, other] = await Promise.all([bytesOf(recording.url), bytesOf(url)]);
  expect(mp3).toHaveLength(plain.sizeBytes);
  const [sound, wanted] = [await decodeWithFfmpeg(mp3), await decodeWithFfmpeg(other)];
  expect(sound).toHaveLength(wanted.length);
  let [signal, noise] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    signal += wanted[i]! ** 2;
    noise += (wanted[i]! - sound[i]!) ** 2;
  }
  expect(noise).toBeLessThan(signal / 1000);
}

async function bytesOf(url: string): Promise<Buffer> {
  return Buffer.from(await (await fetch(url)).arrayBuffer());
}
