import { afterEach, describe, expect, it, jest } from "@jest/globals";
import { setTimeout as delay } from "node:timers/promises";
import { EncoderPool, type EncoderTurns } from "../src/audio/encoder/encoder-pool.ts";
import { mp3FramesFor } from "../src/audio/encoder/frame-grid.ts";
import { encodeMp3 } from "../src/audio/encoder/mp3-encoder.ts";
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { assertNoFfmpegRuns, ffmpeg } from "./support/ffmpeg.ts";
import { readFrames } from "./support/mp3.ts";

const cd: PcmFormat = { sampleFormat: "s16le", sampleRateHz: 44_100, channels: 2 };
const second = Buffer.alloc(44_100 * 4, 1);

afterEach(assertNoFfmpegRuns);

describe("the pool of encoders", () => {
  it("lets others encode while the clients of all its encoders are slow", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    const goOn = Promise.withResolvers<void>();
    async function* slowly(): AsyncGenerator<Buffer> {
      yield second;
      await goOn.promise;
      yield second;
    }
    async function* fast(): AsyncGenerator<Buffer> {
      yield second;
    }
    const framesOf = async (source: AsyncIterable<Buffer>) => {
      const { signal } = new AbortController();
      using turns = await pool.acquire(signal);
      const pieces: Buffer[] = [];
      for await (const bytes of encodeMp3(turns, source, cd, { bitrateKbps: 192 }, signal)) pieces.push(bytes);
      return readFrames(Buffer.concat(pieces)).length;
    };
    const framesOfSeconds = (seconds: number) => mp3FramesFor(seconds * 44_100, 1152);
    const slow = [framesOf(slowly()), framesOf(slowly()), framesOf(slowly())];
    // If a slow client keeps its encoder, this never resolves.
    expect(await framesOf(fast())).toBe(framesOfSeconds(1));
    goOn.resolve();
    expect(await Promise.all(slow)).toEqual(Array(3).fill(framesOfSeconds(2)));
    expect([pool.taken, pool.waiting, pool.running]).toEqual([0, 0, 0]);
  });

  it("lets others encode while sources are a little slower than its encoders", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1, queueTimeoutSeconds: 4 });
    const stop = new AbortController();
    async function* dripping(): AsyncGenerator<Buffer> {
      for (let piece = second; ; piece = second.subarray(0, 1024)) {
        yield piece;
        await delay(20);
      }
    }
    const framesOf = async (source: AsyncIterable<Buffer>, { signal }: AbortController) => {
      using turns = await pool.acquire(signal);
      const pieces: Buffer[] = [];
      for await (const bytes of encodeMp3(turns, source, cd, { bitrateKbps: 192 }, signal)) pieces.push(bytes);
      return readFrames(Buffer.concat(pieces)).length;
    };
    const slow = Promise.allSettled([framesOf(dripping(), stop), framesOf(dripping(), stop)]);
    async function* fast(): AsyncGenerator<Buffer> {
      yield second;
    }
    expect(await framesOf(fast(), new AbortController())).toBe(mp3FramesFor(44_100, 1152));
    stop.abort(new Error("Enough."));
    expect(await slow).toMatchObject([{ reason: Error("Enough.") }, { reason: Error("Enough.") }]);
  });

  it("counts each turn once, whatever its conversion does twice", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    const { signal } = new AbortController();
    const first = await pool.acquire(signal);
    first.end();
    first.end();
    expect(pool.taken).toBe(0);
    const second = await pool.acquire(signal);
    const next = first.next();
    expect([pool.taken, pool.waiting, first.isOn]).toEqual([1, 1, false]);
    second[Symbol.dispose]();
    await next;
    expect([pool.taken, first.isOn]).toEqual([1, true]);
    const third = pool.acquire(signal);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    (await third)[Symbol.dispose]();
    expect([pool.taken, pool.waiting]).toEqual([0, 0]);
  });

  it("forgets a conversion that goes away while it waits for its next turn", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    const { signal } = new AbortController();
    const [gone, late] = [await pool.acquire(signal), pool.acquire(signal)];
    gone.end();
    const second = await late;
    const waiting = gone.next();
    gone[Symbol.dispose]();
    await expect(waiting).rejects.toThrow("is over");
    expect(pool.waiting).toBe(0);
    second.end();
    // Aborted after it was granted, but before it could notice.
    const granted = second.next();
    second[Symbol.dispose]();
    await expect(granted).rejects.toThrow("is over");
    expect([pool.taken, pool.waiting]).toEqual([0, 0]);
  });

  it("ends turns when others wait, and no more than wait", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 2, turnSeconds: 0 });
    const { signal } = new AbortController();
    const [first, second] = [await pool.acquire(signal), await pool.acquire(signal)];
    const areOver = () => [first, second].map((turns) => turns.shouldEnd(Infinity));
    expect(areOver()).toEqual([false, false]);
    const third = pool.acquire(signal);
    expect(areOver()).toEqual([true, false]);
    expect(areOver()).toEqual([true, false]);
    first.end();
    using _third = await third;
    expect([pool.taken, second.shouldEnd(Infinity)]).toEqual([2, false]);
    const next = first.next();
    expect(second.shouldEnd(Infinity)).toBe(true);
    second[Symbol.dispose]();
    await next;
    expect(first.isOn).toBe(true);
    first[Symbol.dispose]();
  });

  it("ends a turn sooner for a conversion that has had none, and not when little is left to do", async () => {
    jest.useFakeTimers();
    try {
      await using pool = new EncoderPool({ ffmpeg, size: 1 });
      const { signal } = new AbortController();
      const first = await pool.acquire(signal);
      const second = pool.acquire(signal);
      first.end();
      using working = await second;
      const next = first.next();
      jest.advanceTimersByTime(2000);
      expect(working.shouldEnd(Infinity)).toBe(false);
      const newcomer = pool.acquire(signal);
      expect([working.shouldEnd(0), working.shouldEnd(0.4), working.shouldEnd(0.6)]).toEqual([false, false, true]);
      working.end();
      (await newcomer)[Symbol.dispose]();
      await next;
      const again = working.next();
      jest.advanceTimersByTime(7900);
      expect(first.shouldEnd(Infinity)).toBe(false);
      jest.advanceTimersByTime(200);
      expect(first.shouldEnd(Infinity)).toBe(true);
      first[Symbol.dispose]();
      await again;
    } finally {
      jest.useRealTimers();
    }
  });

  it("ends the turn of a conversion with more sound than its request could hold", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1, turnSeconds: 0.1 });
    const { signal } = new AbortController();
    const order: string[] = [];
    const begun = Promise.withResolvers<void>();
    const convert = async (name: string, seconds: number, maxPcmBytes: number) => {
      using turns = await pool.acquire(signal);
      async function* source(): AsyncGenerator<Buffer> {
        for (let at = 0; at < seconds; at++) yield second;
      }
      begun.resolve();
      for await (const _ of encodeMp3(turns, source(), cd, { bitrateKbps: 128, maxPcmBytes }, signal));
      order.push(name);
    };
    const long = convert("long", 600, second.length);
    await begun.promise;
    await Promise.all([long, convert("clip", 1, Infinity)]);
    expect(order).toEqual(["clip", "long"]);
  });

  it("lets newcomers go first, but not without end", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    const { signal } = new AbortController();
    const long = await pool.acquire(signal, { owner: 1 });
    const blocking = pool.acquire(signal, { owner: 2 });
    long.end();
    const order: string[] = [];
    const goOn = async () => {
      await long.next();
      order.push("long");
      long.end();
    };
    const next = goOn();
    const newcomers = [2, 2, 2, 2, 2].map(async (owner) => {
      using _turns = await pool.acquire(signal, { owner });
      order.push("new");
    });
    (await blocking)[Symbol.dispose]();
    await Promise.all([next, ...newcomers]);
    expect(order).toEqual(["new", "new", "long", "new", "new", "new"]);
    long[Symbol.dispose]();
  });

  it("lets a conversion go first that is almost done, but not without end", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1, turnSeconds: 0 });
    const { signal } = new AbortController();
    const all: EncoderTurns[] = [];
    for (const owner of [1, 1, 1, 1, 1, 2]) {
      const turns = await pool.acquire(signal, { owner });
      turns.end();
      all.push(turns);
    }
    const holder = await pool.acquire(signal, { owner: 3 });
    const order: string[] = [];
    let isLate = false;
    const goOn = async (name: string, turns: EncoderTurns, isAlmostDone?: () => boolean) => {
      await turns.next(isAlmostDone);
      order.push(name);
      turns.end();
    };
    const [late, ...others] = all;
    // It is asked when a permit is free, not when it begins to wait.
    const waiting = [goOn("long", others[0]!), goOn("late", late!, () => isLate)];
    waiting.push(goOn("longer", others.at(-1)!));
    waiting.push(...others.slice(1, -1).map(async (turns) => await goOn("done", turns, () => true)));
    isLate = true;
    holder[Symbol.dispose]();
    await Promise.all(waiting);
    expect(order).toEqual(["late", "done", "done", "longer", "done", "long"]);
    for (const turns of all) turns[Symbol.dispose]();
  });

  it("ends parked processes that are too many, the oldest first", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    const { signal } = new AbortController();
    const ended: number[] = [];
    for (let i = 0; i < pool.maxParkedProcesses + 3; i++) {
      const turns = await pool.acquire(signal);
      turns.end(() => ended.push(i));
      if (i === 1) turns[Symbol.dispose]();
    }
    expect(ended).toEqual([0, 2]);
  });

  it("lets owners take turns, however many uploads each has", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1 });
    const { signal } = new AbortController();
    const first = await pool.acquire(signal, { owner: 1 });
    const admitted: number[] = [];
    const others = [1, 1, 1, 2, 2, 3].map(async (owner) => {
      using _turns = await pool.acquire(signal, { owner });
      admitted.push(owner);
    });
    expect(pool.waiting).toBe(6);
    first[Symbol.dispose]();
    await Promise.all(others);
    expect(admitted).toEqual([1, 2, 3, 1, 2, 1]);
    expect([pool.taken, pool.waiting]).toEqual([0, 0]);
  });

  it("refuses with BUSY when an upload has waited too long, and leaves no trace", async () => {
    await using pool = new EncoderPool({ ffmpeg, size: 1, queueTimeoutSeconds: 0 });
    const { signal } = new AbortController();
    const first = await pool.acquire(signal, { owner: 1 });
    await expect(pool.acquire(signal, { owner: 2 })).rejects.toMatchObject({
      code: "BUSY",
      details: { retryAfterSeconds: expect.any(Number) },
    });
    expect(pool.waiting).toBe(0);
    first[Symbol.dispose]();
    (await pool.acquire(signal, { owner: 2 }))[Symbol.dispose]();
  });
});
