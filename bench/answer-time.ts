/**
 * Measures the time from the last byte of an upload to its response. A client that counts the bytes it has sent cannot
 * show progress for this time. After `npm run build`: `node dist/bench/answer-time.js`.
 */
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { setTimeout } from "node:timers/promises";
import { ApiClient } from "../test/support/api-client.ts";
import { startTestPostgres } from "../test/support/global-setup.ts";
import { startService } from "../test/support/service.ts";
import { sineWavStream } from "../test/support/wav-maker.ts";

const runs = 3;
const boundary = "answer-time";

const postgres = await startTestPostgres({ fsync: true });
const service = await startService();
const { token } = await new ApiClient(service.url).createUser();

/** Uploads this many seconds of stereo sound at this many bytes per second. Both results are in seconds. */
async function upload(seconds: number, bytesPerSecond: number): Promise<{ sending: number; answer: number }> {
  const operations = JSON.stringify({
    query: "mutation ($file: Upload!) { uploadRecord(file: $file) { record { id } } }",
    variables: { file: null },
  });
  const part = (disposition: string) => `--${boundary}\r\nContent-Disposition: form-data; ${disposition}\r\n\r\n`;
  const headers = {
    authorization: `Bearer ${token}`,
    "apollo-require-preflight": "true",
    "content-type": `multipart/form-data; boundary=${boundary}`,
  };
  const request = httpRequest(`${service.url}/graphql`, { method: "POST", headers });
  const answered = once(request, "response");
  const start = performance.now();
  request.write(
    `${part('name="operations"')}${operations}\r\n${part('name="map"')}{"0":["variables.file"]}\r\n` +
      part('name="0"; filename="take.wav"'),
  );
  let sentBytes = 0;
  for await (const second of sineWavStream({ seconds })) {
    for (let at = 0; at < second.length; at += 16_384) {
      const piece = second.subarray(at, at + 16_384);
      if (!request.write(piece)) await once(request, "drain");
      sentBytes += piece.length;
      const aheadSeconds = sentBytes / bytesPerSecond - (performance.now() - start) / 1000;
      if (aheadSeconds > 0.01) await setTimeout(aheadSeconds * 1000);
    }
  }
  await new Promise<void>((resolve) => request.end(`\r\n--${boundary}--\r\n`, resolve));
  const sent = performance.now();
  const [response] = await answered;
  if (response.statusCode !== 200) throw new Error(`The upload was answered with ${response.statusCode}`);
  const end = performance.now();
  response.resume();
  return { sending: (sent - start) / 1000, answer: (end - sent) / 1000 };
}

for (const [seconds, megabitsPerSecond] of [
  [60, 10],
  [60, Infinity],
  [600, 100],
  [600, Infinity],
] as const) {
  const results = [];
  for (let run = 0; run < runs; run++) results.push(await upload(seconds, (megabitsPerSecond * 1e6) / 8));
  const { sending, answer } = results.toSorted((one, other) => one.answer - other.answer)[Math.floor(runs / 2)]!;
  process.stdout.write(
    `${seconds} s of sound at ${megabitsPerSecond} Mbit/s: ${sending.toFixed(2)} s of sending, ` +
      `the answer ${answer.toFixed(3)} s after the last byte\n`,
  );
}
await service[Symbol.asyncDispose]();
await postgres[Symbol.asyncDispose]();
