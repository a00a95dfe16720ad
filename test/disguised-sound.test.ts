import { spawnSync } from "node:child_process";
import { describe, expect, it } from "@jest/globals";
import { openWav } from "../src/audio/wav/wav-reader.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import { inPieces, seededRandom, wavFile, type FormatOptions } from "./support/wav-maker.ts";

const cd: FormatOptions = { channels: 2, sampleRateHz: 48_000 };

/** Two seconds of sound with this many channels, encoded and packed by ffmpeg. */
function coded(arguments_: string): Buffer {
  const { stdout, stderr, status } = spawnSync(
    ffmpeg.path,
    `-v error -f lavfi -i anoisesrc=d=2:a=0.3:seed=5:r=48000,lowpass=2000 -strict -2 ${arguments_} pipe:1`.split(" "),
    { maxBuffer: 2 ** 26 },
  );
  if (status !== 0) throw new Error(stderr.toString());
  return stdout;
}

const ac3 = coded("-c:a ac3 -b:a 192k -f ac3");
const dts = coded("-ac 2 -c:a dca -b:a 768k -f dts");
const mp3 = coded("-c:a libmp3lame -b:a 128k -f mp3");

function toSpdif(stream: Buffer, format: string): Buffer {
  return spawnSync(ffmpeg.path, `-v error -f ${format} -i pipe:0 -c copy -f spdif pipe:1`.split(" "), {
    input: stream,
    maxBuffer: 2 ** 26,
  }).stdout;
}

const ac3Bursts = toSpdif(ac3, "ac3");
const dtsBursts = toSpdif(dts, "dts");

function swapped(bytes: Buffer): Buffer {
  return Buffer.from(bytes.subarray(0, bytes.length & ~1)).swap16();
}

/** Converts 16-bit samples to wider ones. */
function widened(words: Buffer, bits: 24 | 32, isFloat = false): Buffer {
  const wide = Buffer.alloc((words.length / 2) * (bits / 8));
  for (let i = 0, at = 0; i < words.length; i += 2) {
    const sample = words.readInt16LE(i);
    at = isFloat ? wide.writeFloatLE(sample / 32_768, at) : wide.writeIntLE(sample * 2 ** (bits - 16), at, bits / 8);
  }
  return wide;
}

/** DTS in words of 14 bits, as CDs have it, padded to the time that each frame lasts. */
function dts14(): Buffer {
  const frames: Buffer[] = [];
  for (let at = 0; at < dts.length;) {
    const frameBytes = (((dts[at + 5]! & 3) << 12) | (dts[at + 6]! << 4) | (dts[at + 7]! >> 4)) + 1;
    const words = Buffer.alloc(4096);
    let [bits, bitCount, out] = [0, 0, 0];
    for (const byte of dts.subarray(at, at + Math.min(frameBytes, 3500))) {
      bits = (bits << 8) | byte;
      bitCount += 8;
      if (bitCount < 14) continue;
      bitCount -= 14;
      out = words.writeInt16BE(((bits >> bitCount) << 18) >> 18, out);
      bits &= (1 << bitCount) - 1;
    }
    frames.push(words);
    at += frameBytes;
  }
  return Buffer.concat(frames);
}

async function read(bytes: Buffer, pieceBytes = 50_000): Promise<number> {
  const wav = await openWav(inPieces(bytes, pieceBytes));
  let count = 0;
  for await (const block of wav.blocks()) count += block.length;
  return count;
}

describe("coded sound that is labelled as PCM", () => {
  const silence = Buffer.alloc(4 * 48_000 * 3);
  it.each([
    ["AC-3", "as it is", cd, ac3],
    ["AC-3", "with its bytes turned", cd, swapped(ac3)],
    ["E-AC-3", "as it is", cd, coded("-c:a eac3 -b:a 192k -f eac3")],
    ["AC-3 (IEC 61937)", "in bursts", cd, ac3Bursts],
    ["AC-3 (IEC 61937)", "in bursts of which the bytes are turned", cd, swapped(ac3Bursts)],
    ["AC-3 (IEC 61937)", "in 24 bits", { ...cd, bits: 24 }, widened(ac3Bursts, 24)],
    ["AC-3 (IEC 61937)", "in 32 bits", { ...cd, bits: 32 }, widened(ac3Bursts, 32)],
    ["AC-3 (IEC 61937)", "in floats", { ...cd, bits: 32, tag: 3 }, widened(ac3Bursts, 32, true)],
    ["DTS", "as it is", cd, dts],
    ["DTS", "with its bytes turned", cd, swapped(dts)],
    ["DTS", "in words of 14 bits", { ...cd, sampleRateHz: 44_100 }, dts14()],
    ["DTS", "in words of 14 bits with their bytes turned", cd, swapped(dts14())],
    ["DTS", "in bursts", cd, dtsBursts],
    ["DTS", "behind seconds of zeros", cd, Buffer.concat([silence, dtsBursts])],
    ["DTS", "behind zeros that are no whole frame", cd, Buffer.concat([silence.subarray(3), dts])],
    ["MP3", "as it is", { channels: 1, sampleRateHz: 24_000 }, mp3],
    ["MP3", "behind a tag", cd, coded("-c:a libmp3lame -metadata title=x -f mp3")],
    ["MPEG audio", "of Layer II", cd, coded("-c:a mp2 -f mp2")],
    ["AAC", "in ADTS", cd, coded("-c:a aac -f adts")],
    ["FLAC", "as it is", cd, coded("-c:a flac -f flac")],
    ["Ogg", "as it is", cd, coded("-c:a libopus -f ogg")],
    ["text", "in base64", cd, Buffer.from(ac3.toString("base64"))],
    ["text", "of an error", { channels: 1, bits: 8 }, Buffer.from(`{"error": "${"quota exceeded; ".repeat(40)}"}`)],
  ] as const)("is refused as %s %s", async (name, _, format, data) => {
    await expect(read(wavFile({ format, data }))).rejects.toMatchObject({
      code: "UNSUPPORTED_MEDIA",
      message: expect.stringContaining(`contains ${name}, although`),
    });
    if (!/AC-3|DTS/u.test(name) || "bits" in format) return;
    const bigEndian = wavFile({ container: "RIFX", format, data: swapped(data) });
    await expect(read(bigEndian)).rejects.toMatchObject({ code: "UNSUPPORTED_MEDIA" });
  });

  it("is recognised before the file has ended", async () => {
    let sent = 0;
    async function* endless(): AsyncGenerator<Buffer, void> {
      yield wavFile({ format: cd, dataSize: 0xffff_ffff });
      for (; sent < 50; sent++) yield dtsBursts;
    }
    const wav = await openWav(endless());
    await expect(
      (async () => {
        for await (const _ of wav.blocks());
      })(),
    ).rejects.toMatchObject({ code: "UNSUPPORTED_MEDIA" });
    expect(sent).toBeLessThan(5);
  });
});

describe("sound that resembles coded sound", () => {
  const random = seededRandom(11);
  const frames = 30_000;

  /** Samples from a function of the frame's number. */
  function samples(sample: (frame: number) => number): Buffer {
    const data = Buffer.alloc(frames * 4);
    for (let i = 0; i < frames; i++) {
      const value = Math.max(-32_768, Math.min(32_767, Math.floor(sample(i))));
      data.writeInt16LE(value, 4 * i);
      data.writeInt16LE(i % 7 === 0 ? value : value >> 1, 4 * i + 2);
    }
    return data;
  }

  function square(periodFrames: number): (frame: number) => number {
    return (frame) => (frame % periodFrames < periodFrames / 2 ? 0x7ffe : -0x7fff);
  }

  /** White noise with sync words at these places. */
  function noiseWith(word: Buffer, places: readonly number[]): Buffer {
    const data = samples(() => (random() - 0.5) * 65_536);
    for (const at of places) word.copy(data, at);
    return data;
  }

  const dtsSync = Buffer.from("fe7f0180", "hex");
  const burstSync = Buffer.from("72f81f4e01000038", "hex");

  it.each([
    ["white noise at full scale", samples(() => (random() - 0.5) * 65_536)],
    ["silence", Buffer.alloc(100_000)],
    ["near silence", samples(() => random() * 3 - 1.5)],
    ["a square wave of the two samples that are DTS's sync word", samples(square(512))],
    [
      "the same, clipped noise",
      samples((i) => Math.max(-0x7fff, Math.min(0x7ffe, 2 * square(512)(i) + random() * 30_000))),
    ],
    ["those two samples in turns", samples((i) => (i % 2 === 0 ? 0x7ffe : -0x7fff))],
    ["a sawtooth", samples((i) => ((i % 256) - 128) * 255.9)],
    ["a tone of a whole number of samples", samples((i) => 30_000 * Math.sin((2 * Math.PI * i) / 96))],
    ["bytes that are MP3's sync word", samples(() => 0xfbff - 65_536)],
    ["DTS's sync word in noise, twice", noiseWith(dtsSync, [2000, 4048])],
    ["DTS's sync word in noise at odd distances", noiseWith(dtsSync, [2000, 4048, 7000, 9100, 13_000])],
    ["the sync word of bursts, twice", noiseWith(burstSync, [6144, 12_288])],
    ["the sync word of bursts at odd distances", noiseWith(burstSync, [6144, 12_288, 20_000, 33_004])],
  ])("is taken: %s", async (_, data) => {
    expect(await read(wavFile({ format: cd, data }))).toBe(data.length);
    const [as24, as8] = [data.subarray(0, data.length - (data.length % 6)), data];
    expect(await read(wavFile({ format: { ...cd, bits: 24 }, data: as24 }))).toBe(as24.length);
    expect(await read(wavFile({ format: { ...cd, bits: 8 }, data: as8 }))).toBe(as8.length);
  });
});
