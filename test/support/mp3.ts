import { spawnSync } from "node:child_process";
import type { Mp3FrameHeader } from "../../src/audio/mp3/mp3-frame.ts";
import { decoderDelaySamples, lameDelaySamples, readFrameHeader } from "../../src/audio/mp3/mp3-frame.ts";
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
