import { describe, expect, it } from "@jest/globals";
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { SoundMeter, type SoundFacts } from "../src/audio/meter/sound-meter.ts";
import type { Waveform } from "../src/audio/meter/waveform.ts";
import {
  audiowaveformJson,
  decodeWaveform,
  encodeWaveform,
  waveformPeaks,
  zoomed,
} from "../src/audio/meter/waveform.ts";

// Looking up a global is slow in Jest's sandbox, and these are used in loops over samples.
const { abs, imul, round, sin } = Math;

const formats: PcmFormat[] = [
  { sampleFormat: "s16le", channels: 1, sampleRateHz: 8000 },
  { sampleFormat: "s16le", channels: 2, sampleRateHz: 44_100 },
  { sampleFormat: "f32le", channels: 1, sampleRateHz: 48_000 },
  { sampleFormat: "f32le", channels: 2, sampleRateHz: 384_000 },
];

describe("minima and maxima", () => {
  describe.each(formats)("of $sampleFormat, $channels ch", (format) => {
    it.each([1, 2, 3, 2047, 2048, 2049, 4095, 4096, 4097, 10_001, 65_536, 100_003])(
      "are those of the samples for %d frames",
      (frames) => {
        const samples = randomSamples(format, frames);
        expect(measure(format, samples)).toEqual(bruteForce(format, samples));
      },
    );

    it.each([1, 3, 7, 1021, 2048, 4099])("are the same in chunks of %d frames", (framesPerChunk) => {
      const samples = randomSamples(format, 9001);
      expect(measure(format, samples, framesPerChunk)).toEqual(bruteForce(format, samples));
    });
  });

  it("reach full scale at both ends and stay there beyond", () => {
    const s16 = measure(formats[0]!, Int16Array.of(-32_768, 32_767, 0));
    expect(s16.extremes).toEqual(Int8Array.of(-127, -127, 127, 127, 0, 0));
    const f32 = measure(formats[2]!, Float32Array.of(-1, 1, -7, 7, 0.5));
    expect(f32.extremes).toEqual(Int8Array.of(-127, -127, 127, 127, -127, -127, 127, 127, 64, 64));
  });

  it("are none without samples", () => {
    expect(measure(formats[0]!, new Int16Array(0))).toEqual({
      sampleRateHz: 8000,
      framesPerBin: 1,
      extremes: new Int8Array(0),
    });
  });
});

describe("stored form", () => {
  it.each([0, 1, 2049, 100_000])("restores the waveform of %d frames", (frames) => {
    const waveform = measure(formats[1]!, randomSamples(formats[1]!, frames));
    const stored = encodeWaveform(waveform);
    expect(stored.length).toBeLessThanOrEqual(4120);
    expect(decodeWaveform(stored)).toEqual(waveform);
    // The database driver returns views of larger buffers.
    expect(decodeWaveform(Buffer.concat([Buffer.alloc(3), stored]).subarray(3))).toEqual(waveform);
  });

  it("is the binary audiowaveform format, version 2", () => {
    const stored = encodeWaveform({
      sampleRateHz: 44_100,
      framesPerBin: 256,
      extremes: Int8Array.of(-5, 6, -127, 127),
    });
    expect(stored.toString("hex")).toBe("020000000100000044ac0000000100000200000001000000fb06817f");
  });

  it("refuses other bytes", () => {
    const stored = encodeWaveform(measure(formats[0]!, Int16Array.of(1, 2, 3)));
    expect(() => decodeWaveform(stored.subarray(0, 10))).toThrow("not a stored waveform");
    expect(() => decodeWaveform(stored.subarray(0, -1))).toThrow("not a stored waveform");
    expect(() => decodeWaveform(Buffer.alloc(stored.length))).toThrow("not a stored waveform");
  });
});

describe("peaks", () => {
  const waveform: Waveform = {
    sampleRateHz: 8000,
    framesPerBin: 1,
    extremes: Int8Array.of(-127, 3, 0, 0, -10, 64, 1, 127),
  };

  it.each([
    [1, [1]],
    [2, [1, 1]],
    [4, [1, 0, 0.504, 1]],
    [8, [1, 1, 0, 0, 0.504, 0.504, 1, 1]],
    // Bins on a border belong to both sides.
    [3, [1, 0.504, 1]],
  ])("spread %d values over the recording", (count, peaks) => {
    expect(waveformPeaks(waveform, count)).toEqual(peaks);
  });

  it.each([1, 2, 511, 512, 1000, 2048])("are the largest magnitudes of %d stretches", (count) => {
    const format = formats[1]!;
    const samples = randomSamples(format, 2048);
    const peaks = waveformPeaks(measure(format, samples), count);
    expect(peaks).toHaveLength(count);
    for (const [i, peak] of peaks.entries()) {
      const first = 2 * Math.floor((i * 2048) / count);
      const end = 2 * Math.ceil(((i + 1) * 2048) / count);
      const largest = Math.max(...Array.from(samples.subarray(first, end), abs)) / 32_768;
      expect(abs(peak - largest)).toBeLessThan(0.005);
    }
  });

  it("are zero without samples", () => {
    expect(waveformPeaks({ sampleRateHz: 8000, framesPerBin: 1, extremes: new Int8Array(0) }, 3)).toEqual([0, 0, 0]);
  });

  it.each([0, -1, 1.5, 2049, Number.NaN])("refuse a count of %d", (count) => {
    expect(() => waveformPeaks(waveform, count)).toThrow(
      expect.objectContaining({ code: "BAD_USER_INPUT", details: { argument: "count", maxCount: 2048 } }),
    );
  });
});

describe("zooming", () => {
  const format: PcmFormat = { sampleFormat: "s16le", channels: 1, sampleRateHz: 44_100 };

  it.each([524_289, 700_001])("has the details of %d frames", (frames) => {
    const samples = randomSamples(format, frames);
    const { waveform, detailedWaveform } = measured(format, samples);
    expect(waveform).toEqual(bruteForce(format, samples));
    expect(detailedWaveform).toEqual(bruteForce(format, samples, 256));
    expect(zoomed(detailedWaveform!, 1)).toEqual(detailedWaveform);
    expect(zoomed(detailedWaveform!, 2047)).toEqual(bruteForce(format, samples, 1024));
    expect(zoomed(detailedWaveform!, 2048)).toEqual(bruteForce(format, samples, 2048));
    expect(zoomed(detailedWaveform!, 2 ** 24).extremes).toHaveLength(2);
  });

  it("has at most 32,768 points", () => {
    const samples = new Int16Array(32_768 * 256 + 1);
    const loud = [0, 1000, 32_767 * 256, 32_768 * 256];
    for (const at of loud) samples[at] = 32_767;
    const { framesPerBin, extremes } = measured(format, samples).detailedWaveform!;
    expect([framesPerBin, extremes.length]).toEqual([512, 2 * 16_385]);
    expect([...extremes.keys()].filter((i) => extremes[i] !== 0)).toEqual([1, 3, 32_767, 32_768, 32_769]);
  });

  it("needs no details for a short recording", () => {
    expect(measured(format, randomSamples(format, 524_288)).detailedWaveform).toBeUndefined();
  });
});

describe("audiowaveformJson", () => {
  it("has the fields of the audiowaveform data format, version 2", () => {
    const waveform = { sampleRateHz: 44_100, framesPerBin: 256, extremes: Int8Array.of(-5, 6, -127, 127) };
    expect(JSON.parse(JSON.stringify(audiowaveformJson(waveform)))).toEqual({
      version: 2,
      channels: 1,
      sample_rate: 44_100,
      samples_per_pixel: 256,
      bits: 8,
      length: 2,
      data: [-5, 6, -127, 127],
    });
  });
});

type Samples = Int16Array<ArrayBuffer> | Float32Array<ArrayBuffer>;

function measure(format: PcmFormat, samples: Samples, framesPerChunk = samples.length): Waveform {
  return measured(format, samples, framesPerChunk).waveform;
}

function measured(format: PcmFormat, samples: Samples, framesPerChunk = samples.length): SoundFacts {
  const meter = new SoundMeter(format);
  const pcm = Buffer.from(samples.buffer);
  const chunkBytes = framesPerChunk * format.channels * samples.BYTES_PER_ELEMENT;
  for (let offset = 0; offset < pcm.length; offset += chunkBytes) meter.add(pcm.subarray(offset, offset + chunkBytes));
  return meter.finish();
}

/**
 * A simple reference: the extremes of each bin, by default of the smallest power of two that gives at most 2048 bins.
 */
function bruteForce(
  { sampleRateHz, channels, sampleFormat }: PcmFormat,
  samples: Samples,
  framesPerBin = 2 ** Math.max(0, Math.ceil(Math.log2(samples.length / channels / 2048))),
): Waveform {
  const scale = sampleFormat === "s16le" ? 127 / 32_768 : 127;
  const extremes: number[] = [];
  for (let first = 0; first < samples.length; first += framesPerBin * channels) {
    const bin = samples.subarray(first, first + framesPerBin * channels);
    extremes.push(round(Math.min(...bin) * scale), round(Math.max(...bin) * scale));
  }
  return { sampleRateHz, framesPerBin, extremes: Int8Array.from(extremes) };
}

/** Noise of varying level that also reaches both ends of the scale. */
function randomSamples({ sampleFormat, channels }: PcmFormat, frames: number): Samples {
  let seed = 7;
  const samples = new Float32Array(frames * channels).map((_, i) => {
    seed = (imul(seed, 1_664_525) + 1_013_904_223) | 0;
    return (seed / 2 ** 31) * abs(sin(i / 1234)) ** 3;
  });
  if (sampleFormat === "f32le") return samples;
  const integers = Int16Array.from(samples.map((sample) => round(sample * 32_767)));
  integers.set([-32_768, 32_767].slice(0, integers.length), Math.floor(integers.length / 3));
  return integers;
}
