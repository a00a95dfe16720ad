import { describe, expect, it } from "@jest/globals";
import { decodeWithFfmpeg, decodeWithMpg123 } from "./support/mp3-decoders.ts";
import { serviceForUploads } from "./support/upload-and-download.ts";
import { infoChunk, wavFile, type FormatOptions, type WavOptions } from "./support/wav-maker.ts";

const { sin, PI, round, abs } = Math;

const upload = serviceForUploads();

/** The file to upload. */
interface Case {
  readonly format: FormatOptions;
  readonly samples: number;
  readonly mp3RateHz?: number;
  readonly file?: WavOptions;
}

describe("an upload comes back with each of its samples and none besides", () => {
  const cd = { channels: 2, sampleRateHz: 44_100, bits: 16 };
  const tags = [infoChunk({ INAM: "Behind the sound" })];
  it.each<[string, Case]>([
    ["16 bits of stereo", { format: cd, samples: 30_001 }],
    ["8 bits of mono with an odd size and tags behind", mono8({ samples: 30_001, file: { after: tags } })],
    ["24 bits at 48 kHz", { format: { ...cd, bits: 24, sampleRateHz: 48_000 }, samples: 30_001 }],
    ["20 bits in 24", { format: { ...cd, bits: 24, extensible: { validBits: 20 } }, samples: 9000 }],
    ["32 bits at 22.05 kHz", { format: { ...cd, bits: 32, sampleRateHz: 22_050 }, samples: 30_001 }],
    ["64 bits", { format: { ...cd, bits: 64 }, samples: 9000 }],
    [
      "32-bit floats at 8 kHz",
      { format: { ...cd, tag: 3, bits: 32, sampleRateHz: 8000 }, samples: 9001, mp3RateHz: 32_000 },
    ],
    ["64-bit floats of mono", { format: { ...cd, channels: 1, tag: 3, bits: 64 }, samples: 9001 }],
    ["six channels", { format: { ...cd, channels: 6, extensible: { channelMask: 0x3f } }, samples: 9001 }],
    ["RIFX", { format: cd, samples: 9001, file: { container: "RIFX" } }],
    ["RF64 with tags behind", { format: cd, samples: 9001, file: { container: "RF64", after: tags } }],
    ["a size that was never filled in", { format: cd, samples: 9001, file: { dataSize: 0xffff_ffff, size: 0 } }],
    ["one sample", { format: cd, samples: 1 }],
    ["two samples at 8 kHz", { format: { ...cd, sampleRateHz: 8000 }, samples: 2, mp3RateHz: 32_000 }],
    ["a frame less one sample", { format: cd, samples: 1151 }],
    ["a frame", { format: cd, samples: 1152 }],
    ["a frame and one sample at 24 kHz", { format: { ...cd, sampleRateHz: 24_000 }, samples: 577 }],
    ["96 kHz, resampled", { format: { ...cd, sampleRateHz: 96_000 }, samples: 60_001, mp3RateHz: 48_000 }],
    ["37 kHz, resampled", { format: { ...cd, sampleRateHz: 37_000 }, samples: 30_001, mp3RateHz: 44_100 }],
    ["384 kHz, resampled", { format: { ...cd, sampleRateHz: 384_000 }, samples: 200_001, mp3RateHz: 48_000 }],
    ["2 kHz, short", { format: { ...cd, channels: 1, sampleRateHz: 2000 }, samples: 1401, mp3RateHz: 32_000 }],
    ["one sample of 2 kHz", { format: { ...cd, channels: 1, sampleRateHz: 2000 }, samples: 1, mp3RateHz: 32_000 }],
    ["two samples of 7.35 kHz", { format: { ...cd, sampleRateHz: 7350 }, samples: 2, mp3RateHz: 44_100 }],
    ["five samples of 384 kHz", { format: { ...cd, sampleRateHz: 384_000 }, samples: 5, mp3RateHz: 48_000 }],
    ["a call of 8 kHz", { format: { ...cd, channels: 1, sampleRateHz: 8000 }, samples: 24_001, mp3RateHz: 32_000 }],
    ["11.025 kHz", { format: { ...cd, channels: 1, sampleRateHz: 11_025 }, samples: 30_001, mp3RateHz: 44_100 }],
    ["12 kHz", { format: { ...cd, sampleRateHz: 12_000 }, samples: 30_001, mp3RateHz: 48_000 }],
    ["16 kHz", { format: { ...cd, channels: 1, sampleRateHz: 16_000 }, samples: 30_001, mp3RateHz: 32_000 }],
    ["18.9 kHz", { format: { ...cd, sampleRateHz: 18_900 }, samples: 30_001, mp3RateHz: 32_000 }],
    ["2 kHz, resampled", { format: { ...cd, channels: 1, sampleRateHz: 2000 }, samples: 3001, mp3RateHz: 32_000 }],
  ])("from %s", async (_, { format, samples, mp3RateHz = format.sampleRateHz!, file }) => {
    const rateHz = format.sampleRateHz!;
    const seconds = samples / rateHz;
    const topHz = 0.15 * Math.min(rateHz, mp3RateHz);
    const sound = chirp(samples, rateHz, seconds, topHz);
    const wav = wavFile({ ...file, format, data: encoded(sound, format, file?.container === "RIFX") });
    const { record, mp3 } = await upload(wav, { fields: "durationSeconds sampleRateHz channels" });
    const channels = format.channels === 1 ? 1 : 2;
    expect(record).toEqual({ durationSeconds: seconds, sampleRateHz: mp3RateHz, channels });
    const mp3Samples = round(seconds * mp3RateHz);
    const wanted = chirp(mp3Samples, mp3RateHz, seconds, topHz);
    for (const decode of [decodeWithFfmpeg, decodeWithMpg123]) {
      const decoded = (await decode(mp3, channels)).filter((_sample, i) => i % channels === 0);
      expect(decoded).toHaveLength(mp3Samples);
      expect(lagOf(wanted, decoded)).toBe(0);
    }
  });
});

function mono8(rest: Omit<Case, "format">): Case {
  return { ...rest, format: { channels: 1, sampleRateHz: 44_100, bits: 8 } };
}

/** A sine that rises from a hundredth of `topHz` to `topHz`, so that it matches itself at one offset only. */
function chirp(samples: number, rateHz: number, seconds: number, topHz: number): Float64Array {
  const sound = new Float64Array(samples);
  for (let i = 0; i < samples; i++) {
    const time = i / rateHz;
    sound[i] = 0.4 * sin(2 * PI * topHz * (0.01 * time + (0.495 * time * time) / seconds));
  }
  return sound;
}

/** The content of a data chunk with this sound on every channel. */
function encoded(sound: Float64Array, { bits = 16, channels = 1, tag }: FormatOptions, bigEndian: boolean): Buffer {
  const bytes = Buffer.alloc((sound.length * channels * bits) / 8);
  let at = 0;
  for (const sample of sound) {
    for (let channel = 0; channel < channels; channel++) {
      if (tag === 3) at = bits === 64 ? bytes.writeDoubleLE(sample, at) : bytes.writeFloatLE(sample, at);
      else if (bits === 64) at = bytes.writeBigInt64LE(BigInt(round(sample * 2 ** 52)) << 11n, at);
      else if (bits === 8) at = bytes.writeUInt8(round(sample * 127) + 128, at);
      else at = bytes.writeIntLE(round(sample * (2 ** (bits - 1) - 1)), at, bits / 8);
    }
  }
  return bigEndian ? bytes.swap16() : bytes;
}

/** The delay of the decoded sound in samples, where the two differ least. 0 for sounds that are too short to tell. */
function lagOf(wanted: Float64Array, decoded: Float32Array): number {
  const reach = wanted.length > 2000 ? 700 : 0;
  let best = { lag: NaN, difference: Infinity };
  for (let lag = 0 - reach; lag <= reach; lag++) {
    let difference = 0;
    for (let i = reach; i < wanted.length - reach; i += 3) difference += abs(wanted[i]! - decoded[i + lag]!);
    if (difference < best.difference) best = { lag, difference };
  }
  return best.lag;
}
