import { describe, expect, it } from "@jest/globals";
import { openWav } from "../src/audio/wav/wav-reader.ts";
import { wavToPcm } from "../src/audio/wav/wav-to-pcm.ts";
import { decodeWithFfmpeg } from "./support/mp3-decoders.ts";
import { serviceForUploads } from "./support/upload-and-download.ts";
import { type FormatOptions, inPieces, seededRandom, wavFile } from "./support/wav-maker.ts";

const { sin, cos, PI, hypot, max, abs } = Math;
const c = Math.SQRT1_2;

describe("channels without a stated place", () => {
  it.each([3, 4, 5, 6, 7, 8, 9, 10, 16, 24, 32, 64])("are all heard when there are %i", async (channels) => {
    for (const format of [{ channels }, { channels, extensible: { channelMask: 0 } }]) {
      const gains = await gainsOf(format);
      expect(gains).toHaveLength(channels);
      // One track at full scale is never attenuated by more than 18 dB.
      for (const [left, right] of gains) expect(hypot(left, right)).toBeGreaterThan(0.125);
    }
  });

  it("are placed as in an old surround mix, with its low-frequency channel in the centre", async () => {
    expect(inProportion(await gainsOf({ channels: 6 }))).toEqual(
      rounded([
        [1, 0],
        [0, 1],
        [c, c],
        [c, c],
        [c, 0],
        [0, c],
      ]),
    );
  });

  it("of more than eight are in the centre, except the first two", async () => {
    expect(inProportion(await gainsOf({ channels: 9 }))).toEqual(
      rounded([[1, 0], [0, 1], ...Array.from({ length: 7 }, () => [c, c] as const)]),
    );
  });
});

describe("a channel mask", () => {
  it("silences only the channel that it declares as low-frequency", async () => {
    expect(inProportion(await gainsOf({ channels: 3, extensible: { channelMask: 0x0b } }))).toEqual([
      [1, 0],
      [0, 1],
      [0, 0],
    ]);
    const gains = await gainsOf({ channels: 8, extensible: { channelMask: 0x63f } });
    expect(gains.map(([left, right]) => left + right > 0)).toEqual([true, true, true, false, true, true, true, true]);
  });

  it("of fewer speakers than channels puts the others in the centre", async () => {
    expect(inProportion(await gainsOf({ channels: 5, extensible: { channelMask: 0x03 } }))).toEqual(
      rounded([
        [1, 0],
        [0, 1],
        [c, c],
        [c, c],
        [c, c],
      ]),
    );
    for (const [left, right] of await gainsOf({ channels: 6, extensible: { channelMask: 0x04 } })) {
      expect(left).toBeGreaterThan(0);
      expect(right).toBe(left);
    }
  });

  it.each([
    [4, 0x3f],
    [5, 0x3f],
    [6, 0xffff_ffff],
    [3, 0x3_ffff],
    [8, 0x8000_0000],
    [6, 0x6000_0000],
    [3, 0x211],
    [4, 0x20_0000],
  ])("that cannot be right silences nothing: %i channels, mask %i", async (channels, channelMask) => {
    for (const [left, right] of await gainsOf({ channels, extensible: { channelMask } })) {
      expect(left + right).toBeGreaterThan(0.1);
    }
  });

  it("of speakers above keeps them on their side", async () => {
    const gains = inProportion(await gainsOf({ channels: 4, extensible: { channelMask: 0x5003 } }));
    expect(gains).toEqual(
      rounded([
        [1, 0],
        [0, 1],
        [c, 0],
        [0, c],
      ]),
    );
  });
});

describe("an ambisonic recording", () => {
  it.each([3, 4, 9, 16])("of %i channels is decoded by direction", async (channels) => {
    for (const [tag, bits] of [
      [1, 24],
      [3, 32],
    ] as const) {
      const format = { tag, bits, channels, extensible: { isAmbisonic: true } };
      const [ahead, left, behind, right] = await mixed(format, [0, PI / 2, PI, -PI / 2].map(fuMa(channels)));
      expect(ahead![0]).toBeGreaterThan(0.3);
      expect(ahead![1]).toBeCloseTo(ahead![0], 6);
      expect(behind![0]).toBeCloseTo(ahead![0], 6);
      expect(left![0]).toBeGreaterThan(0.6);
      expect(abs(left![1])).toBeLessThan(1e-6);
      expect(right![1]).toBeCloseTo(left![0], 6);
      expect(abs(right![0])).toBeLessThan(1e-6);
    }
  });

  it("is one only where the header says so: four channels without a mask are four microphones", async () => {
    const gains = await gainsOf({ channels: 4 });
    expect(gains[3]![1]).toBeGreaterThan(0);
  });
});

describe("the sum of many channels", () => {
  it.each([9, 16, 64])("of %i that are all at full scale stays within it", async (channels) => {
    const frames = Array.from({ length: 2000 }, (_, i) => Array<number>(channels).fill(sin(i / 20)));
    const stereo = await mixed({ channels, bits: 24 }, frames);
    const peak = max(...stereo.flat().map(abs));
    expect(peak).toBeLessThan(1);
    expect(peak).toBeGreaterThan(0.9);
    // After the limiter has attenuated the sum, it keeps the shape of the wave.
    const gain = stereo.slice(1000).map(([left], i) => left / sin((i + 1000) / 20));
    const steady = gain.filter((_, i) => abs(sin((i + 1000) / 20)) > 0.1);
    expect(max(...steady) / -max(...steady.map((value) => -value))).toBeLessThan(1.1);
  });

  it("does not depend on how it is split", async () => {
    const random = seededRandom(5);
    const frames = Array.from({ length: 900 }, () => Array.from({ length: 20 }, () => random() * 2 - 1));
    const format = { channels: 20, bits: 24 };
    expect(await mixed(format, frames, 77)).toEqual(await mixed(format, frames));
  });
});

describe("an upload", () => {
  const upload = serviceForUploads();

  it.each<[string, FormatOptions]>([
    ["6 tracks of a field recorder", { channels: 6, bits: 24 }],
    ["8 tracks with a mask of 0", { channels: 8, extensible: { channelMask: 0 } }],
    ["8 tracks in µ-law", { channels: 8, tag: 7, bits: 8 }],
    ["16 tracks of a desk", { channels: 16 }],
    ["64 tracks in floats", { channels: 64, tag: 3, bits: 32 }],
  ])("of %s holds a tone of each of them", async (_, format) => {
    const rateHz = 48_000;
    const channels = format.channels!;
    const toneHz = (channel: number): number => 300 + 120 * channel;
    const frames = Array.from({ length: rateHz / 2 }, (_frame, i) =>
      Array.from({ length: channels }, (_channel, k) => 0.25 * sin((2 * PI * toneHz(k) * i) / rateHz)),
    );
    const wav = wavFile({ format: { ...format, sampleRateHz: rateHz }, data: encoded(format, frames) });
    const { record, mp3 } = await upload(wav, { fields: "warnings source { channels }" });
    expect(record).toEqual({ warnings: ["MIXED_DOWN"], source: { channels } });
    const stereo = await decodeWithFfmpeg(mp3);
    for (let channel = 0; channel < channels; channel++) {
      expect(max(...[0, 1].map((side) => level(stereo, side, toneHz(channel) / rateHz)))).toBeGreaterThan(0.25 * 0.06);
    }
  });
});

type Pair = readonly [left: number, right: number];

/** The gain of each channel to left and right, with all other channels silent. */
async function gainsOf(format: FormatOptions): Promise<Pair[]> {
  const channels = format.channels!;
  const frames = Array.from({ length: channels }, (_, at) =>
    Array.from({ length: channels }, (_channel, k) => (k === at ? -1 : 0)),
  );
  return (await mixed(format, frames)).map(([left, right]) => [-left + 0, -right + 0]);
}

async function mixed(format: FormatOptions, frames: readonly (readonly number[])[], pieceBytes?: number) {
  const wav = await openWav(inPieces(wavFile({ format, data: encoded(format, frames) }), pieceBytes));
  const convert = wavToPcm(wav.format);
  const pieces: Buffer[] = [];
  for await (const block of wav.blocks()) pieces.push(Buffer.from(convert(block)));
  const samples = new Float32Array(new Uint8Array(Buffer.concat(pieces)).buffer);
  return Array.from({ length: samples.length / 2 }, (_, i): Pair => [samples[2 * i]!, samples[2 * i + 1]!]);
}

function encoded({ tag = 1, bits = 16 }: FormatOptions, frames: readonly (readonly number[])[]): Buffer {
  const values = frames.flat();
  if (tag === 3) return Buffer.from(Float32Array.from(values).buffer);
  const data = Buffer.alloc((values.length * bits) / 8);
  values.forEach((value, i) => {
    if (tag === 7) data[i] = muLaw(value);
    else data.writeIntLE(max(-(2 ** (bits - 1)), Math.round(value * (2 ** (bits - 1) - 1))), (i * bits) / 8, bits / 8);
  });
  return data;
}

/** Encodes a sample as ITU-T G.711, rounded down to the next code. */
function muLaw(value: number): number {
  const magnitude = Math.min(abs(Math.round(value * 32_767)) + 132, 32_767);
  const exponent = Math.floor(Math.log2(magnitude)) - 7;
  return ~((value < 0 ? 0x80 : 0) | (exponent << 4) | ((magnitude >> (exponent + 3)) & 15)) & 0xff;
}

/** A source in the horizontal plane at this angle, counted from the front to the left: W, X and Y; the rest is zero. */
function fuMa(channels: number) {
  return (angle: number): number[] => [c, cos(angle), sin(angle), ...Array<number>(channels - 3).fill(0)];
}

function inProportion(gains: readonly Pair[]): (readonly number[])[] {
  return rounded(gains.map((pair) => pair.map((gain) => gain / gains[0]![0])));
}

function rounded(gains: readonly (readonly number[])[]): (readonly number[])[] {
  return gains.map((pair) => pair.map((gain) => Math.round(gain * 1000) / 1000));
}

/** Amplitude of one frequency (as a share of the sample rate) in one of two channels. */
function level(stereo: Float32Array, side: number, frequency: number): number {
  let real = 0;
  let imaginary = 0;
  const frames = stereo.length / 2;
  for (let i = 0; i < frames; i++) {
    real += stereo[2 * i + side]! * cos(2 * PI * frequency * i);
    imaginary += stereo[2 * i + side]! * sin(2 * PI * frequency * i);
  }
  return (2 * hypot(real, imaginary)) / frames;
}
