import { spawnSync } from "node:child_process";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "@jest/globals";
import { Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { hardSounds } from "../bench/support/hard-sounds.ts";
import { compressState, decodeState, encodeState, UnknownStateError } from "../src/audio/conversion-state.ts";
import { EncoderPool } from "../src/audio/encoder/encoder-pool.ts";
import type { Quality } from "../src/audio/mp3/quality.ts";
import { fromDifferences, toDifferences, type PcmDifferences } from "../src/audio/pcm-differences.ts";
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { resumableSourceHash } from "../src/audio/source-hash.ts";
import { openConversion, type Checkpoint, type ConversionFacts } from "../src/audio/wav-to-mp3.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { assertNoFfmpegRuns, ffmpeg } from "./support/ffmpeg.ts";
import { decodeMp3, readFrames } from "./support/mp3.ts";
import { append, begin, expectSameAsInOneRequest, offsetOf } from "./support/resumable.ts";
import { startService, type TestService } from "./support/service.ts";
import {
  bextChunk,
  chunk,
  id3Tag,
  infoChunk,
  seededRandom,
  sineWav,
  wave64File,
  formatChunk,
  wavFile,
  type FormatOptions,
} from "./support/wav-maker.ts";

const { sin, round, exp } = Math;

const cd = { channels: 2, sampleRateHz: 44_100, bits: 16 };
const cue = (...samples: number[]): Buffer => {
  const bytes = Buffer.alloc(4 + 24 * samples.length);
  bytes.writeUInt32LE(samples.length, 0);
  for (const [at, sample] of samples.entries()) {
    bytes.writeUInt32LE(at, 4 + 24 * at);
    bytes.writeUInt32LE(sample, 24 + 24 * at);
  }
  return bytes;
};
const tags = [
  infoChunk({ INAM: "Behind the sound", IART: "Ann" }),
  bextChunk({ description: "A take" }),
  chunk("cue ", cue(0, 60_000)),
  chunk("LIST", Buffer.concat([Buffer.from("adtl"), chunk("labl", Buffer.from("\u0001\0\0\0Verse"))])),
  chunk("iXML", Buffer.from("<BWFXML><PROJECT>Film</PROJECT><SCENE>7</SCENE></BWFXML>")),
  chunk("id3 ", id3Tag(3, [["TPE1", Buffer.from("\0Bob")]])),
];
const behind = [chunk("JUNK", Buffer.alloc(70_001)), ...tags];

/** A file of every kind that the reader and the meters treat differently, of some seconds each. */
const files: Readonly<Record<string, () => Buffer>> = {
  "16 bits with tags before and behind": () => pcm(cd, 12, { before: tags, after: behind }),
  "16 bits of mono at 22.05 kHz": () => pcm({ ...cd, channels: 1, sampleRateHz: 22_050 }, 15),
  "8 bits with an odd size": () => wavFile({ format: mono8, data: noise(640_001, 1), after: tags }),
  "24 bits in a RIFX": () =>
    wavFile({ container: "RIFX", format: { ...cd, bits: 24 }, data: swapped24(pcmBytes({ ...cd, bits: 24 }, 5)) }),
  "32 bits in an RF64 of 96 kHz": () => pcm({ ...cd, bits: 32, sampleRateHz: 96_000 }, 6, { container: "RF64" }),
  "16 bits of 50 kHz": () => pcm({ ...cd, sampleRateHz: 50_000 }, 8),
  "floats that begin with silence": () =>
    wavFile({ format: { ...cd, tag: 3, bits: 32 }, data: Buffer.concat([Buffer.alloc(400_000), floats(400_000)]) }),
  "floats in the range of integers": () =>
    wavFile({ format: { ...cd, tag: 3, bits: 32 }, data: floats(640_000, 20_000) }),
  "six channels": () => pcm({ ...cd, channels: 6, extensible: { channelMask: 0x3f } }, 5),
  "A-law": () => wavFile({ format: { ...mono8, tag: 6, sampleRateHz: 8000 }, data: noise(640_000, 2) }),
  "IMA ADPCM": () => byFfmpeg("-c:a adpcm_ima_wav -f wav"),
  "Microsoft ADPCM": () => byFfmpeg("-c:a adpcm_ms -f wav"),
  "OKI ADPCM": () => coded({ tag: 0x10, sampleRateHz: 8000, bits: 4, blockAlign: 1 }),
  "Yamaha ADPCM": () => coded({ tag: 0x20, channels: 2, bits: 4, blockAlign: 1 }),
  "G.722": () => coded({ tag: 0x28f, sampleRateHz: 16_000, bits: 4, blockAlign: 1 }),
  "G.726 by ffmpeg": () =>
    coded({ tag: 0x45, sampleRateHz: 8000, bits: 5, blockAlign: 5 }, [infoChunk({ ISFT: "Lavf61.1.100" })]),
  "GSM 6.10": () =>
    coded({ tag: 0x31, sampleRateHz: 8000, bits: 0, blockAlign: 65, extra: Buffer.from([2, 0, 0x40, 1]) }),
  "MP3 in a WAV": () => mpeg("-ar 44100 -ac 2 -b:a 128k -c:a libmp3lame", { tag: 0x55, bits: 0, blockAlign: 1 }),
  "Layer II in a WAV": () =>
    mpeg("-ar 48000 -ac 2 -b:a 192k -c:a mp2", { tag: 0x50, bits: 0, blockAlign: 1, sampleRateHz: 48_000 }),
  "a Wave64 file": () =>
    wave64File({
      chunks: [
        ["fmt ", formatChunk(cd)],
        ["data", pcmBytes(cd, 8)],
        ["JUNK", Buffer.alloc(5000)],
      ],
    }),
  "a size that was never filled in": () => pcm(cd, 8, { dataSize: 0xffff_ffff, size: 0, after: tags }),
  "two joined WAVs": () => Buffer.concat([pcm(cd, 5), pcm(cd, 6, { after: tags })]),
  "sound beyond its stated size": () => pcm(cd, 8, { dataSize: 44_100, size: 44_136 }),
  "junk behind the sound": () => pcm(cd, 4, { junk: noise(600_000, 3) }),
  "digital silence": () => wavFile({ format: cd, data: Buffer.alloc(1_500_000) }),
  "clipped sound": () => sineWav({ seconds: 6, amplitude: 1.3, ...cd, bits: 16 }),
};

const names = Object.keys(files);

describe("a conversion that ends at random places and goes on from a checkpoint", () => {
  afterEach(assertNoFfmpegRuns);

  it.each(names)("has the facts, the length and the sound of one that is not: %s", async (name) => {
    const wav = files[name]!();
    await using encoders = new EncoderPool({ ffmpeg, size: 1 });
    const whole = await convert(encoders, wav, []);
    const random = seededRandom(wav.length);
    const places = Array.from({ length: 1 + (names.indexOf(name) % 4) }, () => Math.floor(random() * wav.length));
    const resumed = await convert(encoders, wav, places);
    expect(resumed.resumptions).toBeGreaterThan(0);
    expect(comparable(resumed.facts)).toEqual(comparable(whole.facts));
    expect(resumed.mp3).toHaveLength(whole.mp3.length);
    expect(resumed.facts.mp3.index.bytes).toBe(whole.mp3.length);
    // An encoder that begins anew fills its bit reservoir anew: behind a joint its frames may be others for a while.
    const [firstJoint = 0] = resumed.joints;
    expect(differingFrames(whole.mp3, resumed.mp3).filter((number) => number < firstJoint)).toEqual([]);
    expect(snrDb(decodeMp3(whole.mp3), decodeMp3(resumed.mp3))).toBeGreaterThan(leastSnrDb(name));
  });

  it("goes on from every checkpoint of several encoders at once", async () => {
    const wav = pcm(cd, 20);
    await using encoders = new EncoderPool({ ffmpeg, size: 3 });
    const whole = await convert(encoders, wav, []);
    const places = Array.from({ length: 4 }, (_, i) => Math.floor(((i + 1) * wav.length) / 5));
    const resumed = await convert(encoders, wav, places);
    expect(resumed.resumptions).toBeGreaterThan(2);
    expect(comparable(resumed.facts)).toEqual(comparable(whole.facts));
    expect(resumed.mp3).toHaveLength(whole.mp3.length);
    expect(snrDb(decodeMp3(whole.mp3), decodeMp3(resumed.mp3))).toBeGreaterThan(30);
  });

  it("goes on from a state that a release before compressed states has stored", async () => {
    const wav = pcm(cd, 8);
    await using encoders = new EncoderPool({ ffmpeg, size: 1 });
    const earlier = (state: Buffer): Buffer => {
      const { encoding, ...others } = decodeState<{ encoding: { kept: PcmDifferences } }>(state);
      return encodeState({ ...others, encoding: { ...encoding, kept: fromDifferences(encoding.kept) } });
    };
    const places = [wav.length / 2];
    const resumed = await convert(encoders, wav, places);
    const resumedFromEarlier = await convert(encoders, wav, places, { stored: earlier });
    expect(resumedFromEarlier.mp3.equals(resumed.mp3)).toBe(true);
    expect(comparable(resumedFromEarlier.facts)).toEqual(comparable(resumed.facts));
  });

  it.each([
    ["16 bits", cd, 100_000],
    ["24 bits", { ...cd, bits: 24 }, 140_000],
  ])("stores little of its sound: %s", async (_, format, mostBytes) => {
    const sizes: number[] = [];
    const stored = (state: Buffer): Buffer => {
      sizes.push(state.length);
      return state;
    };
    // Near the end of a file more of it is held back.
    const wav = pcm(format, 20);
    const places = [wav.length / 4, wav.length / 2];
    await using encoders = new EncoderPool({ ffmpeg, size: 1 });
    await convert(encoders, wav, places, { quality: "STANDARD", stored });
    expect(sizes).toHaveLength(places.length);
    expect(Math.max(...sizes)).toBeLessThan(mostBytes);
  });

  it("reads no stored state that becomes larger than any conversion has", () => {
    expect(decodeState(compressState({ sound: Buffer.alloc(2 ** 20) }))).toEqual({ sound: Buffer.alloc(2 ** 20) });
    expect(() => decodeState(compressState({ sound: Buffer.alloc(2 ** 26) }))).toThrow(UnknownStateError);
  });

  it("loses no sound of a voice, of which an encoder leaves little in the bit reservoir", async () => {
    const sound = Int16Array.from(hardSounds.voice!(8), (sample) => round(sample * 32_767));
    const wav = wavFile({ format: cd, data: Buffer.from(sound.buffer) });
    await using encoders = new EncoderPool({ ffmpeg, size: 1 });
    const whole = await convert(encoders, wav, [], { quality: "STANDARD" });
    const places = Array.from({ length: 24 }, (_, i) => ((i + 0.5) * wav.length) / 24);
    const resumed = await convert(encoders, wav, places, { quality: "STANDARD" });
    expect(resumed.joints.length).toBeGreaterThan(6);
    expect(differingGranules(decodeMp3(whole.mp3), decodeMp3(resumed.mp3))).toEqual([]);
  });
});

describe("sound as differences", () => {
  const random = seededRandom(15);
  const any = (count: number) => Array.from({ length: count }, () => 2 * random() - 1);
  const stereo = { sampleRateHz: 44_100, channels: 2 } as const;
  it.each<[string, PcmFormat, Int16Array | Float32Array]>([
    ["16 bits at full scale", { ...stereo, sampleFormat: "s16le" }, Int16Array.of(-32_768, 32_767, 32_767, -32_768)],
    ["16 bits", { ...stereo, sampleFormat: "s16le" }, Int16Array.from(any(1000), (value) => value * 32_768)],
    ["no sound", { ...stereo, sampleFormat: "s16le" }, new Int16Array()],
    ["24 bits", { ...stereo, sampleFormat: "f32le" }, Float32Array.of(-1, 1 - 2 ** -23, 2 ** -23, -1, 0, 1)],
    ["floats", { ...stereo, sampleFormat: "f32le", channels: 1 }, Float32Array.from(any(999), (value) => value / 3)],
    ["floats with a minus zero", { ...stereo, sampleFormat: "f32le" }, Float32Array.of(0.5, -0, 0, -1e-30, 3e38, 1)],
  ])("is the same sound again: %s", (_, format, samples) => {
    const bytes = Buffer.from(samples.buffer);
    expect(fromDifferences(toDifferences(bytes, format)).equals(bytes)).toBe(true);
  });
});

describe("a resumable upload that is cut at random bytes", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });
  afterAll(async () => await service[Symbol.asyncDispose]());

  it.each([
    "16 bits with tags before and behind",
    "32 bits in an RF64 of 96 kHz",
    "IMA ADPCM",
    "Microsoft ADPCM",
    "MP3 in a WAV",
    "Layer II in a WAV",
    "two joined WAVs",
    "a size that was never filled in",
  ])("has what one in a single request has: %s", async (name) => {
    const wav = files[name]!();
    const random = seededRandom(wav.length);
    const { url } = await begin(client, ann, { sizeBytes: wav.length });
    let [offset, sent] = [0, 0];
    for (let request = 0; request < 6; request++) {
      const end = Math.min(wav.length - 1, offset + Math.floor((random() ** 2 * wav.length) / 3));
      const part = wav.subarray(offset, end);
      const isCut = random() < 0.5;
      if (isCut) await sendAndCut(url, part, offset);
      else await append(url, part, offset);
      const told = await offsetOf(url);
      // A request that was cut may arrive after the question for the offset: then the next one is refused.
      sent = Math.max(sent, end);
      expect(told).toBeGreaterThanOrEqual(offset);
      expect(told).toBeLessThanOrEqual(sent);
      offset = told;
    }
    let last = await append(url, wav.subarray(offset), offset);
    // A request that was cut may arrive only now. It then interrupts this one (204), or is still at work (409).
    while (last.status === 204 || last.status === 409) {
      offset = await offsetOf(url);
      last = await append(url, wav.subarray(offset), offset);
    }
    expect(last.status).toBe(200);
    await expectSameAsInOneRequest(client, ann, wav, (await last.json()).data.upload.recording);
  });
});

/** Sends a part of a file, and breaks the connection when all of it is on the way. */
async function sendAndCut(url: string, part: Buffer, offset: number): Promise<void> {
  const cut = new AbortController();
  const body = new Readable({ read() {} });
  const sending = append(url, body, offset, {}, cut.signal).catch(() => {});
  for (let at = 0; at < part.length; at += 60_000) {
    body.push(part.subarray(at, at + 60_000));
    await setImmediate();
  }
  cut.abort();
  await sending;
}

interface Converted {
  readonly mp3: Buffer;
  readonly facts: ConversionFacts;
  readonly checkpoints: number;
  readonly resumptions: number;
  /** Number of frames before each place at which another conversion went on. */
  readonly joints: readonly number[];
}

interface ConvertOptions {
  readonly quality?: Quality;
  /** The state of a checkpoint as another conversion finds it. */
  readonly stored?: (state: Buffer) => Buffer;
}

/**
 * Converts a file. At the first checkpoint behind each place, the conversion ends, and another one goes on from that
 * checkpoint.
 */
async function convert(
  encoders: EncoderPool,
  wav: Buffer,
  places: readonly number[],
  { quality = "LOW", stored = (state) => state }: ConvertOptions = {},
): Promise<Converted> {
  const random = seededRandom(wav.length);
  const left = places.toSorted((a, b) => a - b);
  const frames: Buffer[] = [];
  let frameBytes = 0;
  let checkpoints = 0;
  let resumptions = 0;
  const joints: number[] = [];
  let reached: Checkpoint | undefined;

  async function* source(start: number): AsyncGenerator<Buffer, void> {
    for (let at = start, end; at < wav.length; at = end) {
      end = Math.min(wav.length, at + 1 + Math.floor(random() * 30_000));
      yield wav.subarray(at, end);
    }
  }

  for (;;) {
    const from = reached && stored(reached.state());
    if (from) {
      resumptions += 1;
      joints.push(readFrames(Buffer.concat(frames)).length);
    }
    const conversion = await openConversion(source(reached?.sourceBytes ?? 0), {
      encoders,
      quality,
      maxDurationSeconds: 600,
      maxSourceBytes: wav.length,
      signal: new AbortController().signal,
      checkpoints: {
        hash: await resumableSourceHash(),
        from,
        everyBytes: 40_000,
        onCheckpoint: (passed) => {
          expect(passed.frameBytes).toBe(frameBytes);
          checkpoints += 1;
          if (passed.sourceBytes > (left[0] ?? Infinity)) reached ??= passed;
        },
      },
    });
    reached = undefined;
    const converting = conversion.frames();
    for (;;) {
      const next = await converting.next();
      if (reached !== undefined) break;
      if (next.done) return { mp3: Buffer.concat(frames), facts: next.value, checkpoints, resumptions, joints };
      frames.push(next.value);
      frameBytes += next.value.length;
    }
    const { sourceBytes }: Checkpoint = reached;
    while (left.length > 0 && left[0]! < sourceBytes) left.shift();
    await converting.return(undefined as never);
  }
}

/** The granules in which a sound is not nearly the other one, where that can be heard. */
function differingGranules(wanted: Float32Array, sound: Float32Array): number[] {
  const samples = 2 * 576;
  const starts = Array.from({ length: Math.floor(wanted.length / samples) }, (_, granule) => granule * samples);
  return starts.filter((from) => {
    const [one, other] = [wanted.subarray(from, from + samples), sound.subarray(from, from + samples)];
    return one.some((sample) => Math.abs(sample) > 0.01) && snrDb(one, other) < 6;
  });
}

/** The numbers of the frames that differ. */
function differingFrames(wanted: Buffer, mp3: Buffer): number[] {
  const numbers: number[] = [];
  let at = 0;
  for (const [number, { byteLength }] of readFrames(wanted).entries()) {
    if (!wanted.subarray(at, at + byteLength).equals(mp3.subarray(at, at + byteLength))) numbers.push(number);
    at += byteLength;
  }
  return numbers;
}

function comparable({ source, mp3, sound, warnings }: ConversionFacts): unknown {
  const { tags, ...others } = source;
  const rateHz = source.format.sampleRateHz;
  const chapters = tags.chapters(rateHz, source.samples);
  const { cover } = tags;
  return {
    ...others,
    tags: tags.texts,
    chapters,
    cover,
    production: tags.production.facts(rateHz),
    mp3: { ...mp3, index: mp3.index.frames },
    sound,
    warnings,
  };
}

/** Sound that is shifted by a sample has 3 dB or less. Of noise, the encoder keeps little. */
function leastSnrDb(name: string): number {
  if (name.includes("silence")) return -1;
  return /^(?:8 bits|A-law|OKI|Yamaha|G\.7|GSM|junk)/.test(name) ? 12 : 30;
}

function swapped24(bytes: Buffer): Buffer {
  for (let at = 0; at < bytes.length; at += 3) [bytes[at], bytes[at + 2]] = [bytes[at + 2]!, bytes[at]!];
  return bytes;
}

function snrDb(wanted: Float32Array, sound: Float32Array): number {
  let signal = 1e-9;
  let noise = 1e-9;
  for (let i = 0; i < wanted.length; i++) {
    signal += wanted[i]! ** 2;
    noise += (wanted[i]! - sound[i]!) ** 2;
  }
  return 10 * Math.log10(signal / noise);
}

const mono8 = { channels: 1, sampleRateHz: 44_100, bits: 8 };

function pcm(format: FormatOptions, seconds: number, options: Parameters<typeof wavFile>[0] = {}): Buffer {
  return wavFile({ ...options, format, data: pcmBytes(format, seconds) });
}

/** Sines with bursts, louder from time to time. */
function pcmBytes({ channels = 2, bits = 16, sampleRateHz = 44_100 }: FormatOptions, seconds: number): Buffer {
  const frames = round(seconds * sampleRateHz);
  const sampleBytes = bits / 8;
  const bytes = Buffer.alloc(frames * channels * sampleBytes);
  for (let i = 0, at = 0; i < frames; i++) {
    const time = i / sampleRateHz;
    const level = 0.2 + 0.6 * exp(-8 * (time % 1.7));
    for (let channel = 0; channel < channels; channel++, at += sampleBytes) {
      bytes.writeIntLE(round(level * sin(time * (700 + 300 * channel)) * (2 ** (bits - 1) - 1)), at, sampleBytes);
    }
  }
  return bytes;
}

function floats(samples: number, fullScale = 1): Buffer {
  const bytes = Buffer.alloc(4 * samples);
  for (let i = 0; i < samples; i++) {
    const sample = 0.7 * fullScale * sin(i / 40);
    bytes.writeFloatLE(fullScale === 1 ? sample : round(sample), 4 * i);
  }
  return bytes;
}

function noise(length: number, seed: number): Buffer {
  const random = seededRandom(seed);
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = Math.floor(random() * 256);
  return bytes;
}

function coded(format: FormatOptions, before: readonly Buffer[] = []): Buffer {
  return wavFile({ format: { channels: 1, ...format }, before, data: noise(65 * 2500, 5), after: tags });
}

const generated = "-v error -f lavfi -i sine=440:r=44100:d=14,aformat=channel_layouts=stereo -bitexact";

function byFfmpeg(encoding: string): Buffer {
  const args = `${generated} ${encoding} pipe:1`.split(" ");
  return spawnSync(ffmpeg.path, args, { maxBuffer: 2 ** 26 }).stdout;
}

function mpeg(encoding: string, format: FormatOptions): Buffer {
  const type = encoding.endsWith("mp2") ? "mp2" : "mp3";
  const data = byFfmpeg(`${encoding} -write_xing 0 -id3v2_version 0 -f ${type}`);
  return wavFile({ format, data });
}
