import { spawnSync } from "node:child_process";
import { describe, expect, it } from "@jest/globals";
import { bytesPerPcmFrame } from "../src/audio/pcm-format.ts";
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { framesIn } from "../src/audio/wav/wav-format.ts";
import { openWav } from "../src/audio/wav/wav-reader.ts";
import { pcmFormatOf, wavToPcm } from "../src/audio/wav/wav-to-pcm.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import type { FormatOptions } from "./support/wav-maker.ts";
import { inPieces, seededRandom, sineWav, wavFile } from "./support/wav-maker.ts";

interface Decoded {
  readonly format: PcmFormat;
  readonly frames: number;
  readonly samples: Float32Array;
}

describe("wavToPcm", () => {
  it.each([
    ["pcm_u8", 1],
    ["pcm_u8", 2],
    ["pcm_s16le", 1],
    ["pcm_s16le", 2],
    ["pcm_s24le", 1],
    ["pcm_s24le", 2],
    ["pcm_s32le", 2],
    ["pcm_s64le", 2],
    ["pcm_f32le", 1],
    ["pcm_f64le", 2],
    ["pcm_alaw", 1],
    ["pcm_mulaw", 2],
    ["adpcm_ms", 1],
    ["adpcm_ms", 2],
    ["adpcm_ima_wav", 1],
    ["adpcm_ima_wav", 2],
  ] as const)("decodes what ffmpeg wrote as %s with %i channels to ffmpeg's own samples", async (codec, channels) => {
    const noise = `anoisesrc=d=0.11:r=44100:a=0.9:seed=7,aformat=channel_layouts=${channels === 1 ? "mono" : "stereo"}`;
    const wav = runFfmpeg(["-f", "lavfi", "-i", noise, "-c:a", codec, "-f", "wav"]);
    const ours = await decode(wav, 1009);
    expect(ours.format.channels).toBe(channels);
    expect(difference(ours.samples, decodeWithFfmpeg(wav))).toBeLessThan(1e-6);
  });

  it("decodes every code of A-law and µ-law as ffmpeg does", async () => {
    for (const tag of [6, 7, 0x6c75]) {
      const wav = wavFile({
        format: { tag, channels: 1, bits: 8 },
        data: Buffer.from(Uint8Array.from(Array(256).keys())),
      });
      expect(difference((await decode(wav)).samples, decodeWithFfmpeg(wav))).toBeLessThan(1e-6);
    }
  });

  it.each([
    [2, 1, 256, 0],
    [2, 2, 256, 40],
    [2, 1, 1001, 99],
    [2, 2, 1000, 3],
    [17, 1, 256, 5],
    [17, 2, 512, 8],
    [17, 2, 1000, 81],
    [17, 1, 1020, 4],
  ])("decodes random ADPCM (tag %i, %i channels, blocks of %i, a last one of %i) as ffmpeg does", async (...args) => {
    const [tag, channels, blockAlign, lastBytes] = args;
    const wav = randomAdpcm({ tag, channels, blockAlign, bits: 4 }, lastBytes);
    const ours = await decode(wav, 777);
    const theirs = decodeWithFfmpeg(wav);
    expect(difference(ours.samples, theirs)).toBeLessThan(1e-6);
    const { format } = await openWav(inPieces(wav));
    expect(framesIn(format, 5 * blockAlign + lastBytes)).toBe(ours.frames);
  });

  it.each([2, 3, 5])("decodes IMA ADPCM of %i bits as ffmpeg does", async (bits) => {
    const wav = randomAdpcm({ tag: 17, channels: 2, blockAlign: 8 + 3 * 40, bits }, 50);
    expect(difference((await decode(wav)).samples, decodeWithFfmpeg(wav))).toBeLessThan(1e-6);
  });

  it("leaves out ADPCM blocks whose header is damaged", async () => {
    for (const tag of [2, 17]) {
      const wav = randomAdpcm({ tag, channels: 1, blockAlign: 256, bits: 4 }, 0);
      wav.fill(0xff, 44 + 256, 44 + 256 + 4);
      const whole = decodeWithFfmpeg(randomAdpcm({ tag, channels: 1, blockAlign: 256, bits: 4 }, 0));
      const frames = whole.length / 5;
      const left = Float32Array.from([...whole.subarray(0, frames), ...whole.subarray(2 * frames)]);
      expect(difference((await decode(wav)).samples, left)).toBeLessThan(1e-6);
    }
  });

  it("passes 16-bit sound on in the same memory", async () => {
    const wav = await openWav(inPieces(sineWav({ seconds: 0.01 })));
    const block = Buffer.alloc(8);
    expect(wavToPcm(wav.format)(block)).toBe(block);
    expect(pcmFormatOf(wav.format)).toEqual({ sampleFormat: "s16le", sampleRateHz: 44_100, channels: 2 });
  });

  it.each([
    [{ bits: 8 }, "s16le"],
    [{ tag: 7, bits: 8 }, "s16le"],
    [{ tag: 2, bits: 4, blockAlign: 256 }, "s16le"],
    [{ bits: 24 }, "f32le"],
    [{ tag: 3, bits: 32 }, "f32le"],
    [{ channels: 6 }, "f32le"],
  ] as const)("makes %j to %s", async (format, sampleFormat) => {
    const wav = await openWav(inPieces(wavFile({ format, data: Buffer.alloc(600) })));
    expect(pcmFormatOf(wav.format).sampleFormat).toBe(sampleFormat);
  });

  it.each([16, 24, 32, 64] as const)("reads %i bits of RIFX as big-endian", async (bits) => {
    const little = sineWav({ seconds: 0.02, bits });
    const data = Buffer.from(little.subarray(44));
    const big = wavFile({ container: "RIFX", format: { bits }, data: reversedSamples(data, bits / 8) });
    expect(difference((await decode(big, 1001)).samples, (await decode(little)).samples)).toBeLessThan(1e-6);
  });

  it("reads samples that are padded in larger ones", async () => {
    const expected = (await decode(sineWav({ seconds: 0.02, bits: 24 }))).samples;
    const data = sineWav({ seconds: 0.02, bits: 24 }).subarray(44);
    const padded = Buffer.alloc((data.length / 3) * 4);
    for (let i = 0; i < data.length / 3; i++) data.copy(padded, 4 * i + 1, 3 * i, 3 * i + 3);
    for (const format of [
      { bits: 24, blockAlign: 8 },
      { bits: 32, extensible: { validBits: 24 } },
    ]) {
      expect(difference((await decode(wavFile({ format, data: padded }))).samples, expected)).toBeLessThan(1e-6);
    }
  });

  it("reads 8-bit sound as unsigned", async () => {
    const wav = wavFile({ format: { channels: 1, bits: 8 }, data: Buffer.from([0, 128, 255]) });
    expect([...(await decode(wav)).samples]).toEqual([-1, 0, 127 / 128]);
  });

  it("turns floats that are not numbers into samples", async () => {
    for (const bits of [32, 64] as const) {
      const numbers = [0.5, NaN, Infinity, -Infinity, 1e30, -1e30, 1.5, -1.5];
      const data = bits === 32 ? Float32Array.from(numbers) : Float64Array.from(numbers);
      const wav = wavFile({ format: { tag: 3, bits, channels: 1 }, data: Buffer.from(data.buffer) });
      expect([...(await decode(wav)).samples]).toEqual([0.5, 0, 8, -8, 8, -8, 1.5, -1.5]);
    }
  });

  it("reads the floats that Cool Edit stored as integers of 32 bits", async () => {
    const data = Buffer.from(Float32Array.from([0, 16_384, -32_768, 3.5]).buffer);
    const wav = wavFile({ format: { bits: 32, channels: 1, extra: Buffer.from([2, 0, 1, 0]) }, data });
    const { samples } = await decode(wav);
    expect([...samples]).toEqual([0, 0.5, -1, 3.5 / 32_768]);
    expect(difference(samples, decodeWithFfmpeg(wav))).toBe(0);
  });

  it.each([
    [3, 0x07],
    [4, 0x33],
    [4, 0x107],
    [5, 0x37],
    [6, 0x3f],
    [6, 0x60f],
    [7, 0x70f],
    [8, 0x63f],
    [8, 0xff],
  ])("mixes %i channels by their mask %i as ffmpeg does", async (channels, channelMask) => {
    const random = seededRandom(channels * 1000 + channelMask);
    const data = Buffer.from(Int16Array.from({ length: 200 * channels }, () => (random() - 0.5) * 65_535).buffer);
    const wav = wavFile({ format: { channels, sampleRateHz: 48_000, extensible: { channelMask } }, data });
    const ours = await decode(wav);
    const theirs = runFfmpeg(["-f", "wav", "-i", "pipe:0", "-ac", "2", "-f", "s16le"], wav);
    expect(ours.frames).toBe(200);
    expect(ours.samples.length).toBe(theirs.length / 2);
    ours.samples.forEach((sample, i) => {
      // ffmpeg's coefficients for 16 bits are rounded, too.
      if (Math.abs(sample * 32_768 - theirs.readInt16LE(2 * i)) > 4) throw new Error(`sample ${i} differs`);
    });
  });

  it("mixes channels without positions by the usual order, and never over full scale", async () => {
    for (let channels = 3; channels <= 8; channels++) {
      const data = Buffer.alloc(2 * channels * 10);
      for (let at = 0; at < data.length; at += 2) data.writeInt16LE(-32_768, at);
      const { samples } = await decode(wavFile({ format: { channels }, data }));
      expect(samples.length).toBe(20);
      for (const sample of samples) expect(sample).toBeCloseTo(-1, 6);
    }
  });
});

async function decode(bytes: Buffer, pieceBytes?: number): Promise<Decoded> {
  const wav = await openWav(inPieces(bytes, pieceBytes));
  const format = pcmFormatOf(wav.format);
  const convert = wavToPcm(wav.format);
  const pieces: Buffer[] = [];
  for await (const block of wav.blocks()) pieces.push(convert(block));
  const pcm = Buffer.concat(pieces);
  const samples =
    format.sampleFormat === "f32le"
      ? new Float32Array(memoryOf(pcm))
      : Float32Array.from(new Int16Array(memoryOf(pcm)), (sample) => sample / 32_768);
  return { format, frames: pcm.length / bytesPerPcmFrame(format), samples };
}

function decodeWithFfmpeg(wav: Buffer): Float32Array {
  return new Float32Array(memoryOf(runFfmpeg(["-f", "wav", "-i", "pipe:0", "-f", "f32le"], wav)));
}

function memoryOf(bytes: Buffer): ArrayBuffer {
  return Uint8Array.from(bytes).buffer;
}

function runFfmpeg(options: readonly string[], input: Buffer = Buffer.alloc(0)): Buffer {
  const fixed = ["-nostdin", "-hide_banner", "-loglevel", "fatal"];
  const { status, stdout } = spawnSync(ffmpeg.path, [...fixed, ...options, "pipe:1"], { input, maxBuffer: 2 ** 26 });
  expect(status).toBe(0);
  return stdout;
}

/** The largest difference between two recordings; Infinity if one is longer. */
function difference(ours: Float32Array, theirs: Float32Array): number {
  if (ours.length !== theirs.length) return Infinity;
  return ours.reduce((largest, sample, i) => Math.max(largest, Math.abs(sample - theirs[i]!)), 0);
}

/** Five whole blocks and a shorter last one, with valid headers and random codes. */
function randomAdpcm(
  format: Required<Pick<FormatOptions, "tag" | "channels" | "blockAlign" | "bits">>,
  lastBytes: number,
) {
  const random = seededRandom(format.blockAlign + format.bits);
  const { tag, channels, blockAlign } = format;
  const data = Buffer.from(Uint8Array.from({ length: 5 * blockAlign + lastBytes }, () => random() * 256));
  for (let block = 0; block < data.length; block += blockAlign) {
    for (let channel = 0; channel < channels && block + 4 * channels <= data.length; channel++) {
      if (tag === 2) data[block + channel] = random() * 7;
      else data.writeInt16LE(Math.floor(random() * 89), block + 4 * channel + 2);
    }
  }
  return wavFile({ format, data });
}

function reversedSamples(data: Buffer, sampleBytes: number): Buffer {
  const reversed = Buffer.from(data);
  for (let at = 0; at < data.length; at += sampleBytes) reversed.subarray(at, at + sampleBytes).reverse();
  return reversed;
}
