import { isText, otherFileIn, shapeOf } from "./behind-sound.ts";
import { mpegFrameAt } from "./mpeg-frames.ts";
import type { WavFormat } from "./wav-format.ts";

/** Name of what these bytes are instead of samples; undefined if they can be samples. */
export function codingIn(bytes: Buffer, format: WavFormat): string | undefined {
  const file = otherFileIn(bytes);
  if (file !== undefined) return file;
  if (isText(bytes)) return "text";
  if (isSmooth(bytes, format)) return undefined;
  const words = wordsOf(bytes, format);
  const pairs = format.containerBits <= 16 ? words : bytes.subarray(0, bytes.length & ~1);
  for (const view of new Set([words, pairs])) {
    for (const order of [view, Buffer.from(view).swap16()]) {
      const coding =
        syncedCodingIn(order) ??
        chainIn(order, 0x0b77, (at) => ac3FrameAt(order, at)) ??
        chainIn(order, 0xffe0, (at) => mpegFrameAt(order, at) ?? adtsFrameAt(order, at));
      if (coding !== undefined) return coding;
    }
  }
  return undefined;
}

/**
 * Whether all of this is smooth, as in nearly all uploads. Coded sound is not smooth anywhere, so the search can be
 * skipped. At most a quarter of it is looked at, in windows.
 */
function isSmooth(bytes: Buffer, format: WavFormat): boolean {
  const windowBytes = 256 * format.blockAlign;
  const count = Math.min(16, Math.floor(bytes.length / (4 * windowBytes)));
  if (count < 4) return false;
  const gap = Math.floor(bytes.length / count / format.blockAlign) * format.blockAlign;
  const windows: Buffer[] = [];
  for (let at = 0; at + windowBytes <= bytes.length; at += gap) windows.push(bytes.subarray(at, at + windowBytes));
  return shapeOf(format, Buffer.concat(windows)).maxRoughness < 0.25;
}

/** Samples as 16-bit words, big-endian. In wider samples, coded sound is in the upper 16 bits. */
function wordsOf(bytes: Buffer, { codec, containerBits, bigEndian }: WavFormat): Buffer {
  const sampleBytes = containerBits / 8;
  if (sampleBytes === 1) return bytes.subarray(0, bytes.length & ~1);
  if (sampleBytes === 2 && codec !== "float") {
    const pairs = bytes.subarray(0, bytes.length & ~1);
    return bigEndian ? pairs : Buffer.from(pairs).swap16();
  }
  const count = Math.floor(bytes.length / sampleBytes);
  const words = Buffer.alloc(2 * count);
  for (let i = 0, at = 0; i < count; i++, at += sampleBytes) {
    if (codec === "float") {
      const sample = floatAt(bytes, at, sampleBytes, bigEndian);
      words.writeInt16BE(Math.round(Math.max(-32_768, Math.min(32_767, (sample || 0) * 32_768))), 2 * i);
    } else {
      words[2 * i] = bytes[bigEndian ? at : at + sampleBytes - 1]!;
      words[2 * i + 1] = bytes[bigEndian ? at + 1 : at + sampleBytes - 2]!;
    }
  }
  return words;
}

function floatAt(bytes: Buffer, at: number, sampleBytes: number, bigEndian: boolean): number {
  if (sampleBytes === 8) return bigEndian ? bytes.readDoubleBE(at) : bytes.readDoubleLE(at);
  return bigEndian ? bytes.readFloatBE(at) : bytes.readFloatLE(at);
}

/** A sync word, and the checks that tell it from two samples of music. */
interface Sync {
  readonly word: Buffer;
  /** Name of the coding of a frame; undefined if its header is not valid. */
  readonly coding: (bytes: Buffer, at: number) => string | undefined;
  /** Name to use if the header does not say what it is but the frames are as random as coded sound. */
  readonly otherwise: string;
}

const syncs: readonly Sync[] = [
  { word: Buffer.from("7ffe8001", "hex"), coding: dtsCoding, otherwise: "DTS" },
  {
    word: Buffer.from("1fffe800", "hex"),
    coding: (bytes, at) => (bytes[at + 4] === 0x07 && bytes[at + 5]! >= 0xf0 ? "DTS" : undefined),
    otherwise: "DTS",
  },
  { word: Buffer.from("f8724e1f", "hex"), coding: burstCoding, otherwise: "coded sound (IEC 61937)" },
  // SMPTE ST 337 with words of 20 and of 24 bits
  { word: Buffer.from("6f8754e1", "hex"), coding: burstCoding, otherwise: "coded sound (SMPTE ST 337)" },
  { word: Buffer.from("96f8a54e", "hex"), coding: burstCoding, otherwise: "coded sound (SMPTE ST 337)" },
];

const maxFrameBytes = 96 * 1024;

/** Finds coded sound by its sync words: three of them at the same distance. */
function syncedCodingIn(bytes: Buffer): string | undefined {
  for (const { word, coding, otherwise } of syncs) {
    let previous = -1;
    let distance = 0;
    for (let at = bytes.indexOf(word); at >= 0; at = bytes.indexOf(word, at + 1)) {
      if (previous >= 0 && at - previous === distance && distance >= 64 && distance <= maxFrameBytes) {
        const found = coding(bytes, at);
        if (found !== undefined && found === coding(bytes, previous)) return found;
        if (isRandom(bytes.subarray(previous, at)) && !isRepeated(bytes, at, distance)) return otherwise;
      }
      distance = previous < 0 ? 0 : at - previous;
      previous = at;
    }
  }
  return undefined;
}

/**
 * The header of a DTS frame (ETSI TS 102 114 section 5.3.1): a normal frame with valid numbers of samples and bytes.
 */
function dtsCoding(bytes: Buffer, at: number): string | undefined {
  if (at + 8 > bytes.length || (bytes[at + 4]! & 0xfc) !== 0xfc) return undefined;
  const sampleBlocks = ((bytes[at + 4]! & 1) << 6) | (bytes[at + 5]! >> 2);
  const frameBytes = ((bytes[at + 5]! & 3) << 12) | (bytes[at + 6]! << 4) | (bytes[at + 7]! >> 4);
  return sampleBlocks >= 5 && frameBytes >= 95 ? "DTS" : undefined;
}

/** Data types of bursts (IEC 61937-2, SMPTE ST 338). */
const burstTypes: Readonly<Record<number, string>> = {
  1: "AC-3",
  4: "MPEG audio",
  5: "MPEG audio",
  6: "MPEG audio",
  7: "AAC",
  8: "MPEG audio",
  9: "MPEG audio",
  10: "MPEG audio",
  11: "DTS",
  12: "DTS",
  13: "DTS",
  14: "ATRAC",
  17: "DTS",
  18: "WMA Professional",
  19: "AAC",
  21: "E-AC-3",
  22: "Dolby TrueHD",
  28: "Dolby E",
};

function burstCoding(bytes: Buffer, at: number): string | undefined {
  if (at + 8 > bytes.length) return undefined;
  const coding = burstTypes[bytes[at + 5]! & 0x1f];
  return coding === undefined ? undefined : `${coding} (IEC 61937)`;
}

/** Whether bytes are distributed as in coded sound: nearly all values occur, and none occurs often. */
function isRandom(bytes: Buffer): boolean {
  if (bytes.length < 256) return false;
  const counts = new Uint32Array(256);
  for (const byte of bytes) counts[byte]!++;
  const isSpread = counts.filter((count) => count > 0).length >= Math.min(200, bytes.length / 4);
  return isSpread && Math.max(...counts.subarray(1)) < Math.max(12, bytes.length / 32);
}

/**
 * Whether the frame before `at` equals the one before that. Periods of a tone are equal; frames of coded sound are not.
 */
function isRepeated(bytes: Buffer, at: number, distance: number): boolean {
  return (
    at >= 2 * distance && bytes.subarray(at - distance, at).equals(bytes.subarray(at - 2 * distance, at - distance))
  );
}

/** A frame that states its size. */
interface Frame {
  readonly bytes: number;
  readonly coding: string;
  /** The header fields that all frames of one stream share. */
  readonly kind: number;
}

const chainedFrames = 5;
/** The first frame must begin within this many bytes if its sync word is so short that it also occurs by chance. */
const chainStartBytes = 16 * 1024;

/**
 * Finds frames that follow one another at the distances that they state. All must be of one kind, and not all equal.
 * @param sync their first byte, and bits that are set in their second
 */
function chainIn(bytes: Buffer, sync: number, frameAt: (at: number) => Frame | undefined): string | undefined {
  const [first, second] = [sync >> 8, sync & 0xff];
  for (let at = bytes.indexOf(first); at >= 0 && at < chainStartBytes; at = bytes.indexOf(first, at + 1)) {
    const coding = (bytes[at + 1]! & second) === second ? chainAt(bytes, at, frameAt) : undefined;
    if (coding !== undefined) return coding;
  }
  return undefined;
}

function chainAt(bytes: Buffer, start: number, frameAt: (at: number) => Frame | undefined): string | undefined {
  const first = frameAt(start);
  if (first === undefined) return undefined;
  let areSame = true;
  for (let at = start, count = 0; count < chainedFrames; count++) {
    const frame = frameAt(at);
    if (frame?.kind !== first.kind) return undefined;
    // If the header repeats within the frame, it is the shape of a wave.
    if (bytes.subarray(at + 1, at + frame.bytes).includes(bytes.subarray(at, at + 3))) return undefined;
    areSame &&= bytes.subarray(at, at + frame.bytes).equals(bytes.subarray(start, start + first.bytes));
    at += frame.bytes;
  }
  // Square waves form such chains too, but have few different values.
  return areSame || new Set(bytes.subarray(start, start + 2048)).size < 128 ? undefined : first.coding;
}

const ac3Kbps = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640];
const ac3RatesHz = [48_000, 44_100, 32_000];

/** AC-3 and E-AC-3 without bursts (ETSI TS 102 366 sections 4.4 and E.1.3). */
function ac3FrameAt(bytes: Buffer, at: number): Frame | undefined {
  if (at + 6 > bytes.length || bytes[at] !== 0x0b || bytes[at + 1] !== 0x77) return undefined;
  const kind = bytes[at + 5]! >> 3;
  if (kind > 10) {
    return { bytes: 2 * ((((bytes[at + 2]! & 7) << 8) | bytes[at + 3]!) + 1), coding: "E-AC-3", kind };
  }
  const rateHz = ac3RatesHz[bytes[at + 4]! >> 6];
  const sizeCode = bytes[at + 4]! & 63;
  const kbps = ac3Kbps[sizeCode >> 1];
  if (rateHz === undefined || kbps === undefined) return undefined;
  const words = Math.floor((kbps * 96_000) / rateHz) + (rateHz === 44_100 ? sizeCode & 1 : 0);
  return { bytes: 2 * words, coding: "AC-3", kind };
}

/** AAC in ADTS frames (ISO 13818-7 section 6.2). */
function adtsFrameAt(bytes: Buffer, at: number): Frame | undefined {
  if (at + 7 > bytes.length || bytes[at] !== 0xff || (bytes[at + 1]! & 0xf6) !== 0xf0) return undefined;
  const frameBytes = ((bytes[at + 3]! & 3) << 11) | (bytes[at + 4]! << 3) | (bytes[at + 5]! >> 5);
  return frameBytes < 7 ? undefined : { bytes: frameBytes, coding: "AAC", kind: bytes[at + 2]! };
}
