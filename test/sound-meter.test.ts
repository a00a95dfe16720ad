import { describe, expect, it } from "@jest/globals";
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { bytesPerPcmFrame } from "../src/audio/pcm-format.ts";
import type { SoundFacts } from "../src/audio/meter/sound-meter.ts";
import { SoundMeter } from "../src/audio/meter/sound-meter.ts";

// Looking up a global is slow in Jest's sandbox, and these are used in loops over samples.
const { imul, max, min, sin } = Math;

const s16Mono: PcmFormat = { sampleFormat: "s16le", channels: 1, sampleRateHz: 44_100 };
const s16Stereo: PcmFormat = { ...s16Mono, channels: 2 };
const f32Mono: PcmFormat = { ...s16Mono, sampleFormat: "f32le" };
const f32Stereo: PcmFormat = { ...f32Mono, channels: 2 };
const allFormats = [s16Mono, s16Stereo, f32Mono, f32Stereo];

describe("the way the input is cut", () => {
  describe.each(allFormats)("in $sampleFormat, $channels ch", (format) => {
    const pcm = loudNoise(format, 66_150);
    const whole = measure(format, pcm);

    it.each([1, 2, 3, 997, 4096, 16_384])("makes no difference at %d frames", (frames) => {
      expect(measure(format, pcm, frames)).toEqual(whole);
    });

    it("makes no difference at odd addresses", () => {
      for (const shift of [1, 2, 3]) {
        expect(measure(format, Buffer.concat([Buffer.alloc(shift), pcm]).subarray(shift), 1013)).toEqual(whole);
      }
    });

    it("returns facts that can be compared", () => {
      expect(whole.frames).toBe(66_150);
      expect(whole.integratedLufs).toBeGreaterThan(-20);
      expect(whole.clippedSamples).toBeGreaterThan(100);
      expect(whole.silent).toBe(false);
    });
  });
});

describe("the sample peak", () => {
  it("is 1 for the most negative integer and just below for the most positive", () => {
    expect(measureSamples(s16Mono, [5, -32_768])).toMatchObject({ samplePeak: 1, samplePeakDbfs: 0 });
    expect(measureSamples(s16Mono, [5, 32_767]).samplePeak).toBe(32_767 / 32_768);
  });

  it("sees either channel", () => {
    expect(measureSamples(s16Stereo, [0, 0, 16_384, 0, 1, 2]).samplePeak).toBe(0.5);
    expect(measureSamples(s16Stereo, [0, 0, 0, -16_384, 1, 2]).samplePeak).toBe(0.5);
    expect(measureSamples(s16Stereo, [0, 0, 0, -16_384, 1, 2]).samplePeakDbfs).toBeCloseTo(-6.02, 2);
  });

  it("goes above full scale for floating-point sound", () => {
    expect(measureSamples(f32Mono, [0, -2, 0.5])).toMatchObject({ samplePeak: 2, clippedSamples: 0 });
  });
});

describe("clipped samples", () => {
  const full = 32_767;
  it.each([
    ["none below full scale", s16Mono, [32_766, 32_766, 32_766, 32_766], 0],
    ["none in pairs", s16Mono, [full, full, 0, full, full, 0, -32_768, -32_768], 0],
    ["each of a run of three or more", s16Mono, [0, full, full, full, 0, -full, -32_768, -32_768, -32_768, 9], 7],
    ["none where the sign changes in between", s16Mono, [full, full, -full, -full, full, full], 0],
    ["a run that touches the other end at once", s16Mono, [full, full, full, -full, -full, -full, -full], 7],
    ["each channel for itself", s16Stereo, [full, 0, full, 0, full, full, 0, full, 0, 0], 3],
    ["none that alternate between channels", s16Stereo, [full, 0, 0, full, full, 0, 0, full], 0],
    ["floating-point runs at and above full scale", f32Mono, [1, 1.5, 1, 0, -1, -1, -3, 0.9999], 6],
    ["24-bit full scale as floating point", f32Mono, [8_388_607, 8_388_607, 8_388_607].map((x) => x / 2 ** 23), 3],
  ])("count %s", (_, format, samples, clipped) => {
    expect(measureSamples(format, samples).clippedSamples).toBe(clipped);
    expect(measureSamples(format, samples, 1).clippedSamples).toBe(clipped);
  });

  it("are found in encodings whose largest sample is below that of 16 bits", () => {
    const meter = new SoundMeter(s16Mono, { largestSample: 127 / 128 });
    meter.add(toPcm(s16Mono, [0, 32_512, 32_512, 32_512, 0, 32_256, 32_256, 32_256, -32_768, -32_512, -32_512]));
    expect(meter.finish().clippedSamples).toBe(6);
  });

  it("are not floats over full scale, which nothing has limited", () => {
    const clippedAt = (...samples: number[]) => {
      const meter = new SoundMeter(f32Mono, { largestSample: 8 });
      meter.add(toPcm(f32Mono, samples));
      return meter.finish().clippedSamples;
    };
    expect(clippedAt(0.5, 1.2, 1.9, 2.4, 1.7, -1.1, -1.5, -1.3, 0)).toBe(0);
    expect(clippedAt(0.5, 1, 1, 1, 0, -1, -1, -1)).toBe(6);
    expect(clippedAt(0.5, 8, 8, 8, 8, 0.5)).toBe(4);
  });

  it("do not join runs across quiet sound", () => {
    const quiet = Array.from<number>({ length: 10_000 }).fill(0);
    expect(measureSamples(s16Mono, [full, full, ...quiet, full, full]).clippedSamples).toBe(0);
    expect(measureSamples(s16Mono, [...quiet.slice(0, 4094), full, full, full, ...quiet]).clippedSamples).toBe(3);
  });
});

describe("silence", () => {
  it.each(allFormats)("is told from sound in $sampleFormat, $channels ch", (format) => {
    const pcm = Buffer.alloc(44_100 * bytesPerPcmFrame(format));
    expect(measure(format, pcm)).toMatchObject({
      frames: 44_100,
      silent: true,
      integratedLufs: null,
      samplePeak: 0,
      samplePeakDbfs: null,
      truePeakDbtp: null,
      loudnessRangeLu: null,
      clippedSamples: 0,
    });
  });

  it("may carry dither, but no more", () => {
    expect(measureSamples(s16Mono, [0, 1, -1, 2, -2, 0]).silent).toBe(true);
    expect(measureSamples(s16Mono, [0, 1, -1, 3, -2, 0]).silent).toBe(false);
    expect(measureSamples(f32Mono, [0.00006, -0.00006]).silent).toBe(true);
    expect(measureSamples(f32Mono, [0.0001]).silent).toBe(false);
  });

  it("is less than the dither of 16 bits if the file has more", () => {
    const isSilent = (sample: number): boolean => {
      const meter = new SoundMeter(f32Mono, { bitsPerSample: 24 });
      meter.add(toPcm(f32Mono, [0, sample, -sample, 0]));
      return meter.finish().silent;
    };
    expect(isSilent(2 / 2 ** 23)).toBe(true);
    expect(isSilent(3 / 2 ** 23)).toBe(false);
    expect(isSilent(1e-5)).toBe(false);
  });

  it("is what a recording without samples has", () => {
    expect(measureSamples(s16Mono, [])).toMatchObject({ frames: 0, silent: true, integratedLufs: null });
  });

  it("is not a single loud sample, which is too short for a loudness", () => {
    expect(measureSamples(s16Mono, [20_000])).toMatchObject({ frames: 1, silent: false, integratedLufs: null });
  });
});

function measureSamples(format: PcmFormat, samples: number[], framesPerChunk?: number): SoundFacts {
  return measure(format, toPcm(format, samples), framesPerChunk);
}

function measure(format: PcmFormat, pcm: Buffer, framesPerChunk = pcm.length): SoundFacts {
  const meter = new SoundMeter(format);
  const chunkBytes = framesPerChunk * bytesPerPcmFrame(format);
  for (let offset = 0; offset < pcm.length; offset += chunkBytes) meter.add(pcm.subarray(offset, offset + chunkBytes));
  return meter.finish();
}

function toPcm({ sampleFormat }: PcmFormat, samples: number[]): Buffer {
  return Buffer.from(sampleFormat === "s16le" ? Int16Array.from(samples).buffer : Float32Array.from(samples).buffer);
}

/** A sine that grows into clipping, with noise; then silence; then noise again. */
function loudNoise(format: PcmFormat, frames: number): Buffer {
  const fullScale = format.sampleFormat === "s16le" ? 32_767 : 1;
  let seed = 3;
  const samples = Array.from({ length: frames * format.channels }, (_, i) => {
    const place = i / (frames * format.channels);
    seed = (imul(seed, 1_664_525) + 1_013_904_223) | 0;
    const sample = place > 0.6 && place < 0.9 ? 0 : 1.5 * place * sin(i / 30) + (0.2 * seed) / 2 ** 31;
    return max(-1, min(1, sample)) * fullScale;
  });
  return toPcm(format, samples);
}
