import { spawnSync } from "node:child_process";
import type { Mp3FrameHeader } from "../../src/audio/mp3/mp3-frame.ts";
import { decoderDelaySamples, lameDelaySamples, readFrameHeader } from "../../src/audio/mp3/mp3-frame.ts";
import { mainDataBytes, readMainDataBegin } from "../../src/audio/mp3/side-information.ts";
import { ffmpeg } from "./ffmpeg.ts";

/** Samples that a decoder outputs before the first sample of the source: LAME's delay and its own. */
export const decodedDelay = lameDelaySamples + decoderDelaySamples;

/** The headers of all frames; throws if the bytes are anything but whole frames. */
export function readFrames(mp3: Buffer): Mp3FrameHeader[] {
  const frames: Mp3FrameHeader[] = [];
  for (let offset = 0; offset < mp3.length; offset += frames.at(-1)!.byteLength) {
    const header = readFrameHeader(mp3, offset);
    if (!header || offset + header.byteLength > mp3.length) throw new Error(`No whole frame at byte ${offset}.`);
    frames.push(header);
  }
  return frames;
}

/**
 * How many bytes of main data each frame takes from the frames before it. Throws if main data overlap, or reach beyond
 * their frame.
 */
export function readReservoir(mp3: Buffer): number[] {
  const begins: number[] = [];
  let frameStart = 0;
  let slotStart = 0;
  let lastEnd = 0;
  for (const header of readFrames(mp3)) {
    const begin = readMainDataBegin(mp3, frameStart, header);
    const slotEnd = slotStart + header.byteLength - 4 - header.sideInfoBytes;
    const end = slotStart - begin + mainDataBytes(mp3, frameStart, header);
    if (slotStart - begin < lastEnd || end > slotEnd) {
      throw new Error(`Frame ${begins.length} has its main data at ${slotStart - begin} to ${end}, after ${lastEnd}.`);
    }
    lastEnd = end;
    begins.push(begin);
    slotStart = slotEnd;
    frameStart += header.byteLength;
  }
  return begins;
}

/** Resamples interleaved 16-bit samples as ffmpeg does it; full scale is 1. */
export function resample16Bit(pcm: Buffer, fromHz: number, toHz: number, channels: number): Float32Array {
  const input = ["-f", "s16le", "-ar", `${fromHz}`, "-ac", `${channels}`, "-i", "pipe:0"];
  const args = ["-v", "error", ...input, "-ar", `${toHz}`, "-f", "f32le", "pipe:1"];
  const { stdout } = spawnSync(ffmpeg.path, args, { input: pcm, maxBuffer: 2 ** 30 });
  return new Float32Array(stdout.buffer, stdout.byteOffset, stdout.length / 4);
}

/** Decodes MP3 to interleaved samples with full scale at 1. Throws if the decoder prints anything. */
export function decodeMp3(mp3: Buffer): Float32Array {
  const args = [
    "-hide_banner",
    "-nostdin",
    "-loglevel",
    "warning",
    "-f",
    "mp3",
    "-i",
    "pipe:0",
    "-f",
    "f32le",
    "pipe:1",
  ];
  const { stdout, stderr, status } = spawnSync(ffmpeg.path, args, { input: mp3, maxBuffer: 2 ** 30 });
  const remarks = stderr
    .toString()
    .replaceAll(/^.*Estimating duration from bitrate.*$/gm, "")
    .trim();
  if (status !== 0 || remarks) throw new Error(`The decoder ended with ${status}: ${remarks}`);
  return new Float32Array(stdout.buffer, stdout.byteOffset, stdout.length / 4);
}

/** The root mean square of the difference between two sounds, for each stretch of `window` samples. */
export function errorsByWindow(sound: Float32Array, source: Float32Array, window: number): number[] {
  const errors: number[] = [];
  for (let start = 0; start < source.length; start += window) {
    const end = Math.min(start + window, source.length);
    let sum = 0;
    for (let i = start; i < end; i++) sum += ((sound[i] ?? 0) - source[i]!) ** 2;
    errors.push(Math.sqrt(sum / (end - start)));
  }
  return errors;
}

/**
 * By how many decibels the error of an MP3 against its source is larger than that of another MP3: in all, and in the
 * worst stretch of 34 MPEG-1 frames (0.9 s at 44.1 kHz), which a joint of two encoders affects. Sounds are interleaved.
 */
export function excessErrorDb(mp3: Buffer, other: Buffer, source: Float32Array): { all: number; worst: number } {
  const [{ channels }] = readFrames(mp3) as [Mp3FrameHeader];
  const [errors, others] = [mp3, other].map((coded) => {
    const sound = leveled(decodeMp3(coded).subarray(decodedDelay * channels), source);
    return errorsByWindow(sound, source, 1152 * channels).map((error) => error ** 2 + 1e-10);
  }) as [number[], number[]];
  const excess = (from: number, to: number): number => 10 * Math.log10(sum(errors, from, to) / sum(others, from, to));
  const stretches = errors.map((_, from) => excess(from, from + 34));
  return { all: excess(0, errors.length), worst: Math.max(...stretches.slice(0, -33)) };
}

function sum(values: readonly number[], from: number, to: number): number {
  return values.slice(from, to).reduce((total, value) => total + value, 0);
}

/** Scales a sound to the level of its source: at most bit rates, LAME attenuates it by a few percent. */
export function leveled(sound: Float32Array, source: Float32Array): Float32Array {
  let product = 0;
  let energy = 0;
  for (let i = 0; i < source.length; i++) {
    product += (sound[i] ?? 0) * source[i]!;
    energy += (sound[i] ?? 0) ** 2;
  }
  return sound.map((sample) => (sample * product) / energy);
}
