import { describe, expect, it } from "@jest/globals";
import { parseBuffer } from "music-metadata";
import { id3Tag } from "../src/audio/mp3/id3-tag.ts";
import {
  bitratesOf,
  decoderDelaySamples,
  lameDelaySamples,
  mpegVersionOf,
  readFrameHeader,
} from "../src/audio/mp3/mp3-frame.ts";
import { infoFrame, Mp3Index } from "../src/audio/mp3/mp3-header.ts";
import { shortSoundSamples, silenceAround } from "../src/audio/mp3/short-sound.ts";
import type { EncodedSound } from "../src/audio/mp3/mp3-header.ts";
import { ServiceError } from "../src/errors/errors.ts";
import {
  decodeWithFfmpeg,
  decodeWithMpg123,
  describeWithFfmpeg,
  encodeMp3,
  problemsFoundByMp3val,
} from "./support/mp3-decoders.ts";
import { needs } from "./support/needs.ts";

interface Headed {
  readonly mp3: Buffer;
  readonly index: Mp3Index;
}

const lowRatesHz = [8000, 11_025, 12_000, 16_000, 22_050, 24_000];
const ratesHz = [...lowRatesHz, 32_000, 44_100, 48_000];

describe("the Info frame", () => {
  const kinds = ratesHz.flatMap((rateHz) => {
    const bitrates = bitratesOf(mpegVersionOf(rateHz)!);
    return ([1, 2] as const).flatMap((channels) =>
      // Two channels at 8 kbit/s are too distorted to compare; another test checks their length.
      [bitrates[channels - 1]!, bitrates[4]!, bitrates.at(-1)!].map((kbps) => ({ rateHz, channels, kbps })),
    );
  });

  it.each(kinds)("makes $rateHz Hz x $channels at $kbps kbit/s the recording exactly", async (kind) => {
    const samples = 12_347;
    const source = noise(samples, kind.channels);
    const { mp3 } = await headedNoise(samples, kind.rateHz, kind.channels, kind.kbps);
    const ffmpeg = await decodeWithFfmpeg(mp3);
    const mpg123 = await decodeWithMpg123(mp3, kind.channels);
    expect(ffmpeg.length).toBe(samples * kind.channels);
    expect(mpg123.length).toBe(samples * kind.channels);
    expect(bestLag(source, ffmpeg, kind.channels)).toBe(0);
    expect(bestLag(source, mpg123, kind.channels)).toBe(0);
  });

  it.each(lowRatesHz)("keeps %i Hz x 2 at 8 kbit/s to its length", async (rateHz) => {
    const { mp3 } = await headedNoise(12_347, rateHz, 2, 8);
    const decoded = [await decodeWithFfmpeg(mp3), await decodeWithMpg123(mp3, 2)];
    expect(decoded.map(({ length }) => length)).toEqual([12_347 * 2, 12_347 * 2]);
  });

  const lengths = [1, 2, 46, 47, 48, 576, 1105, 1152, 1153, 2257, 2305, shortSoundSamples - 1, shortSoundSamples];

  it.each([44_100, 22_050, 8000])("keeps short sounds at %i Hz to their length", async (rateHz) => {
    const check = async (samples: number) => {
      const { mp3 } = await headedNoise(samples, rateHz, 1, 32);
      const decoded = [await decodeWithFfmpeg(mp3), await decodeWithMpg123(mp3, 1)];
      expect([samples, ...decoded.map(({ length }) => length)]).toEqual([samples, samples, samples]);
    };
    await Promise.all(lengths.map(check));
  });

  needs("mp3val", () => {
    it.each(ratesHz)("makes MP3s of %i Hz in which mp3val finds no fault", async (rateHz) => {
      const low = lowRatesHz.includes(rateHz) ? [{ rateHz, channels: 2 as const, kbps: 8 }] : [];
      for (const { channels, kbps } of [...kinds.filter((kind) => kind.rateHz === rateHz), ...low]) {
        const { mp3, index } = await headedNoise(12_347, rateHz, channels, kbps);
        expect([channels, kbps, await problemsFoundByMp3val(mp3, index.frames + 1)]).toEqual([channels, kbps, []]);
      }
    });

    it.each([
      // Frames of 1152 samples are so long that the silence that an MP3 can take away makes no ten of them.
      { rateHz: 44_100, mp3valAccepts: 2305 },
      { rateHz: 22_050, mp3valAccepts: 1 },
      { rateHz: 8000, mp3valAccepts: 1 },
    ])("makes enough frames of short sounds at $rateHz Hz", async ({ rateHz, mp3valAccepts }) => {
      const check = async (samples: number) => {
        const { mp3, index } = await headedNoise(samples, rateHz, 1, 32);
        const problems = await problemsFoundByMp3val(mp3, index.frames + 1);
        expect(problems.map((problem) => /Too few MPEG frames/.exec(problem)?.[0] ?? problem)).toEqual(
          samples < mp3valAccepts ? ["Too few MPEG frames"] : [],
        );
      };
      await Promise.all(lengths.map(check));
    });
  });

  it("tells ffmpeg and music-metadata the duration, the ReplayGain, the peak and the encoder", async () => {
    const samples = 44_100 * 20;
    const source = noise(samples, 2);
    const { mp3 } = await headed(source, 44_100, 2, 128, { replayGainDb: -6.54, peak: 0.5 });
    const frames = Math.ceil((samples + lameDelaySamples + decoderDelaySamples) / 1152);
    const said = await describeWithFfmpeg(mp3);
    expect(said).toContain(
      `Duration: 00:00:${((frames * 1152) / 44_100).toFixed(2)}, start: 0.025057, bitrate: 128 kb/s`,
    );
    expect(said).toMatch(/replaygain: track gain - -6.540000, track peak - 0.000012/);
    // ffmpeg prints the name of the encoder only if the checksum of the LAME fields is correct.
    expect(said).toMatch(/LAME3\.\d{3}/);
    const { format } = await parseBuffer(mp3, { mimeType: "audio/mpeg" }, { duration: true });
    expect(format).toMatchObject({
      codec: "MPEG 1 Layer 3",
      codecProfile: "CBR",
      tool: expect.stringMatching(/^LAME 3\.\d{3}$/),
      bitrate: 128_000,
    });
    expect(format.duration).toBeCloseTo((frames * 1152) / 44_100, 6);
    expect(format.trackPeakLevel).toBe(0.5);
    expect(format.trackGain).toBe(-6.5);
  });

  it("contains the counts, a seek table, LAME's delay and padding, and correct checksums", async () => {
    const samples = 32_000 * 10;
    const frames = await encodeMp3(noise(samples, 1), 32_000, 1, 48);
    const index = indexOf(frames);
    const frame = infoFrame(index, { samples });
    const fields = frame.subarray(4 + 17);
    expect(fields.toString("latin1", 0, 4)).toBe("Info");
    expect(fields.readUInt32BE(4)).toBe(0x0f);
    expect(fields.readUInt32BE(8)).toBe(index.frames);
    expect(index.frames).toBe(Math.ceil((samples + lameDelaySamples + decoderDelaySamples) / 1152));
    expect(fields.readUInt32BE(12)).toBe(frame.length + frames.length);
    expect(fields.toString("latin1", 120, 129)).toBe(/LAME3\.\d{3}/.exec(frames.toString("latin1"))?.[0]);
    expect(fields.readUInt32BE(116)).toBe(55);
    expect(fields.readUIntBE(141, 3)).toBe((576 << 12) | (index.frames * 1152 - 576 - samples));
    expect(fields.readUInt32BE(148)).toBe(frame.length + frames.length);
    expect(fields.readUInt16BE(152)).toBe(crc16BitByBit(frames));
    expect(fields.readUInt16BE(154)).toBe(crc16BitByBit(frame.subarray(0, 4 + 17 + 154)));
    const starts = frameStarts(frames);
    for (const [percent, entry] of fields.subarray(16, 116).entries()) {
      const start = frame.length + starts[Math.floor((percent * starts.length) / 100)]!;
      const sought = (entry * (frame.length + frames.length)) / 256;
      expect(Math.abs(start - sought)).toBeLessThanOrEqual((frame.length + frames.length) / 256 + frame.length);
    }
  });

  it("uses a larger bit rate if the sound's own frames are too short for it", async () => {
    const frames = await encodeMp3(noise(8000, 1), 8000, 1, 8);
    const index = indexOf(frames);
    expect(index.firstHeader.header.byteLength).toBe(72);
    expect(infoFrame(index, { samples: 8000 }).length).toBe(216);
  });

  it("keeps counting over hours", async () => {
    const second = await encodeMp3(noise(48_000, 1), 48_000, 1, 320);
    const index = new Mp3Index();
    const frame = second.subarray(0, 960);
    const minute = Buffer.concat(Array.from({ length: 2500 }, () => frame));
    for (let minutes = 0; minutes < 60; minutes++) index.add(minute);
    const samples = 60 * 2500 * 1152 - 1200;
    const fields = infoFrame(index, { samples }).subarray(4 + 17);
    expect(fields.readUInt32BE(8)).toBe(150_000);
    expect(fields.readUInt32BE(12)).toBe(150_000 * 960 + 960);
  });
});

describe("the index of an MP3", () => {
  it("does not depend on how the frames are split", async () => {
    const frames = await encodeMp3(noise(44_100, 2), 44_100, 2, 128);
    const starts = frameStarts(frames);
    const oneByOne = new Mp3Index();
    for (const [position, start] of starts.entries()) oneByOne.add(frames.subarray(start, starts[position + 1]));
    expect(infoFrame(oneByOne, { samples: 44_100 })).toEqual(infoFrame(indexOf(frames), { samples: 44_100 }));
  });

  it("refuses bytes that are not whole frames, and frames of another kind", async () => {
    const frames = await encodeMp3(noise(44_100, 2), 44_100, 2, 128);
    const other = await encodeMp3(noise(44_100, 2), 44_100, 2, 160);
    expect(refusalOf(frames)).toBeUndefined();
    expect(refusalOf(frames.subarray(0, -1))).toBe("CONVERSION_FAILED");
    expect(refusalOf(frames.subarray(0, 3))).toBe("CONVERSION_FAILED");
    expect(refusalOf(frames.subarray(1))).toBe("CONVERSION_FAILED");
    expect(refusalOf(Buffer.from("RIFF, not an MP3"))).toBe("CONVERSION_FAILED");
    expect(refusalOf(frames, other)).toBe("CONVERSION_FAILED");
  });

  it("refuses frames whose padding is not where LAME puts it", async () => {
    const frames = await encodeMp3(noise(44_100, 2), 44_100, 2, 128);
    expect(refusalOf(frames.subarray(frameStarts(frames)[1]))).toBe("CONVERSION_FAILED");
  });

  it("refuses frames that contain less than the recording, or much more", async () => {
    const frames = await encodeMp3(noise(44_100, 1), 44_100, 1, 64);
    const starts = frameStarts(frames);
    expect(refusalToHead(indexOf(frames), 44_100)).toBeUndefined();
    expect(refusalToHead(new Mp3Index(), 0)).toBe("CONVERSION_FAILED");
    expect(refusalToHead(indexOf(frames.subarray(0, starts.at(-2))), 44_100)).toBe("CONVERSION_FAILED");
    expect(refusalToHead(indexOf(frames), 40_000)).toBe("CONVERSION_FAILED");
  });
});

const headedSounds = new Map<string, Promise<Headed>>();

/** {@link headed} of {@link noise}, which several tests look at. */
async function headedNoise(samples: number, rateHz: number, channels: 1 | 2, kbps: number): Promise<Headed> {
  const key = [samples, rateHz, channels, kbps].join();
  const made = headedSounds.get(key) ?? headed(noise(samples, channels), rateHz, channels, kbps);
  headedSounds.set(key, made);
  return await made;
}

/** A whole MP3 of interleaved samples: the tag, the Info frame and the sound. */
async function headed(
  source: Int16Array,
  rateHz: number,
  channels: 1 | 2,
  kbps: number,
  measured: Omit<EncodedSound, "samples"> = {},
): Promise<Headed> {
  const samples = source.length / channels;
  const silence = silenceAround(samples);
  const encoded = new Int16Array((silence.before + samples + silence.after) * channels);
  encoded.set(source, silence.before * channels);
  const frames = await encodeMp3(encoded, rateHz, channels, kbps);
  const index = indexOf(frames);
  const head = infoFrame(index, { samples, silenceBefore: silence.before, ...measured });
  return { index, mp3: Buffer.concat([id3Tag({ title: "Noise", ...measured }), head, frames]) };
}

function indexOf(...buffers: Buffer[]): Mp3Index {
  const index = new Mp3Index();
  for (const buffer of buffers) index.add(buffer);
  return index;
}

function frameStarts(frames: Buffer): number[] {
  const starts: number[] = [];
  for (let start = 0; start < frames.length; start += readFrameHeader(frames, start)!.byteLength) starts.push(start);
  return starts;
}

/** Noise with little treble, which even 8 kbit/s preserve; the channels are similar but not the same. */
function noise(samples: number, channels: 1 | 2): Int16Array {
  const sound = new Int16Array(samples * channels);
  let seed = 1;
  const random = () => (seed = (seed * 48_271) % 0x7fff_ffff) / 0x7fff_ffff - 0.5;
  let once = 0;
  let twice = 0;
  for (let at = 0; at < samples; at++) {
    once += (random() - once) / 10;
    twice += (once - twice) / 10;
    for (let channel = 0; channel < channels; channel++)
      sound[at * channels + channel] = twice * 80_000 * (1 - channel / 4);
  }
  return sound;
}

/** The delay of the decoded sound behind the source in samples, where the two match best. */
function bestLag(source: Int16Array, decoded: Float32Array, channels: number): number {
  let best = { lag: Number.NaN, likeness: 0.8 };
  for (let lag = -60; lag <= 60; lag++) {
    const likeness = correlation(source, decoded, lag * channels);
    if (likeness > best.likeness) best = { lag, likeness };
  }
  return best.lag;
}

function correlation(source: Int16Array, decoded: Float32Array, shift: number): number {
  let [both, first, second] = [0, 0, 0];
  const end = Math.min(source.length, decoded.length - shift);
  for (let at = Math.max(0, -shift); at < end; at++) {
    both += source[at]! * decoded[at + shift]!;
    first += source[at]! ** 2;
    second += decoded[at + shift]! ** 2;
  }
  return both / Math.sqrt(first * second);
}

function crc16BitByBit(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ 0xa001 : crc >> 1;
  }
  return crc;
}

function refusalOf(...buffers: Buffer[]): string | undefined {
  return codeThrownBy(() => indexOf(...buffers));
}

function refusalToHead(index: Mp3Index, samples: number): string | undefined {
  return codeThrownBy(() => infoFrame(index, { samples }));
}

function codeThrownBy(action: () => unknown): string | undefined {
  try {
    action();
  } catch (error) {
    if (error instanceof ServiceError) return error.code;
    throw error;
  }
  return undefined;
}
