import { afterEach, describe, expect, it } from "@jest/globals";
import { EncoderPool } from "../src/audio/encoder/encoder-pool.ts";
import { mp3FramesFor } from "../src/audio/encoder/lane-dealer.ts";
import { encodeMp3 } from "../src/audio/encoder/mp3-encoder.ts";
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { assertNoFfmpegRuns, ffmpeg } from "./support/ffmpeg.ts";
import { readFrames } from "./support/mp3.ts";

const cd: PcmFormat = { sampleFormat: "s16le", sampleRateHz: 44_100, channels: 2 };
const second = Buffer.alloc(44_100 * 4, 1);

afterEach(assertNoFfmpegRuns);

describe("the pool of encoders", () => {
  it("lets others encode while the clients of all its places are slow", async () => {
    await using pool = new EncoderPool({ ffmpeg, lanes: 1 });
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
      using place = await pool.acquire(signal);
      const pieces: Buffer[] = [];
      for await (const bytes of encodeMp3(place, source, cd, { bitrateKbps: 192 }, signal)) pieces.push(bytes);
      return readFrames(Buffer.concat(pieces)).length;
    };
    const framesOfSeconds = (seconds: number) => mp3FramesFor(seconds * 44_100, 1152);
    const slow = [framesOf(slowly()), framesOf(slowly()), framesOf(slowly())];
    // Fails by waiting for ever if a slow client keeps its place.
    expect(await framesOf(fast())).toBe(framesOfSeconds(1));
    goOn.resolve();
    expect(await Promise.all(slow)).toEqual(Array(3).fill(framesOfSeconds(2)));
    expect([pool.taken, pool.waiting, pool.running]).toEqual([0, 0, 0]);
  });

  it("does not give a resting place away twice", async () => {
    await using pool = new EncoderPool({ ffmpeg, lanes: 1 });
    const { signal } = new AbortController();
    const first = await pool.acquire(signal);
    first.leave();
    first.leave();
    expect(pool.taken).toBe(0);
    const second = await pool.acquire(signal);
    const turns: string[] = [];
    first.askForTurn(() => turns.push("first"));
    first.askForTurn(() => turns.push("first, twice"));
    expect([pool.taken, pool.waiting, first.working]).toEqual([1, 1, false]);
    second[Symbol.dispose]();
    expect([turns, first.working]).toEqual([["first"], true]);
    const third = pool.acquire(signal);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    (await third)[Symbol.dispose]();
    expect([pool.taken, pool.waiting]).toEqual([0, 0]);
  });

  it("ends the turn of the one that has a place when somebody waits, and of no more than wait", async () => {
    await using pool = new EncoderPool({ ffmpeg, lanes: 2, turnSeconds: 0 });
    const { signal } = new AbortController();
    const [first, second] = [await pool.acquire(signal), await pool.acquire(signal)];
    expect([first.turnIsOver(), second.turnIsOver()]).toEqual([false, false]);
    const third = pool.acquire(signal);
    expect([first.turnIsOver(), second.turnIsOver(), first.turnIsOver()]).toEqual([true, false, true]);
    first.leave();
    using _third = await third;
    expect([pool.taken, second.turnIsOver()]).toEqual([2, false]);
    first.askForTurn(() => {});
    expect(second.turnIsOver()).toBe(true);
    second[Symbol.dispose]();
    expect(first.working).toBe(true);
    first[Symbol.dispose]();
  });

  it("lets newcomers go first, but not for ever", async () => {
    await using pool = new EncoderPool({ ffmpeg, lanes: 1 });
    const { signal } = new AbortController();
    const long = await pool.acquire(signal, { owner: 1 });
    const blocking = pool.acquire(signal, { owner: 2 });
    long.leave();
    const order: string[] = [];
    long.askForTurn(() => {
      order.push("long");
      long.leave();
    });
    const newcomers = [2, 2, 2, 2, 2].map(async (owner) => {
      using _place = await pool.acquire(signal, { owner });
      order.push("new");
    });
    (await blocking)[Symbol.dispose]();
    await Promise.all(newcomers);
    expect(order).toEqual(["new", "new", "long", "new", "new", "new"]);
    long[Symbol.dispose]();
  });

  it("ends idle processes that are too many, and begins few that no other can replace", async () => {
    await using pool = new EncoderPool({ ffmpeg, lanes: 1 });
    const { signal } = new AbortController();
    let ended = 0;
    const places = [];
    for (let i = 0; i <= pool.maxIdleProcesses; i++) {
      const place = await pool.acquire(signal);
      place.leave({ joinable: true, endIdleProcess: () => void ended++ });
      places.push(place);
    }
    expect(ended).toBe(1);
    for (let i = 0; i < pool.maxIdleProcesses / 2; i++) {
      const place = await pool.acquire(signal, { joinable: false });
      place.leave();
      places.push(place);
    }
    const oneMore = pool.acquire(signal, { joinable: false });
    (await pool.acquire(signal))[Symbol.dispose]();
    expect(pool.waiting).toBe(1);
    for (const place of places) place[Symbol.dispose]();
    (await oneMore)[Symbol.dispose]();
    expect([pool.taken, pool.waiting]).toEqual([0, 0]);
  });

  it("lets owners take turns, however many uploads each has", async () => {
    await using pool = new EncoderPool({ ffmpeg, lanes: 1 });
    const { signal } = new AbortController();
    const first = await pool.acquire(signal, { owner: 1 });
    const admitted: number[] = [];
    const others = [1, 1, 1, 2, 2, 3].map(async (owner) => {
      using _place = await pool.acquire(signal, { owner });
      admitted.push(owner);
    });
    expect(pool.waiting).toBe(6);
    first[Symbol.dispose]();
    await Promise.all(others);
    expect(admitted).toEqual([1, 2, 3, 1, 2, 1]);
    expect([pool.taken, pool.waiting]).toEqual([0, 0]);
  });

  it("refuses with BUSY after the time that an upload may wait, and leaves no trace", async () => {
    await using pool = new EncoderPool({ ffmpeg, lanes: 1, queueTimeoutSeconds: 0 });
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
