import { describe, expect, it } from "@jest/globals";
import { decodeWithFfmpeg, readTagsWithFfmpeg } from "./support/mp3-decoders.ts";
import { serviceForUploads } from "./support/upload-and-download.ts";
import { seededRandom, sineWav, type FormatOptions, wavFile } from "./support/wav-maker.ts";

const uploadWav = serviceForUploads();

describe("the level of the MP3", () => {
  it.each([
    ["LOW", 1, 64],
    ["LOW", 2, 96],
    ["STANDARD", 2, 192],
    ["HIGH", 1, 160],
    ["HIGH", 2, 320],
  ])("is that of its tags and of the API in %s with %d channels", async (quality, channels, kbps) => {
    const wav = sineWav({ seconds: 1, amplitude: 0.5, channels, sampleRateHz: 48_000 });
    const { record, mp3 } = await upload(wav, quality);
    expect(record.bitrateKbps).toBe(kbps);
    const level = 20 * Math.log10(rms(await decodeWithFfmpeg(mp3)) / (0.5 * Math.SQRT1_2));
    expect(Math.abs(level - record.mp3GainDb)).toBeLessThan(0.02);

    const tags = await readTagsWithFfmpeg(mp3);
    const gain = -18 - record.loudness.integratedLufs - record.mp3GainDb;
    expect(Math.abs(Number.parseFloat(tags["REPLAYGAIN_TRACK_GAIN"]!) - gain)).toBeLessThan(0.006);
    const peak = 20 * Math.log10(Number(tags["REPLAYGAIN_TRACK_PEAK"]));
    expect(Math.abs(peak - record.samplePeakDbfs - record.mp3GainDb)).toBeLessThan(0.001);
  });
});

describe("the peaks", () => {
  it("are known of a sound that is too short for a loudness", async () => {
    const { record } = await upload(sineWav({ seconds: 0.05, amplitude: 0.25 }));
    expect(record.loudness).toBeNull();
    expect(record.samplePeakDbfs).toBeCloseTo(-12.04, 1);
    expect(record.truePeakDbtp).toBeGreaterThanOrEqual(record.samplePeakDbfs);
  });

  it("are null where every sample is zero", async () => {
    const { record } = await upload(wavFile({ data: Buffer.alloc(8000) }));
    expect(record).toMatchObject({ samplePeakDbfs: null, truePeakDbtp: null, loudness: null, warnings: ["SILENT"] });
  });

  it("between the samples are higher", async () => {
    // A quarter of the sample rate, at 45 degrees: each sample is 3 dB below the peak of the wave.
    const samples = Float32Array.from({ length: 48_000 }, (_, i) => 0.5 * Math.sin((Math.PI * i) / 2 + Math.PI / 4));
    const format = { tag: 3, bits: 32, channels: 1, sampleRateHz: 48_000 };
    const { record } = await upload(wavFile({ format, data: Buffer.from(samples.buffer) }));
    expect(record.samplePeakDbfs).toBeCloseTo(-9.03, 1);
    expect(record.truePeakDbtp).toBeGreaterThan(-6.4);
    expect(record.loudness).toMatchObject({ truePeakDbtp: record.truePeakDbtp, rangeLu: null });
  });
});

describe("the warnings about levels", () => {
  it("do not call 24 bits silent that are quieter than the dither of 16 bits", async () => {
    const { record } = await upload(sineWav({ seconds: 0.5, amplitude: 1e-5, bits: 24 }));
    expect(record.warnings).toEqual([]);
    const quieter = await upload(sineWav({ seconds: 0.5, amplitude: 1e-5, bits: 16 }));
    expect(quieter.record.warnings).toEqual(["SILENT"]);
  });

  it("see a channel that is clipped, although the mix is not", async () => {
    const clipped = Int16Array.from({ length: 4000 * 6 }, (_, i) => (i % 6 === 3 && i < 600 ? 32_767 : 0));
    const whole = clipped.map((sample) => sample / 2);
    const format = { channels: 6, sampleRateHz: 48_000 };
    const warnings = async (data: Int16Array) =>
      (await upload(wavFile({ format, data: Buffer.from(data.buffer) }))).record.warnings;
    expect(await warnings(clipped)).toEqual(["CLIPPED", "MIXED_DOWN"]);
    expect(await warnings(whole)).toEqual(["MIXED_DOWN"]);
  });

  it("see clipping in codecs that cannot reach full scale", async () => {
    const oki = { tag: 0x10, channels: 1, sampleRateHz: 8000, bits: 4, blockAlign: 1, bytesPerSecond: 4000 };
    const gsm = { tag: 0x31, channels: 1, sampleRateHz: 8000, bits: 0, blockAlign: 65, bytesPerSecond: 1625 };
    const warnings = async (format: FormatOptions, data: Buffer) =>
      (await upload(wavFile({ format: { ...format, extra: Buffer.from([2, 0, 0x40, 1]) }, data }))).record.warnings;
    // Up to the end of the scale, and on and on; and steps around the middle.
    expect(await warnings(oki, Buffer.alloc(2000, 0x77))).toEqual(["CLIPPED"]);
    expect(await warnings(oki, Buffer.alloc(2000, 0x4c))).toEqual([]);
    const random = seededRandom(610);
    expect(await warnings(gsm, Buffer.from(Array.from({ length: 65 * 40 }, () => random() * 256)))).toEqual([
      "CLIPPED",
    ]);
  });
});

async function upload(wav: Buffer, quality = "STANDARD") {
  return await uploadWav(wav, {
    fields: `bitrateKbps mp3GainDb samplePeakDbfs truePeakDbtp warnings
      loudness { integratedLufs rangeLu truePeakDbtp }`,
    declarations: ", $quality: Quality",
    args: ", quality: $quality",
    variables: { quality },
  });
}

function rms(samples: Float32Array): number {
  // Without the edges, where the encoder fades.
  const middle = samples.subarray(samples.length / 4, (samples.length * 3) / 4);
  return Math.sqrt(middle.reduce((sum, sample) => sum + sample * sample, 0) / middle.length);
}
