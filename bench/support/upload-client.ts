import { once } from "node:events";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { request } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import type { Credentials } from "../../test/support/api-client.ts";

/** An upload and its response. */
export interface Upload {
  readonly url: string;
  readonly sizeBytes: number;
  /** From the first byte of the request to the response. */
  readonly seconds: number;
  /** From the moment at which the system took the last byte of the file to the response. */
  readonly lastByteToAnswerSeconds: number;
  /** How much later than its rate allows the client could send the last byte, because the service made it wait. */
  readonly heldBackSeconds: number;
}

const boundary = "----benchmark";
const query = "mutation ($file: Upload!) { uploadRecord(file: $file) { record { id url sizeBytes } } }";
const front = [
  part('name="operations"', JSON.stringify({ query, variables: { file: null } })),
  part('name="map"', '{"0":["variables.file"]}'),
  part('name="0"; filename="take.wav"\r\nContent-Type: audio/wav', ""),
].join("\r\n");
const back = `\r\n--${boundary}--\r\n`;

/** Uploads a file from the disk, at the given rate or as fast as the service reads. */
export async function uploadFile(
  service: string,
  user: Credentials,
  path: string,
  bytesPerSecond = Infinity,
): Promise<Upload> {
  const fileBytes = (await stat(path)).size;
  const started = performance.now();
  const post = request(`${service}/graphql`, {
    method: "POST",
    headers: {
      "content-type": `multipart/form-data; boundary=${boundary}`,
      "content-length": front.length + fileBytes + back.length,
      "apollo-require-preflight": "true",
      authorization: `Bearer ${user.token}`,
    },
  });
  const answered = once(post, "response");
  post.write(front);
  let sentBytes = 0;
  // A client with a rate writes small pieces, as a network card does; one without should cost little CPU.
  const pieceBytes = Math.min(bytesPerSecond === Infinity ? 1024 * 1024 : 64 * 1024, fileBytes);
  for await (const piece of createReadStream(path, { highWaterMark: pieceBytes })) {
    sentBytes += piece.length;
    if (!post.write(piece)) await Promise.race([once(post, "drain"), answered]);
    const aheadMs = (sentBytes / bytesPerSecond) * 1000 - (performance.now() - started);
    if (aheadMs > 1) await delay(aheadMs);
  }
  post.end(back);
  await once(post, "finish");
  const lastByte = performance.now();
  const [response] = await answered;
  const answer = await text(response);
  const finished = performance.now();
  if (response.statusCode !== 200) throw new Error(`Upload refused: ${answer}`);
  return {
    ...JSON.parse(answer).data.uploadRecord.record,
    seconds: (finished - started) / 1000,
    lastByteToAnswerSeconds: (finished - lastByte) / 1000,
    heldBackSeconds: (lastByte - started) / 1000 - fileBytes / bytesPerSecond,
  };
}

function part(name: string, value: string): string {
  return `--${boundary}\r\nContent-Disposition: form-data; ${name}\r\n\r\n${value}`;
}
