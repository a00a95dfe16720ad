import { isCoded } from "./coded-sound.ts";
import type { PcmFormat } from "../pcm-format.ts";
import { stereoMixOf } from "./stereo-mix.ts";
import { isMpeg, type WavFormat } from "./wav-format.ts";

type Samples = Int16Array<ArrayBuffer> | Float32Array<ArrayBuffer>;

/**
 * Floats are limited to this value, 18 dB over full scale. From 20 dB on, LAME 3.100 distorts the sound, and it fails
 * at infinity.
 */
const maxFloat = 8;

/**
 * The PCM format that {@link wavToPcm} produces: 16 bits if that is lossless, else floats. More than two channels
 * become two.
 */
export function pcmFormatOf(format: WavFormat): PcmFormat {
  return {
    sampleFormat: is16Bit(format) && format.channels <= 2 ? "s16le" : "f32le",
    sampleRateHz: format.sampleRateHz,
    channels: format.channels === 1 ? 1 : 2,
  };
}

/** Full scale of decoded samples. */
export function decodedFullScale(format: WavFormat): 32_768 | 1 {
  return is16Bit(format) ? 32_768 : 1;
}

function is16Bit({ codec, containerBits }: WavFormat): boolean {
  return codec === "pcm" ? containerBits <= 16 : codec !== "float" && !isMpeg(codec);
}

/**
 * The largest sample that the file's encoding can represent, relative to full scale (1). With few bits it is well below
 * 1. Floats are limited to 8.
 */
export function largestSampleOf({ codec, bitsPerSample }: WavFormat): number {
  if (codec === "float" || isMpeg(codec)) return maxFloat;
  if (codec === "pcm") return 1 - 2 ** (1 - bitsPerSample);
  if (codec === "oki-adpcm") return 2047 / 2048; // 12 bits
  if (codec === "gsm") return 4095 / 4096; // 13 bits
  const table = codec === "alaw" ? alawSamples : codec === "mulaw" ? mulawSamples : undefined;
  return table === undefined ? 1 : Math.max(...table) / 32_768;
}

/**
 * Creates a converter from the blocks that the reader yields to samples of {@link pcmFormatOf}. 16-bit little-endian
 * sound passes unchanged, in the same memory; so does coded sound, which the reader has decoded to that.
 * MPEG audio arrives as floats. More than two channels are mixed (`stereo-mix.ts`).
 * @param floatFullScale full scale of floats, which `float-scale.ts` may have to determine
 * @param beforeMix gets the decoded samples of all channels, if there are more than two
 */
export function wavToPcm(
  format: WavFormat,
  floatFullScale: () => number = () => format.floatFullScale,
  beforeMix: (samples: Samples) => void = () => {},
): (blocks: Buffer) => Buffer {
  if (format.channels > 2) {
    const decode = decoderOf(format, floatFullScale);
    const mix = stereoMixOf(format);
    return (blocks) => {
      const samples = decode(blocks);
      beforeMix(samples);
      return bytesOf(mix(samples));
    };
  }
  if (isCoded(format.codec)) return (samples) => samples;
  if (format.codec === "pcm" && format.containerBits === 16) {
    return format.bigEndian ? (blocks) => Buffer.from(blocks).swap16() : (blocks) => blocks;
  }
  const decode = decoderOf(format, floatFullScale);
  return (blocks) => bytesOf(decode(blocks));
}

function bytesOf(samples: Samples): Buffer {
  return Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength);
}

/** The floats of blocks of the file, unscaled and copied. */
export function floatsOf(
  blocks: Buffer,
  { containerBits, bigEndian }: WavFormat,
): Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer> {
  return containerBits === 32
    ? new Float32Array(aligned(blocks, 4, bigEndian))
    : new Float64Array(aligned(blocks, 8, bigEndian));
}

/** Creates a decoder to numbers, with the channels as they are in the file. */
function decoderOf(format: WavFormat, floatFullScale: () => number): (blocks: Buffer) => Samples {
  switch (format.codec) {
    case "alaw":
      return (blocks) => lookUp(alawSamples, blocks);
    case "mulaw":
      return (blocks) => lookUp(mulawSamples, blocks);
    case "mp2":
    case "mp3":
      return (blocks) => limited(floatsOf(blocks, format), 1);
    case "float":
      return (blocks) => limited(floatsOf(blocks, format), 1 / floatFullScale());
    default:
      return integerDecoderOf(format);
  }
}

function integerDecoderOf({ containerBits, bigEndian }: WavFormat): (blocks: Buffer) => Samples {
  switch (containerBits) {
    case 8:
      return (blocks) => lookUp(unsigned8Samples, blocks);
    case 16:
      return (blocks) => new Int16Array(aligned(blocks, 2, bigEndian));
    case 24:
      return bigEndian ? (blocks) => decode24(blocks, 2, 0) : (blocks) => decode24(blocks, 0, 2);
    case 32:
      return (blocks) => scaled(new Int32Array(aligned(blocks, 4, bigEndian)), 1);
    default:
      // The upper half of 64 bits has more precision than a float.
      return (blocks) => scaled(new Int32Array(aligned(blocks, 8, bigEndian)), 2);
  }
}

/** A copy of the bytes, aligned for typed arrays and little-endian. */
function aligned(blocks: Buffer, sampleBytes: 2 | 4 | 8, bigEndian: boolean): ArrayBuffer {
  const copy = new ArrayBuffer(blocks.length);
  const bytes = Buffer.from(copy);
  bytes.set(blocks);
  if (bigEndian && sampleBytes === 2) bytes.swap16();
  if (bigEndian && sampleBytes === 4) bytes.swap32();
  if (bigEndian && sampleBytes === 8) bytes.swap64();
  return copy;
}

function lookUp(table: Int16Array, bytes: Buffer): Int16Array<ArrayBuffer> {
  const samples = new Int16Array(bytes.length);
  for (let i = 0; i < samples.length; i++) samples[i] = table[bytes[i]!]!;
  return samples;
}

function decode24(bytes: Buffer, lowest: number, highest: number): Float32Array<ArrayBuffer> {
  const samples = new Float32Array(bytes.length / 3);
  for (let i = 0, at = 0; i < samples.length; i++, at += 3) {
    samples[i] =
      ((bytes[at + highest]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + lowest]! << 8)) * (1 / 2_147_483_648);
  }
  return samples;
}

/** Scales every `stride`-th number, the last of each group, from the range of 32 bits to that of 1. */
function scaled(integers: Int32Array, stride: number): Float32Array<ArrayBuffer> {
  const samples = new Float32Array(integers.length / stride);
  for (let i = 0, at = stride - 1; i < samples.length; i++, at += stride) {
    samples[i] = integers[at]! * (1 / 2_147_483_648);
  }
  return samples;
}

/** Floats that encoders accept: limited, with 0 in place of NaN. 32-bit floats are corrected in place. */
function limited(
  numbers: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>,
  gain: number,
): Float32Array<ArrayBuffer> {
  const samples = numbers instanceof Float32Array ? numbers : new Float32Array(numbers.length);
  for (let i = 0; i < samples.length; i++) {
    const number = numbers[i]! * gain;
    if (number >= -maxFloat && number <= maxFloat) samples[i] = number;
    else samples[i] = number > 0 ? maxFloat : number < 0 ? -maxFloat : 0;
  }
  return samples;
}

const unsigned8Samples = Int16Array.from({ length: 256 }, (_, byte) => (byte - 128) << 8);

/** ITU-T G.711, A-law, scaled to 16 bits. */
const alawSamples = Int16Array.from({ length: 256 }, (_, byte) => {
  const code = byte ^ 0x55;
  const exponent = (code >> 4) & 7;
  const mantissa = ((code & 15) << 4) | 8;
  const magnitude = exponent === 0 ? mantissa : (mantissa | 0x100) << (exponent - 1);
  return code & 0x80 ? magnitude : -magnitude;
});

/** ITU-T G.711, µ-law, scaled to 16 bits. */
const mulawSamples = Int16Array.from({ length: 256 }, (_, byte) => {
  const code = ~byte;
  const magnitude = ((((code & 15) << 3) | 0x84) << ((code >> 4) & 7)) - 0x84;
  return code & 0x80 ? -magnitude : magnitude;
});
