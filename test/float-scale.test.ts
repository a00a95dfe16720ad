import { describe, expect, it } from "@jest/globals";
import { FloatScale } from "../src/audio/wav/float-scale.ts";
import { openWav } from "../src/audio/wav/wav-reader.ts";
import { wavToPcm } from "../src/audio/wav/wav-to-pcm.ts";
import { decodeWithFfmpeg } from "./support/mp3-decoders.ts";
import { serviceForUploads } from "./support/upload-and-download.ts";
import { inPieces, seededRandom, wavFile } from "./support/wav-maker.ts";

const { sin, PI, round, abs, max, sqrt } = Math;
const rateHz = 24_000;

/** A tone that grows louder, with full scale at 1. */
function swell(seconds: number, peak = 0.7): number[] {
  return Array.from({ length: seconds * rateHz }, (_, i) => peak * sin(i / 15) * sin((PI * i) / (seconds * rateHz)));
}

/** Samples for this many seconds, computed from random numbers between -1 and 1. */
function noise(seconds: number, shape: (random: number) => number): number[] {
  const random = seededRandom(3);
  return Array.from({ length: seconds * rateHz }, () => shape(2 * random() - 1));
}

describe("full scale of a file of floats", () => {
  it.each<[string, number, number[]]>([
    ["an ordinary recording", 1, swell(1)],
    ["one that is a little over full scale", 1, swell(1, 1.9)],
    ["one that is 30 dB over full scale", 1, swell(1, 31.6)],
    ["a quiet recording", 1, swell(1, 1e-4)],
    ["silence", 1, swell(1, 0)],
    ["single samples at full scale", 1, noise(1, (random) => (abs(random) > 0.999 ? 1 : 0))],
    ["a square wave", 1, noise(1, (random) => (random > 0 ? 1 : -1))],
    ["a square wave twice as high", 1, noise(1, (random) => (random > 0 ? 2 : -2))],
    ["a recording with damaged samples", 1, swell(1).map((sample, i) => (i % 997 === 0 ? 30_000 * sample : sample))],
    ["noise of random bits", 1, [...swell(1), ...randomBits(5000)]],
    ["integers of 16 bits", 2 ** 15, swell(1).map((sample) => round(32_768 * sample))],
    ["the same after a filter, beyond their range", 2 ** 15, swell(1, 1.2).map((sample) => 32_768 * sample)],
    ["a fade-in of them", 2 ** 15, [...swell(1, 1e-9), ...swell(1).map((sample) => 32_768 * sample)]],
    ["their dither alone", 2 ** 15, noise(1, (random) => round(3 * random))],
    ["quiet integers", 2 ** 15, swell(1, 40).map(round)],
    ["integers of 24 bits", 2 ** 23, swell(1).map((sample) => round(2 ** 23 * sample))],
    ["integers of 32 bits", 2 ** 31, swell(1).map((sample) => round(2 ** 31 * sample))],
    ["24 bits in 32, at -60 dB", 2 ** 31, swell(1, 0.001).map((sample) => 256 * round(2 ** 23 * sample))],
    ["integers of 16 bits with holes", 2 ** 15, swell(1).map((sample, i) => (i % 9 === 0 ? NaN : 32_768 * sample))],
  ])("is found for %s: %#", async (_, fullScale, samples) => {
    for (const bits of [32, 64] as const) expect((await scaled(samples, { bits })).fullScale).toBe(fullScale);
  });

  it.each<[string, number[]]>([
    ["digital silence", Array<number>(6 * rateHz).fill(0)],
    ["what a filter leaves of silence", noise(36, (random) => 1e-9 * random)],
    ["dither of three steps", noise(36, (random) => round(3 * random))],
    ["dither of one step", noise(36, (random) => round(random))],
    ["noise between the steps", noise(12, (random) => 3 * random)],
  ])("is found though seconds of %s go before", async (_, before) => {
    const samples = [...before, ...swell(0.5).map((sample) => 32_768 * sample)];
    const { fullScale, read } = await scaled(samples);
    expect(fullScale).toBe(32_768);
    expect(read).toHaveLength(samples.length);
    expect(largest(read.slice(before.length))).toBeCloseTo(0.7, 2);
  });

  it("applies to the whole file, and holds back a limited part of it", async () => {
    const samples = [...swell(9, 0.5), ...swell(1).map((sample) => 32_768 * sample)];
    const { fullScale, read, heldBytes } = await scaled(samples);
    expect(fullScale).toBe(1);
    expect(largest(read)).toBe(8);
    expect(heldBytes).toBeLessThan(1.2 * 4 * 128 * 1024);
    const loud = await scaled(noise(60, (random) => round(32_768 * random)));
    expect(loud.heldBytes).toBeLessThan(1.2 * 4 * 512 * 1024);
  });

  it("is read from floats of RIFX, and of many channels", async () => {
    const samples = swell(1).map((sample) => round(32_768 * sample));
    for (const bits of [32, 64] as const) {
      expect((await scaled(samples, { bits, isBigEndian: true })).fullScale).toBe(32_768);
    }
    expect((await scaled(samples, { channels: 6 })).fullScale).toBe(32_768);
  });
});

describe("an upload of floats", () => {
  const upload = serviceForUploads();

  it("in the range of 16 bits is scaled, with a warning", async () => {
    const sound = swell(1);
    const { record, heard } = await uploadFloats(sound.map((sample) => round(32_768 * sample)));
    expect(record.warnings).toEqual(["RESCALED"]);
    expect(record.loudness.samplePeakDbfs).toBeCloseTo(20 * Math.log10(0.7), 1);
    expect(correlation(sound, heard)).toBeGreaterThan(0.99);
    expect(largest(heard)).toBeLessThan(0.8);
  });

  it("30 dB over full scale is limited", async () => {
    const sound = swell(1, 31.6);
    const { record, heard } = await uploadFloats(sound);
    expect(record.warnings).toEqual(["CLIPPED"]);
    expect(correlation(sound, heard)).toBeGreaterThan(0.9);
  });

  async function uploadFloats(samples: readonly number[]) {
    const { record, mp3 } = await upload(floatWav(samples, {}), { fields: "warnings loudness { samplePeakDbfs }" });
    return { record, heard: await decodeWithFfmpeg(mp3) };
  }
});

interface FloatWav {
  readonly bits?: 32 | 64;
  readonly channels?: number;
  readonly isBigEndian?: boolean;
}

function floatWav(samples: readonly number[], { bits = 32, channels = 1, isBigEndian = false }: FloatWav): Buffer {
  const data = Buffer.from((bits === 32 ? Float32Array : Float64Array).from(samples).buffer);
  if (isBigEndian && bits === 32) data.swap32();
  if (isBigEndian && bits === 64) data.swap64();
  const format = { tag: 3, bits, channels, sampleRateHz: rateHz };
  return wavFile({ container: isBigEndian ? "RIFX" : "RIFF", format, data });
}

/** The scale that was found, the scaled samples, and the bytes of the file that were held before the first of them. */
async function scaled(samples: readonly number[], options: FloatWav = {}) {
  const wav = await openWav(inPieces(floatWav(samples, options), 50_000));
  const scale = new FloatScale(wav.format);
  const convert = wavToPcm(wav.format, () => scale.fullScale);
  let takenBytes = 0;
  let givenBytes = 0;
  let heldBytes = 0;
  async function* counted() {
    for await (const block of wav.blocks()) {
      takenBytes += block.length;
      heldBytes = max(heldBytes, takenBytes - givenBytes);
      yield block;
    }
  }
  const pieces: Buffer[] = [];
  for await (const block of scale.settled(counted())) {
    givenBytes += block.length;
    pieces.push(convert(block));
  }
  const read = new Float32Array(new Uint8Array(Buffer.concat(pieces)).buffer);
  return { fullScale: scale.fullScale, read: Array.from(read), heldBytes };
}

function randomBits(count: number): number[] {
  const random = seededRandom(9);
  return Array.from(new Float32Array(Uint32Array.from({ length: count }, () => random() * 2 ** 32).buffer));
}

function correlation(wanted: readonly number[], heard: Float32Array): number {
  const product = (a: ArrayLike<number>, b: ArrayLike<number>) => wanted.reduce((sum, _, i) => sum + a[i]! * b[i]!, 0);
  return product(wanted, heard) / sqrt(product(wanted, wanted) * product(heard, heard));
}

function largest(samples: ArrayLike<number>): number {
  return Array.prototype.reduce.call(samples, (most, sample) => max(most as number, sample as number), 0) as number;
}
