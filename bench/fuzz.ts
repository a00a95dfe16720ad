/**
 * Sends random uploads to the whole service: WAV headers with changed bytes, and multipart bodies in which bytes were
 * changed, removed, inserted or cut off. Every request must get a JSON response with a code other than
 * INTERNAL_SERVER_ERROR, or a closed connection. The service must keep running and answer other requests, and at the
 * end nothing of the failed uploads may be left.
 *
 * `node dist/bench/fuzz.js [--seconds 60] [--seed 1]`; it uses DATABASE_URL if the environment has it.
 */
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { maxReadyEncoders } from "../src/audio/encoder/ready-encoders.ts";
import { ApiClient, type Credentials } from "../test/support/api-client.ts";
import { uploadRequest } from "../test/support/half-upload.ts";
import { connectRaw, type RawAnswer } from "../test/support/raw-http.ts";
import { ffmpegChildrenOf } from "../test/support/ffmpeg.ts";
import { startServiceProcess } from "../test/support/service-process.ts";
import { sineWav, wave64File, wavFile, type FormatOptions } from "../test/support/wav-maker.ts";

const { values } = parseArgs({ options: { seconds: { type: "string" }, seed: { type: "string" } } });
const seconds = Number(values.seconds ?? 60);
const seed = Number(values.seed ?? 1);
const patienceMs = 30_000;

const oddNumbers = [0, 1, 2, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
const oddTexts = [
  "\r\n",
  "\0",
  "--",
  "------test-boundary",
  '"',
  "null",
  "__proto__",
  "variables.",
  "[[[[",
  "é",
  "\r\n\r\n",
];

type Random = (below: number) => number;

/** The codecs that the reader decodes, with headers as they should be. */
const codedFormats: readonly FormatOptions[] = [
  { tag: 0x02, channels: 2, bits: 4, blockAlign: 256 },
  { tag: 0x11, channels: 1, bits: 4, blockAlign: 256 },
  { tag: 0x31, channels: 1, sampleRateHz: 8000, bits: 0, blockAlign: 65 },
  { tag: 0x45, channels: 1, sampleRateHz: 8000, bits: 2, blockAlign: 1 },
  { tag: 0x64, channels: 1, sampleRateHz: 8000, bits: 3, blockAlign: 3 },
  { tag: 0x40, channels: 1, sampleRateHz: 8000, bits: 4, blockAlign: 1 },
  { tag: 0x28f, channels: 1, sampleRateHz: 16_000, bits: 4, blockAlign: 1 },
  { tag: 0x17, channels: 1, sampleRateHz: 6000, bits: 4, blockAlign: 1 },
  { tag: 0x20, channels: 2, sampleRateHz: 22_050, bits: 4, blockAlign: 1 },
];

const dataDir = await mkdtemp(join(tmpdir(), "web-user-music-fuzz-"));
await chmod(dataDir, 0o711); // run as root, PostgreSQL becomes another user
try {
  const { DATABASE_URL } = process.env;
  await using service = await startServiceProcess({
    DATA_DIR: dataDir,
    STALL_TIMEOUT_SECONDS: "2",
    ...(DATABASE_URL && { DATABASE_URL }),
  });
  const client = new ApiClient(service.url);
  const user = await client.createUser("Fuzz");
  const outcomes = new Map<string, number>();
  const findings: string[] = [];
  const end = performance.now() + seconds * 1000;
  let number = 0;

  async function work(): Promise<void> {
    while (performance.now() < end) {
      const id = number++;
      const outcome = await attempt(service.port, user, id);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      if (/INTERNAL|no answer|not JSON/.test(outcome)) findings.push(`request ${id} of seed ${seed}: ${outcome}`);
    }
  }
  await Promise.all(Array.from({ length: 4 }, work));

  const last = await client.uploadRecord(user, sineWav({ seconds: 1 }), { fields: "durationSeconds" });
  if (last.data?.uploadRecord?.record.durationSeconds !== 1) findings.push(`the last good upload: ${last.status}`);
  await delay(1000);
  const children = await ffmpegChildrenOf(service.child.pid);
  if (children.length > maxReadyEncoders) findings.push(`${children.length} ffmpeg processes are left`);
  service.child.kill("SIGTERM");
  const ended = await service.ended;
  if (ended !== 0) findings.push(`the service ended with ${ended}`);

  console.log(`${number} requests with seed ${seed} in ${seconds} s`);
  console.log(Object.fromEntries([...outcomes].toSorted(([, a], [, b]) => b - a)));
  console.log(findings.length === 0 ? "nothing found" : findings.slice(0, 50).join("\n"));
  process.exitCode = findings.length === 0 ? 0 : 1;
} finally {
  await rm(dataDir, { recursive: true, force: true });
}

/** Sends one request, which depends only on the seed and the number, and returns the result. */
async function attempt(port: number, user: Credentials, number: number): Promise<string> {
  const random = randomFrom(seed * 1_000_003 + number);
  const bytes = mutatedRequest(user, random);
  using connection = await connectRaw(port);
  if (random(10) === 0) {
    await connection.send(bytes.subarray(0, random(bytes.length)));
    connection.reset();
    return "reset by the client";
  }
  void connection.send(bytes);
  if (random(4) === 0) connection.socket.end();
  const timer = new AbortController();
  const late = delay(patienceMs, "late" as const, { signal: timer.signal }).catch(() => "late" as const);
  const answer = await Promise.race([connection.answer(), late]);
  timer.abort();
  if (answer === "late") return "no answer in time";
  return answer ? describe(answer) : "closed by the service";
}

function describe({ status, body }: RawAnswer): string {
  try {
    const { errors, error } = JSON.parse(body) as Record<string, any>;
    return `${status} ${errors?.[0]?.extensions.code ?? error?.code ?? "stored"}`;
  } catch {
    return `${status} not JSON`;
  }
}

function mutatedRequest(user: Credentials, random: Random): Buffer {
  const wav = anyWav(random);
  const header = random(2) === 0;
  if (header) for (let times = 1 + random(6); times > 0; times--) mutateHeader(wav, random);
  const { bytes, fileStart } = uploadRequest(user, wav);
  if (header && random(4) > 0) return bytes;
  const bodyStart = bytes.indexOf("\r\n\r\n") + 4;
  const pieces = [bytes.subarray(0, bodyStart), mutateBody(bytes.subarray(bodyStart), fileStart - bodyStart, random)];
  return Buffer.concat(pieces);
}

/** PCM, coded sound of random bits, or a Sony Wave64 file. */
function anyWav(random: Random): Buffer {
  const kind = random(4);
  if (kind === 0) {
    const format = codedFormats[random(codedFormats.length)]!;
    return wavFile({ format, data: Buffer.from(Array.from({ length: random(5000) }, () => random(256))) });
  }
  if (kind === 1) {
    const data = Buffer.concat(Array.from({ length: 1 + random(20) }, () => mp3Frame(random)));
    return wavFile({ format: { tag: 0x55, channels: 2, bits: 0, blockAlign: 1 }, data });
  }
  const wav = sineWav({
    seconds: 0.05 + random(10) / 20,
    channels: 1 + random(3),
    bits: ([8, 16, 24] as const)[random(3)]!,
  });
  return random(8) > 0
    ? wav
    : wave64File({
        chunks: [
          ["fmt ", wav.subarray(20, 36)],
          ["data", wav.subarray(44)],
        ],
      });
}

/** A frame of 128 kbit/s at 44.1 kHz whose header is right, mostly. */
function mp3Frame(random: Random): Buffer {
  const frame = Buffer.from(Array.from({ length: 417 }, () => random(256)));
  frame.writeUInt32BE(0xfffb_9064, 0);
  if (random(10) === 0) frame[random(4)] = random(256);
  return frame;
}

function mutateHeader(wav: Buffer, random: Random): void {
  const at = random(46);
  const odd = oddNumbers[random(oddNumbers.length)]!;
  const kind = random(3);
  if (kind === 0) wav[at] = random(256);
  else if (kind === 1) wav.writeUInt16LE(odd & 0xffff, at);
  else wav.writeUInt32LE(odd, at);
}

/**
 * Changes the body. Its length may then differ from the announced one. Most changes hit the small part before the file.
 */
function mutateBody(body: Buffer, fileStart: number, random: Random): Buffer {
  let mutated = Buffer.from(body);
  for (let times = 1 + random(4); times > 0; times--) {
    const at = random(4) === 0 ? random(mutated.length) : random(fileStart);
    const kind = random(5);
    const odd = Buffer.from(oddTexts[random(oddTexts.length)]!);
    if (kind === 0) mutated[at] = random(256);
    else if (kind === 1) odd.copy(mutated, at);
    else if (kind === 2) mutated = Buffer.concat([mutated.subarray(0, at), odd, mutated.subarray(at)]);
    else if (kind === 3) mutated = Buffer.concat([mutated.subarray(0, at), mutated.subarray(at + random(30))]);
    else mutated.subarray(at, at + random(40)).reverse();
  }
  return mutated;
}

/** Whole numbers that are the same in every run (mulberry32). */
function randomFrom(start: number): Random {
  let state = start | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
