import { afterEach, describe, expect, it } from "@jest/globals";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { EncoderTurns } from "../src/audio/encoder/encoder-pool.ts";
import { EncoderPool } from "../src/audio/encoder/encoder-pool.ts";
import type { Ffmpeg } from "../src/audio/encoder/ffmpeg.ts";
import { mp3FramesFor } from "../src/audio/encoder/frame-grid.ts";
import { encodeMp3, type Mp3Settings } from "../src/audio/encoder/mp3-encoder.ts";
import { mp3BitrateFor, mp3RateFor } from "../src/audio/mp3/quality.ts";
import { decoderDelaySamples, lameDelaySamples } from "../src/audio/mp3/mp3-frame.ts";
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { assertNoFfmpegRuns, encodersOf, ffmpeg, ffmpegChildrenOf } from "./support/ffmpeg.ts";
import {
  decodedDelay,
  decodeMp3,
  errorsByWindow,
  excessErrorDb,
  leveled,
  readFrames,
  readReservoir,
  resample16Bit,
} from "./support/mp3.ts";
import { decodeWithMpg123, encodeMp3 as encodeInOnePass } from "./support/mp3-decoders.ts";
import { until } from "./support/until.ts";

// Looking up a global is slow in Jest's sandbox, and these are used in loops over samples.
const { sin, exp, round, floor, imul, PI } = Math;

const never = new AbortController().signal;
const cd: PcmFormat = { sampleFormat: "s16le", sampleRateHz: 44_100, channels: 2 };
const settings = { bitrateKbps: 192 };

afterEach(assertNoFfmpegRuns);

describe("one encoder", () => {
  const ratesHz = [48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000];

  it.each([...ratesHz, 96_000, 88_200, 384_000, 37_800, 5000])(
    "gives every sample of a %i Hz source",
    async (rateHz) => {
      await using pool = new EncoderPool({ ffmpeg, size: 1 });
      for (const sampleFormat of ["s16le", "f32le"] as const) {
        const format = { sampleFormat, sampleRateHz: rateHz, channels: 1 } as const;
        const length = Math.round(rateHz * 0.73) + 13;
        const kbps = mp3BitrateFor(rateHz, 1, "STANDARD");
        const { mp3 } = await encode(pool, [pcmOf(sweep(length, rateHz), format)], format, {
          bitrateKbps: kbps,
        });
        const sampleRateHz = mp3RateFor(rateHz);
        const samplesPerFrame = sampleRateHz >= 32_000 ? 1152 : 576;
        const frames = readFrames(mp3);
        for (const frame of frames) expect(frame).toMatchObject({ sampleRateHz, channels: 1, samplesPerFrame });
        const samples = Math.round((length * sampleRateHz) / rateHz);
        const padding = frames.length * samplesPerFrame - lameDelaySamples - samples;
        expect(padding).toBeGreaterThanOrEqual(decoderDelaySamples);
        expect(padding).toBeLessThan(decoderDelaySamples + 2 * 1152);
        const source = sweep(samples, sampleRateHz);
        const decoded = leveled(decodeMp3(mp3).subarray(decodedDelay), source);
        expect(errorsByWindow(decoded, source, source.length)[0]).toBeLessThan(0.004);
        // The end is present as well.
        expect(errorsByWindow(decoded, source, 500).at(-2)).toBeLessThan(0.02);
      }
    },
  );

  it("creates the expected number of frames for any number of samples", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    for (const [sampleRateHz, samplesPerFrame] of [
      [44_100, 1152],
      [22_050, 576],
    ] as const) {
      const format = { sampleFormat: "s16le", sampleRateHz, channels: 2 } as const;
      for (const length of [1, 575, 576, 577, 1151, 1152, 1153, 1729]) {
        const { mp3 } = await encode(pool, [Buffer.alloc(length * 4)], format, { bitrateKbps: 96 });
        expect(readFrames(mp3)).toHaveLength(mp3FramesFor(length, samplesPerFrame));
      }
    }
  });

  it("accepts PCM in pieces of any size, cut inside samples", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    const whole = pcmOf(sweep(20_000, 44_100), cd);
    const pieces: Buffer[] = [];
    for (let at = 0, size = 1; at < whole.length; at += size, size = (size * 7 + 3) % 5001)
      pieces.push(whole.subarray(at, at + size));
    const cut = await encode(pool, pieces, cd);
    expect(cut.mp3.equals((await encode(pool, [whole], cd)).mp3)).toBe(true);
  });

  it("refuses a source without sound and one that ends inside a sample", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    await expect(encode(pool, [], cd)).rejects.toMatchObject({ code: "UPLOAD_INCOMPLETE" });
    await expect(encode(pool, [Buffer.alloc(4001)], cd)).rejects.toThrow("inside a sample");
    expect(pool.taken).toBe(0);
  });
});

describe("LAME's own stream", () => {
  it.each([
    [44_100, 192],
    [48_000, 320],
    [24_000, 96],
    [32_000, 96],
  ] as const)("comes through unchanged from one encoder at %i Hz and %i kbit/s", async (sampleRateHz, bitrateKbps) => {
    seed = 1;
    const format = { sampleFormat: "s16le", sampleRateHz, channels: 2 } as const;
    const pcm = pcmOf(
      new Float32Array(12 * sampleRateHz).map((_, i) => music(i / sampleRateHz)),
      format,
    );
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    const { mp3 } = await encode(pool, slices(pcm), format, { bitrateKbps });
    const samples = new Int16Array(pcm.buffer, pcm.byteOffset, pcm.length / 2);
    expect(mp3.equals(await encodeInOnePass(samples, sampleRateHz, 2, bitrateKbps))).toBe(true);
    expect(Math.max(...readReservoir(mp3))).toBeGreaterThan(100);
  });
});

describe("several encoders", () => {
  const seconds = 18;
  const materials: Record<string, (t: number, i: number) => number> = {
    "a sine": (t) => 0.5 * sin(2 * PI * 997 * t),
    "a sweep": (t) => 0.5 * sin(2 * PI * (20 + (200 * t) / 2) * t),
    noise: () => 0.3 * (2 * random() - 1),
    clicks: (_t, i) => (i % 700 === 0 ? 0.9 : 0),
    music: (t) => music(t) * (0.2 + 0.8 * exp(-6 * (t % 0.5))),
  };

  it.each(Object.keys(materials))("err nowhere more than one does: %s", async (name) => {
    seed = 1;
    const format = { sampleFormat: "s16le", sampleRateHz: 44_100, channels: 1 } as const;
    const source = new Float32Array(seconds * 44_100 + 321).map((_, i) => materials[name]!(i / 44_100, i));
    const pcm = slices(pcmOf(source, format));
    await using single = new EncoderPool({ ffmpeg, size: 1 });
    await using several = new EncoderPool({ ffmpeg, size: 3 });
    const one = await encode(single, pcm, format, { bitrateKbps: 96 });
    const many = await encode(several, pcm, format, { bitrateKbps: 96 });
    expect(one.processes).toBe(1);
    expect(many.processes).toBeGreaterThan(1);
    expect(readFrames(many.mp3)).toEqual(readFrames(one.mp3));
    readReservoir(many.mp3);
    const excess = excessErrorDb(many.mp3, one.mp3, source);
    expect(excess.all).toBeLessThan(0.1);
    expect(excess.worst).toBeLessThan(1);
  });

  it.each([96_000, 88_200, 192_000, 16_000])("share a source of %i Hz, which they resample", async (sampleRateHz) => {
    seed = 1;
    const mp3RateHz = mp3RateFor(sampleRateHz);
    const format = { sampleFormat: "s16le", sampleRateHz, channels: 1 } as const;
    const source = new Float32Array(seconds * sampleRateHz + 321).map((_, i) => materials.music!(i / sampleRateHz, i));
    const pcm = slices(pcmOf(source, format));
    await using single = new EncoderPool({ ffmpeg, size: 1 });
    await using several = new EncoderPool({ ffmpeg, size: 3 });
    const one = await encode(single, pcm, format, { bitrateKbps: 96 });
    const many = await encode(several, pcm, format, { bitrateKbps: 96 });
    expect([one.processes, many.processes > 1]).toEqual([1, true]);
    expect(readFrames(many.mp3)).toEqual(readFrames(one.mp3));
    readReservoir(many.mp3);
    const wanted = resample16Bit(Buffer.concat(pcm), sampleRateHz, mp3RateHz, 1);
    const excess = excessErrorDb(many.mp3, one.mp3, wanted);
    expect(excess.all).toBeLessThan(0.2);
    expect(excess.worst).toBeLessThan(3);
    // Some time after a joint, the sound is the same again; it never is if the resamplers are not at the same point.
    const decoded = [many.mp3, one.mp3].map(decodeMp3);
    const same = decoded[0]!.filter((sample, i) => sample === decoded[1]![i]);
    expect(same.length / decoded[1]!.length).toBeGreaterThan(0.4);
  });

  it("make one stream that players decode alike", async () => {
    seed = 1;
    const source = new Float32Array(20 * 44_100).map((_, i) => music(i / 44_100) * exp(-8 * ((i / 44_100) % 0.25)));
    await using pool = new EncoderPool({ ffmpeg, size: 3 });
    const { mp3, processes } = await encode(pool, slices(pcmOf(source, cd)), cd);
    expect(processes).toBeGreaterThan(1);
    const decoded = decodeMp3(mp3);
    const other = await decodeWithMpg123(mp3, 2);
    const begin = decoded.length - other.length; // mpg123 leaves out its own delay
    expect(begin).toBeGreaterThanOrEqual(0);
    let most = 0;
    for (let i = 0; i < other.length; i++) most = Math.max(most, Math.abs(other[i]! - decoded[i + begin]!));
    expect(most).toBeLessThan(1e-4);
  });

  it("use one process for a short clip", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 4 });
    const { processes } = await encode(pool, slices(Buffer.alloc(5 * 44_100 * 4)), cd);
    expect(processes).toBe(1);
  });

  it.each([44_100, 48_000, 96_000])("divide a short sound of %i Hz, if one of them is ready", async (sampleRateHz) => {
    seed = 1;
    const format = { sampleFormat: "s16le", sampleRateHz, channels: 1 } as const;
    const source = new Float32Array(5 * sampleRateHz + 321).map((_, i) => materials.music!(i / sampleRateHz, i));
    const pcm = pcmOf(source, format);
    const bounded = { bitrateKbps: 96, maxPcmBytes: pcm.length };
    await using single = new EncoderPool({ ffmpeg, size: 1 });
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    const one = await encode(single, [pcm], format, bounded);
    for (const expected of [1, 1, 2]) {
      // The first two show what is needed.
      if (expected === 2) await ready(pool, 2);
      const { mp3, processes } = await encode(pool, [pcm], format, bounded);
      expect(processes).toBe(expected);
      expect(readFrames(mp3)).toEqual(readFrames(one.mp3));
      readReservoir(mp3);
      const wanted = resample16Bit(pcm, sampleRateHz, mp3RateFor(sampleRateHz), 1);
      const excess = excessErrorDb(mp3, one.mp3, wanted);
      expect(excess.all).toBeLessThan(0.2);
      expect(excess.worst).toBeLessThan(3);
    }
  });

  it("leave a short sound to one, if its source is slow or it is too short to divide", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    const pcm = pcmOf(sweep(5 * 44_100, 44_100), cd);
    const bounded = { ...settings, maxPcmBytes: pcm.length };
    for (let i = 0; i < 2; i++) await encode(pool, [pcm], cd, bounded);
    await ready(pool, 2);
    let encoder: number | undefined;
    const start = pool.start.bind(pool);
    pool.start = (how) => {
      const child = start(how);
      encoder = child.pid;
      return child;
    };
    const slow = async function* () {
      for (const piece of slices(pcm)) {
        yield piece;
        await untilItReadsNothing(encoder!);
      }
    };
    expect((await encode(pool, slow(), cd, bounded)).processes).toBe(1);
    await ready(pool, 2);
    const clip = pcm.subarray(0, 2 * 44_100 * 4);
    expect((await encode(pool, [clip], cd, { ...settings, maxPcmBytes: clip.length })).processes).toBe(1);
  });

  it("keep a limited part of the sound in memory", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 4 });
    using turns = await pool.acquire(never);
    let read = 0;
    let written = 0;
    let most = 0;
    const piece = pcmOf(sweep(44_100, 44_100), cd);
    const source = async function* () {
      for (let second = 0; second < 120; second++) {
        read += piece.length;
        most = Math.max(most, read - written);
        yield piece;
      }
    };
    for await (const bytes of encodeMp3(turns, source(), cd, settings, never)) {
      written += readFrames(bytes).length * 1152 * 4;
    }
    expect(most).toBeLessThan(25 * 1024 * 1024);
  });

  // At the end of the sound, the second encoder can take no more, and what is left is too little for the first one.
  it.each([72, 74, 76])("end together although the first one stood still, after %i pieces", async (pieces) => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    const pcm = slices(pcmOf(sweep(44_100 * 45, 44_100), cd)).slice(0, pieces);
    const source = async function* () {
      yield pcm[0]!;
      const [first] = await until(
        async () => await encodersOf(process.pid),
        (encoders) => encoders.length > 0,
      );
      process.kill(first!, "SIGSTOP");
      for (const piece of pcm.slice(1)) {
        yield piece;
        await delay(10);
      }
      const [second] = (await ffmpegChildrenOf(process.pid)).filter((pid) => pid !== first);
      await untilItReadsNothing(second!);
      process.kill(first!, "SIGCONT");
    };
    const { mp3 } = await encode(pool, source(), cd, { bitrateKbps: 320 });
    expect(readFrames(mp3)).toHaveLength(mp3FramesFor((pieces * 65_536) / 4, 1152));
  });

  it("continue after a source that stalls", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 3 });
    const pcm = slices(pcmOf(sweep(44_100 * 30, 44_100), cd));
    const source = async function* () {
      yield* pcm;
      await new Promise((resolve) => setTimeout(resolve, 500));
      yield* pcm;
    };
    const { mp3, processes } = await encode(pool, source(), cd);
    expect(processes).toBeGreaterThan(1);
    expect(readFrames(mp3)).toHaveLength(mp3FramesFor(44_100 * 60, 1152));
  });

  it("give what they have made to a source that waits for it", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    using turns = await pool.acquire(never);
    const pcm = slices(pcmOf(sweep(44_100 * 20, 44_100), cd));
    const comes = Promise.withResolvers<void>();
    const source = async function* () {
      yield* pcm;
      await comes.promise;
    };
    const due = mp3FramesFor(44_100 * 20, 1152);
    let frames = 0;
    for await (const bytes of encodeMp3(turns, source(), cd, settings, never)) {
      frames += readFrames(bytes).length;
      // The last one holds some back.
      if (frames > due - 150) comes.resolve();
    }
    expect(frames).toBe(due);
  });
});

describe("turns", () => {
  it.each([
    [44_100, 2],
    [22_050, 1],
    [96_000, 1],
    [37_800, 1],
    [44_056, 2],
    [50_000, 1],
    [7919, 1],
  ] as const)("change nothing in the MP3 of a source of %i Hz and %i channels", async (sampleRateHz, channels) => {
    seed = 1;
    const format = { sampleFormat: "s16le", sampleRateHz, channels } as const;
    const kbps = mp3BitrateFor(sampleRateHz, 1, "STANDARD");
    const perMp3Sample = Math.max(1, sampleRateHz / mp3RateFor(sampleRateHz));
    const source = new Float32Array(Math.round(2.4 * 230_400 * perMp3Sample) + 321).map((_, i) => {
      const t = (i * 22_050) / sampleRateHz / sampleRateHz;
      return 0.4 * sin(2 * PI * 300 * t * (1 + t)) + 0.05 * random();
    });
    const pcm = slices(pcmOf(source, format));
    await using single = new EncoderPool({ ffmpeg, size: 1 });
    await using shared = new EncoderPool({ ffmpeg, size: 1, turnSeconds: 0 });
    let turns = 0;
    const start = shared.start.bind(shared);
    shared.start = (args) => {
      turns += 1;
      return start(args);
    };
    const one = await encode(single, pcm, format, { bitrateKbps: kbps });
    const both = await Promise.all([1, 2].map(async () => await encode(shared, pcm, format, { bitrateKbps: kbps })));
    expect(turns).toBeGreaterThan(2);
    const wanted = resample16Bit(Buffer.concat(pcm), sampleRateHz, mp3RateFor(sampleRateHz), channels);
    for (const { mp3 } of both) {
      expect(readFrames(mp3)).toEqual(readFrames(one.mp3));
      readReservoir(mp3);
      const excess = excessErrorDb(mp3, one.mp3, wanted);
      expect(excess.all).toBeLessThan(0.1);
      // Where the sound is simple, LAME's choices differ by more. A joint that does not fit costs 10 dB and more.
      expect(excess.worst).toBeLessThan(3);
    }
    expect([shared.taken, shared.waiting, shared.running]).toEqual([0, 0, 0]);
  });

  it("let a clip through beside sounds without end, and go on with those", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1, turnSeconds: 0 });
    const stop = new AbortController();
    const enough = new Error("Enough.");
    const long = [1, 2].map(
      async (owner) =>
        await encode(
          pool,
          endless(() => {}),
          cd,
          settings,
          stop.signal,
          owner,
        ),
    );
    const outcomes = Promise.allSettled(long);
    for (let clip = 0; clip < 2; clip++) {
      const { mp3 } = await encode(pool, slices(Buffer.alloc(10 * 44_100 * 4)), cd, settings, never, 3);
      expect(readFrames(mp3)).toHaveLength(mp3FramesFor(10 * 44_100, 1152));
    }
    stop.abort(enough);
    expect(await outcomes).toEqual([
      { status: "rejected", reason: enough },
      { status: "rejected", reason: enough },
    ]);
    expect([pool.taken, pool.waiting, pool.running]).toEqual([0, 0, 0]);
  });

  it.each([44_100, 44_056])(
    "end the process of a slow client's %i Hz when others need one, and the sound goes on after it",
    async (sampleRateHz) => {
      const format = { ...cd, sampleRateHz };
      await using pool = new EncoderPool({ ffmpeg, size: 1 });
      const goOn = Promise.withResolvers<void>();
      const piece = pcmOf(sweep(sampleRateHz + 7, sampleRateHz), format);
      const pieces = [piece.subarray(0, 99_999), piece.subarray(99_999)];
      async function* slowly(): AsyncGenerator<Buffer> {
        yield pieces[0]!;
        await goOn.promise;
        yield pieces[1]!;
      }
      const count = pool.maxParkedProcesses + 3;
      const slow = Array.from({ length: count }, async () => await encode(pool, slowly(), format));
      const counts = () => [pool.taken, pool.waiting, pool.running];
      const expected = [0, 0, pool.maxParkedProcesses];
      expect(await until(counts, (now) => now.join() === expected.join())).toEqual(expected);
      goOn.resolve();
      const one = await encode(pool, [piece], format);
      for (const { mp3 } of await Promise.all(slow)) expect(readFrames(mp3)).toEqual(readFrames(one.mp3));
      expect([pool.taken, pool.waiting, pool.running]).toEqual([0, 0, 0]);
    },
  );
});

describe("whatever goes wrong", () => {
  it("does not wait for an encoder that has returned all and does not end, and ends it", async () => {
    await using folder = await scriptFolder();
    const idle = await folder.encoderThat("exec sleep 600");
    await using pool = new EncoderPool({ ffmpeg: idle, size: 1, stallSeconds: 600 });
    let pid: number | undefined;
    const start = pool.start.bind(pool);
    pool.start = (how) => {
      const child = start(how);
      ({ pid } = child);
      return child;
    };
    const pcm = pcmOf(sweep(20_000, 44_100), cd);
    const { mp3 } = await encode(pool, [pcm], cd);
    await using usual = new EncoderPool({ ffmpeg, size: 1 });
    expect(mp3.equals((await encode(usual, [pcm], cd)).mp3)).toBe(true);
    expect([pool.taken, pool.running]).toEqual([0, 0]);
    const command = async () => await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    expect(await until(command, (text) => text === "")).toBe("");
  });

  it("waits for an encoder that complains, and keeps why for the log", async () => {
    await using folder = await scriptFolder();
    const complaining = await folder.encoderThat("sleep 1", "echo 'No memory.' >&2");
    await using pool = new EncoderPool({ ffmpeg: complaining, size: 1 });
    await expect(encode(pool, [pcmOf(sweep(20_000, 44_100), cd)], cd)).rejects.toMatchObject({
      code: "CONVERSION_FAILED",
      cause: Error("ffmpeg ended with 0: No memory.\n"),
    });
  });

  it("waits for an encoder that resamples: how many frames it returns is known only when it ends", async () => {
    await using folder = await scriptFolder();
    await using pool = new EncoderPool({ ffmpeg: await folder.encoderThat("sleep 1; exit 3"), size: 1 });
    const format = { ...cd, sampleRateHz: 96_000 };
    await expect(encode(pool, [pcmOf(sweep(20_000, 96_000), format)], format)).rejects.toMatchObject({
      code: "CONVERSION_FAILED",
      cause: Error("ffmpeg ended with 3: "),
    });
  });

  it("passes on the source's own error", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    const failure = new Error("The client went away.");
    const source = async function* () {
      yield Buffer.alloc(100_000);
      throw failure;
    };
    await expect(encode(pool, source(), cd)).rejects.toBe(failure);
    expect([pool.taken, pool.running]).toEqual([0, 0]);
  });

  it.each(["while it runs", "while its source stalls", "before it starts"])("stops on abort %s", async (when) => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    const controller = new AbortController();
    const reason = new Error("Enough.");
    if (when === "before it starts") controller.abort(reason);
    const source = endless(() => {
      if (when === "while it runs") controller.abort(reason);
      else setImmediate(() => controller.abort(reason));
    }, when === "while its source stalls");
    await expect(encode(pool, source, cd, settings, controller.signal)).rejects.toBe(reason);
    expect([pool.taken, pool.running]).toEqual([0, 0]);
  });

  it("leaves nothing behind when its reader has enough", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    let returned = false;
    const source = async function* () {
      try {
        for (;;) yield Buffer.alloc(65_536);
      } finally {
        returned = true;
      }
    };
    using turns = await pool.acquire(never);
    for await (const bytes of encodeMp3(turns, source(), cd, settings, never)) {
      expect(bytes.length).toBeGreaterThan(0);
      if (pool.running === 2) break;
    }
    expect([pool.taken, pool.running, returned]).toEqual([1, 0, true]);
  });

  it("reports an encoder that was killed, and keeps why for the log", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    const source = endless(async () => await signalEncoder("SIGKILL"));
    await expect(encode(pool, source, cd)).rejects.toMatchObject({
      code: "CONVERSION_FAILED",
      message: "The sound could not be encoded. Send the file again.",
      cause: expect.objectContaining({ message: expect.stringContaining("SIGKILL") }),
    });
    expect([pool.taken, pool.running]).toEqual([0, 0]);
  });

  it("ends an encoder that was stopped when its caller's time is up", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    const controller = new AbortController();
    const late = new Error("Too late.");
    let stopped = false;
    const source = endless(async () => {
      await signalEncoder("SIGSTOP");
      stopped = true;
      setTimeout(() => controller.abort(late), 200);
    });
    await expect(encode(pool, source, cd, settings, controller.signal)).rejects.toBe(late);
    expect([stopped, pool.taken, pool.running]).toEqual([true, 0, 0]);
  });

  it("reports an encoder that cannot start", async () => {
    const limits = { addressSpaceBytes: 64 * 1024 ** 2, cpuSeconds: 60 };
    await using pool = new EncoderPool({ ffmpeg, size: 1, limits });
    await expect(encode(pool, [Buffer.alloc(40_000)], cd)).rejects.toMatchObject({ code: "CONVERSION_FAILED" });
  });

  it("fails if LAME replaces the bit rate", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    await expect(encode(pool, [Buffer.alloc(40_000)], cd, { bitrateKbps: 100 })).rejects.toMatchObject({
      code: "CONVERSION_FAILED",
    });
  });
});

describe("the pool", () => {
  it("admits in order of arrival, and forgets uploads that left", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    const order: string[] = [];
    const first = await pool.acquire(never);
    const gone = new AbortController();
    const waiting = [enter("second", never), enter("gone", gone.signal), enter("third", never)];
    async function enter(name: string, signal: AbortSignal) {
      using entered = await pool.acquire(signal);
      order.push(entered.pool === pool ? name : "another pool");
    }
    expect(pool.waiting).toBe(3);
    gone.abort(new Error("Enough."));
    expect(pool.waiting).toBe(2);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    const outcomes = await Promise.allSettled(waiting);
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(order).toEqual(["second", "third"]);
    expect([pool.taken, pool.waiting]).toEqual([0, 0]);
  });

  it("takes a spare encoder back for a conversion that waits, without harm to the one that used it", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    using turns = await pool.acquire(never);
    let second: Promise<EncoderTurns> | undefined;
    const admission = { done: false };
    const piece = pcmOf(sweep(44_100, 44_100), cd);
    let pieces = 0;
    const source = async function* () {
      for (; !admission.done; pieces++) yield piece;
      for (let more = 0; more < 20; more++, pieces++) yield piece;
    };
    const chunks: Buffer[] = [];
    for await (const bytes of encodeMp3(turns, source(), cd, settings, never)) {
      chunks.push(bytes);
      if (pool.running < 2) continue;
      second ??= pool.acquire(never).finally(() => (admission.done = true));
    }
    using secondTurns = await second!;
    expect(readFrames(Buffer.concat(chunks))).toHaveLength(mp3FramesFor(pieces * 44_100, 1152));
    expect([pool.taken, secondTurns.pool]).toEqual([2, pool]);
  });

  it("gives each of eight concurrent uploads what it asked for", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    const results = await Promise.all(
      Array.from({ length: 8 }, (_, i) => encode(pool, slices(Buffer.alloc((i + 8) * 44_100 * 4)), cd)),
    );
    expect(results.map(({ mp3 }) => readFrames(mp3).length)).toEqual(
      Array.from({ length: 8 }, (_, i) => mp3FramesFor((i + 8) * 44_100, 1152)),
    );
    expect(Math.max(...results.map(({ processes }) => processes))).toBeLessThanOrEqual(2);
    expect(pool.taken).toBe(0);
  });

  it("leaves little that only a collection of the whole heap frees, however long the sound is", async () => {
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as (options?: { type: "minor" }) => void;
    const heldBytes = () => process.memoryUsage().arrayBuffers;
    collect(); // what the tests before have left
    await using pool = new EncoderPool({ ffmpeg, size: 2 });
    using turns = await pool.acquire(never);
    const second = slices(pcmOf(sweep(44_100, 44_100), cd));
    async function* sound(): AsyncGenerator<Buffer> {
      for (let i = 0; i < 240; i++) {
        collect({ type: "minor" });
        for (const slice of second) yield Buffer.from(slice);
      }
    }
    let mp3Bytes = 0;
    for await (const bytes of encodeMp3(turns, sound(), cd, settings, never)) mp3Bytes += bytes.length;
    for (let i = 0; i < 2; i++) collect({ type: "minor" });
    const before = heldBytes();
    collect();
    expect(mp3Bytes).toBeGreaterThan(5_000_000);
    expect(before - heldBytes()).toBeLessThan(2_500_000);
  });

  it("ends everything when it is disposed of", async () => {
    // With turns of the usual length, the second conversion would get its turn on a busy machine.
    const pool = new EncoderPool({ ffmpeg, size: 1, turnSeconds: 3600 });
    const source = endless(() => void pool[Symbol.asyncDispose]());
    const outcomes = await Promise.allSettled([encode(pool, source, cd), pool.acquire(never)]);
    expect(outcomes).toMatchObject([{ reason: { code: "SHUTTING_DOWN" } }, { reason: { code: "SHUTTING_DOWN" } }]);
    await expect(pool.acquire(never)).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
  });
});

async function encode(
  pool: EncoderPool,
  pcm: Iterable<Buffer> | AsyncIterable<Buffer>,
  format: PcmFormat,
  mp3Settings: Mp3Settings = settings,
  signal: AbortSignal = never,
  owner?: number,
): Promise<{ mp3: Buffer; processes: number }> {
  using turns = await pool.acquire(never, { owner });
  const encoding = encodeMp3(turns, asyncOf(pcm), format, mp3Settings, signal);
  const chunks: Buffer[] = [];
  let processes = 0;
  const start = pool.start.bind(pool);
  pool.start = (args) => {
    const child = start(args);
    processes = Math.max(processes, pool.running);
    return child;
  };
  for await (const bytes of encoding) chunks.push(bytes);
  return { mp3: Buffer.concat(chunks), processes };
}

interface ScriptFolder extends AsyncDisposable {
  /** An ffmpeg that does something else before and after its work. */
  encoderThat(next: string, first?: string): Promise<Ffmpeg>;
}

async function scriptFolder(): Promise<ScriptFolder> {
  const folder = await mkdtemp(join(tmpdir(), "encoder-"));
  return {
    async encoderThat(next, first = "") {
      const path = join(folder, "ffmpeg");
      await writeFile(path, `#!/bin/sh\n${first}\n'${ffmpeg.path}' "$@"\n${next}\n`, { mode: 0o755 });
      return { path, origin: "FFMPEG_PATH", version: ffmpeg.version };
    },
    [Symbol.asyncDispose]: async () => await rm(folder, { recursive: true }),
  };
}

/** Waits until as many processes wait for a conversion. */
async function ready(pool: EncoderPool, count: number): Promise<void> {
  expect(
    await until(
      () => pool.ready,
      (number) => number === count,
    ),
  ).toBe(count);
  // Those of earlier conversions were killed, and need a moment to end.
  await until(
    async () => await encodersOf(process.pid),
    ({ length }) => length === 0,
  );
}

async function untilItReadsNothing(pid: number): Promise<void> {
  const read = async () => /^rchar: (\d+)$/m.exec(await readFile(`/proc/${pid}/io`, "utf8"))?.[1];
  for (let before, now = await read(); now !== before; now = await read()) {
    before = now;
    await delay(200);
  }
}

async function signalEncoder(signal: NodeJS.Signals): Promise<void> {
  const [encoder] = await ffmpegChildrenOf(process.pid);
  process.kill(encoder!, signal);
}

async function* asyncOf(pcm: Iterable<Buffer> | AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  yield* pcm;
}

/** Endless sound. It calls back after ten seconds of sound, and then continues or stalls for good. */
async function* endless(afterAWhile: () => unknown, stalls = false): AsyncGenerator<Buffer> {
  const second = pcmOf(sweep(44_100, 44_100), cd);
  for (let i = 0; ; i++) {
    yield second;
    if (i !== 10) continue;
    await afterAWhile();
    if (stalls) await new Promise(() => {});
  }
}

function slices(pcm: Buffer): Buffer[] {
  return Array.from({ length: Math.ceil(pcm.length / 65_536) }, (_, i) => pcm.subarray(i * 65_536, (i + 1) * 65_536));
}

/** A sound as PCM, the same on every channel. */
function pcmOf(sound: Float32Array, { sampleFormat, channels }: PcmFormat): Buffer {
  const samples = new (sampleFormat === "f32le" ? Float32Array : Int16Array)(sound.length * channels);
  const scale = sampleFormat === "f32le" ? 1 : 32_767;
  for (let i = 0; i < samples.length; i++) {
    const sample = sound[floor(i / channels)]! * scale;
    samples[i] = sampleFormat === "f32le" ? sample : round(sample);
  }
  return Buffer.from(samples.buffer);
}

/** A sweep from 100 Hz to 500 Hz in each second, the same sound at every sample rate. */
function sweep(length: number, sampleRateHz: number): Float32Array {
  const sound = new Float32Array(length);
  for (let i = 0; i < length; i++) {
    const t = (i / sampleRateHz) % 1;
    sound[i] = 0.5 * sin(2 * PI * (100 + 200 * t) * t);
  }
  return sound;
}

function music(t: number): number {
  const chord = chords[floor(t / 0.5) % 4]!;
  let sum = 0;
  for (let partial = 1; partial <= 5; partial++) sum += sin(2 * PI * chord * partial * t) / partial;
  return 0.3 * sum + 0.05 * (2 * random() - 1);
}

const chords = [220, 277.2, 329.6, 440];

let seed = 1;
function random(): number {
  seed = (imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  return seed / 2 ** 32;
}
