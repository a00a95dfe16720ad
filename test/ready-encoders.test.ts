import { afterEach, describe, expect, it, jest } from "@jest/globals";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { EncoderPool } from "../src/audio/encoder/encoder-pool.ts";
import type { FfmpegProcess } from "../src/audio/encoder/ffmpeg-starter.ts";
import { encodeMp3 } from "../src/audio/encoder/mp3-encoder.ts";
import type { EncoderStart } from "../src/audio/encoder/ready-encoders.ts";
import { mp3BitrateFor } from "../src/audio/mp3/quality.ts";
import { bytesPerPcmFrame, type PcmFormat } from "../src/audio/pcm-format.ts";
import { ApiClient } from "./support/api-client.ts";
import { assertNoFfmpegRuns, encodersOf, ffmpeg, ffmpegChildrenOf } from "./support/ffmpeg.ts";
import { startServiceProcess } from "./support/service-process.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const never = new AbortController().signal;
const cd: PcmFormat = { sampleFormat: "s16le", sampleRateHz: 44_100, channels: 2 };
const silence = Buffer.alloc(3 * 44_100 * 4);
const loudNoise = Buffer.from(silence.map((_, i) => (i * i * 7919 + i * 104_729) >>> 8));

afterEach(assertNoFfmpegRuns);

describe("encoders that are ready before they are needed", () => {
  it.each([
    [44_100, 2, 192],
    [48_000, 2, 192],
    [48_000, 1, 96],
    [96_000, 2, 192],
    [22_050, 1, 64],
  ] as const)(
    "make the same MP3 as new ones, whatever was encoded before, at %i Hz with %i channels and %i kbit/s",
    async (sampleRateHz, channels, kbps) => {
      const format = { ...cd, sampleRateHz, channels };
      await using pool = new EncoderPool({ ffmpeg, size: 2 });
      for (const sound of [loudNoise, loudNoise]) await encode(pool, sound, format, kbps);
      expect(await readyOf(pool)).toBe(2);
      for (const sound of [silence, tone(), silence.subarray(0, 44_000)]) {
        await readyOf(pool);
        const before = await childrenOnce(2);
        const { mp3, pids } = await encode(pool, sound, format, kbps);
        expect(before).toContain(pids[0]);
        await using fresh = new EncoderPool({ ffmpeg, size: 2 });
        expect(mp3.equals((await encode(fresh, sound, format, kbps)).mp3)).toBe(true);
      }
    },
  );

  it.each([
    [44_100, 2, "s16le"],
    [48_000, 1, "f32le"],
    [96_000, 2, "s16le"],
    [22_050, 1, "s16le"],
    [37_800, 1, "s16le"],
    [11_025, 1, "f32le"],
    [8000, 1, "s16le"],
    [1000, 1, "s16le"],
    [768_000, 2, "f32le"],
  ] as const)(
    "make the same MP3 if they have got the silence before a short sound: %i Hz, %i channels, %s",
    async (sampleRateHz, channels, sampleFormat) => {
      const kbps = mp3BitrateFor(sampleRateHz, channels, "STANDARD");
      const format = { sampleFormat, sampleRateHz, channels };
      const frameBytes = bytesPerPcmFrame(format);
      const silentBytes = 3503 * frameBytes;
      const samples = new Int16Array(tone().buffer).subarray(0, 4000 * channels);
      const sound = Buffer.from(
        (sampleFormat === "s16le" ? samples.slice() : Float32Array.from(samples, (x) => x / 32_768)).buffer,
      );
      const short = Buffer.concat([Buffer.alloc(silentBytes), sound, Buffer.alloc(2304 * frameBytes)]);
      await using pool = new EncoderPool({ ffmpeg, size: 2 });
      const plain = await encode(pool, short, format, kbps);
      for (let i = 0; i < 2; i++) await encode(pool, short, format, kbps, silentBytes);
      expect(await readyOf(pool)).toBe(2);
      for (let i = 0; i < 3; i++) {
        await readyOf(pool);
        const before = await childrenOnce(2);
        const { mp3, pids } = await encode(pool, short, format, kbps, silentBytes);
        expect(before).toContain(pids[0]);
        expect(mp3.equals(plain.mp3)).toBe(true);
      }
    },
  );

  it("have encoded the silence before a short sound before that comes", async () => {
    const short = Buffer.concat([Buffer.alloc(3503 * 4), tone().subarray(0, 20_000)]);
    const memoryOf = async (silentBytes: number): Promise<number[]> => {
      await using pool = new EncoderPool({ ffmpeg, size: 1 });
      for (let i = 0; i < 2; i++) await encode(pool, short, cd, 192, silentBytes);
      expect(await readyOf(pool)).toBe(2);
      return await settledMemory();
    };
    const [one, other] = [await memoryOf(0), await memoryOf(3503 * 4)];
    // What LAME keeps in memory.
    expect(Math.min(...other) - Math.max(...one)).toBeGreaterThan(200);
  });

  it("are not given the silence beforehand where ffmpeg lacks the filter for it, which the image's has", async () => {
    const silentBytes = 3503 * 4;
    const short = Buffer.concat([Buffer.alloc(silentBytes), tone().subarray(0, 20_000)]);
    const { setsRate, ...lacking } = ffmpeg;
    await using usual = new EncoderPool({ ffmpeg, size: 1 });
    await using pool = new EncoderPool({ ffmpeg: lacking, size: 1 });
    const [one, other] = [
      await encode(usual, short, cd, 192, silentBytes),
      await encode(pool, short, cd, 192, silentBytes),
    ];
    const filtersOf = ({ start }: Attempt) =>
      [...start.args.join(" ").matchAll(/ -af (\w+)=/g)].map(([, name]) => name);
    expect([setsRate, filtersOf(one), filtersOf(other)]).toEqual([true, ["asetrate"], []]);
    expect(one.mp3.equals(other.mp3)).toBe(true);
    const dockerfile = await readFile(join(import.meta.dirname, "../../Dockerfile"), "utf8");
    expect(/--enable-filter=(\S+)/.exec(dockerfile)?.[1]?.split(",")).toContain("asetrate");
  });

  it.each([0, 3000])("do not begin a sound with more silence than it has: %i samples", async (silentSamples) => {
    const most = Buffer.alloc(3503 * 4);
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    for (let i = 0; i < 2; i++) await encode(pool, Buffer.concat([most, tone()]), cd, 192, most.length);
    expect(await readyOf(pool)).toBe(2);
    const before = await childrenOnce(2);
    const sound = Buffer.concat([Buffer.alloc(silentSamples * 4), tone()]);
    const { mp3, pids } = await encode(pool, sound, cd, 192, silentSamples * 4);
    expect(before).not.toContain(pids[0]);
    await using fresh = new EncoderPool({ ffmpeg, size: 1 });
    expect(mp3.equals((await encode(fresh, sound)).mp3)).toBe(true);
  });

  it("never get a second sound, also after an upload that failed", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    const used: (number | undefined)[] = [];
    for (let i = 0; i < 4; i++) used.push(...(await encode(pool, tone())).pids);
    expect(await readyOf(pool)).toBe(2);
    const failing = new AbortController();
    async function* untilItFails(): AsyncGenerator<Buffer> {
      yield tone();
      failing.abort(new Error("Enough."));
      yield tone();
    }
    const { pids, outcome } = await attempt(pool, untilItFails(), cd, 192, failing.signal);
    expect(outcome).toEqual(Error("Enough."));
    used.push(...pids);
    expect(await readyOf(pool)).toBe(2);
    for (let i = 0; i < 3; i++) used.push(...(await encode(pool, tone())).pids);
    expect(new Set(used).size).toBe(used.length);
    const left = await until(
      async () => await runningOf(used),
      ({ length }) => length === 0,
    );
    expect(left).toEqual([]);
  });

  it("are of the kinds that were asked for last and twice, and few", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    for (const kbps of [192, 128, 128, 192, 160]) await encode(pool, tone(), cd, kbps);
    expect(await until(bitratesOf, (kbps) => kbps.join() === "128k,192k")).toEqual(["128k", "192k"]);
    for (let i = 0; i < 8; i++) await encode(pool, tone(), cd, 96);
    expect(await until(bitratesOf, (kbps) => kbps.join() === "96k,96k")).toEqual(["96k", "96k"]);
    expect(await readyOf(pool)).toBe(2);
  });

  it("do not start while conversions use all encoders", async () => {
    useFakeTimers();
    try {
      await using pool = new EncoderPool({ ffmpeg, size: 1 });
      await encode(pool, tone());
      const { start } = await encode(pool, tone());
      jest.advanceTimersByTime(1000);
      expect(pool.ready).toBe(2);
      const first = await pool.acquire(never);
      const second = pool.acquire(never);
      await using _child = pool.start(start);
      first[Symbol.dispose]();
      using _second = await second;
      jest.advanceTimersByTime(1000);
      expect([pool.ready, pool.running, pool.taken]).toEqual([1, 1, 1]);
      _second[Symbol.dispose]();
      jest.advanceTimersByTime(1000);
      expect([pool.ready, pool.running, pool.taken]).toEqual([2, 1, 0]);
    } finally {
      jest.useRealTimers();
    }
  });

  it("are replaced if one ends by itself", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    await encode(pool, tone());
    await encode(pool, tone());
    expect(await readyOf(pool)).toBe(2);
    for (const pid of await childrenOnce(2)) process.kill(pid, "SIGKILL");
    expect(await readyOf(pool, 0)).toBe(0);
    await encode(pool, tone());
    expect(await readyOf(pool)).toBe(2);
  });

  it("end when nobody has used them for a while", async () => {
    useFakeTimers();
    try {
      await using pool = new EncoderPool({ ffmpeg, size: 1 });
      await encode(pool, tone());
      await encode(pool, tone());
      jest.advanceTimersByTime(1000);
      expect(pool.ready).toBe(2);
      jest.advanceTimersByTime(290_000);
      expect(pool.ready).toBe(2);
      jest.advanceTimersByTime(10_000);
      expect(pool.ready).toBe(0);
      expect(await childrenOnce(0)).toEqual([]);
    } finally {
      jest.useRealTimers();
    }
  });

  it.each(["SIGTERM", "SIGKILL"] as const)("end with a service that gets %s", async (signal) => {
    await using database = await createTestDatabase();
    await using service = await startServiceProcess({ DATABASE_URL: database.url, ENCODERS: "1" });
    const client = new ApiClient(service.url);
    const ann = await client.createUser("Ann");
    for (let i = 0; i < 2; i++) expect((await client.uploadRecord(ann, sineWav({ seconds: 1 }))).status).toBe(200);
    const ready = await childrenOnce(2, service.child.pid);
    const atWork = async () => await encodersOf(service.child.pid);
    expect(await until(atWork, ({ length }) => length === 0)).toEqual([]);
    service.child.kill(signal);
    expect(await service.ended).toBe(signal === "SIGTERM" ? 0 : signal);
    expect(
      await until(
        async () => await runningOf(ready),
        ({ length }) => length === 0,
      ),
    ).toEqual([]);
  });
});

/** The number of ready processes, when it is `count`. */
async function readyOf(pool: EncoderPool, count = 2): Promise<number> {
  return await until(
    () => pool.ready,
    (ready) => ready === count,
  );
}

/**
 * The ids of the ffmpeg processes that a process has started, when there are `count`. For a moment, a new one has no
 * command line, since it becomes ffmpeg in several steps.
 */
async function childrenOnce(count: number, parent = process.pid): Promise<number[]> {
  const pids = await until(
    async () => await ffmpegChildrenOf(parent),
    ({ length }) => length === count,
  );
  expect(pids).toHaveLength(count);
  return pids;
}

/** The bit rates of all encoders that this process has started. */
async function bitratesOf(): Promise<string[]> {
  const pids = await ffmpegChildrenOf(process.pid);
  const commands = await Promise.all(pids.map(commandOf));
  return commands.map((command) => /-b:a\0(\w+)/.exec(command)?.[1] ?? command).toSorted();
}

/** Timers only; processes go on. */
function useFakeTimers(): void {
  jest.useFakeTimers({ doNotFake: ["performance", "queueMicrotask", "nextTick", "setImmediate"] });
}

interface Attempt {
  readonly mp3: Buffer;
  /** How the last process was started. */
  readonly start: EncoderStart;
  readonly pids: readonly (number | undefined)[];
  /** Why it failed. */
  readonly outcome: unknown;
}

/** Encodes a sound, and tells which processes did it. */
async function attempt(
  pool: EncoderPool,
  source: AsyncIterable<Buffer>,
  format: PcmFormat,
  bitrateKbps: number,
  signal: AbortSignal,
  silentBytes = 0,
): Promise<Attempt> {
  const chunks: Buffer[] = [];
  const children: FfmpegProcess[] = [];
  let lastStart: EncoderStart | undefined;
  let outcome: unknown;
  const startAs = (start: EncoderStart) => EncoderPool.prototype.start.call(pool, start);
  pool.start = (start) => {
    const child = startAs(start);
    children.push(child);
    lastStart = start;
    return child;
  };
  try {
    using turns = await pool.acquire(signal);
    for await (const bytes of encodeMp3(turns, source, format, { bitrateKbps, silentBytes }, signal))
      chunks.push(bytes);
  } catch (error) {
    outcome = error;
  }
  return { mp3: Buffer.concat(chunks), start: lastStart!, pids: children.map(({ pid }) => pid), outcome };
}

async function encode(
  pool: EncoderPool,
  sound: Buffer,
  format = cd,
  bitrateKbps = 192,
  silentBytes = 0,
): Promise<Attempt> {
  async function* source(): AsyncGenerator<Buffer> {
    yield sound;
  }
  const done = await attempt(pool, source(), format, bitrateKbps, never, silentBytes);
  expect(done.outcome).toBeUndefined();
  return done;
}

/** A second of a rising tone. */
function tone(): Buffer {
  const samples = new Int16Array(44_100 * 2).map((_, i) => 12_000 * Math.sin((i * i) / 4e6));
  return Buffer.from(samples.buffer);
}

async function runningOf(pids: readonly (number | undefined)[]): Promise<(number | undefined)[]> {
  const commands = await Promise.all(pids.map(commandOf));
  return pids.filter((_, i) => commands[i] !== "");
}

/** The memory of each of two processes that wait, in KiB, when it does not change any more. */
async function settledMemory(): Promise<number[]> {
  const pids = await childrenOnce(2);
  const memoryOf = async (pid: number) =>
    Number(/^Private_Dirty: +(\d+)/m.exec(await readFile(`/proc/${pid}/smaps_rollup`, "utf8"))![1]);
  for (let before: number[] = []; ;) {
    await delay(1000);
    const now = await Promise.all(pids.map(memoryOf));
    if (now.join() === before.join()) return now;
    before = now;
  }
}

async function commandOf(pid: number | undefined): Promise<string> {
  return await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
}
