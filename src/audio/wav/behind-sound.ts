import { codedDecoder } from "./coded-sound.ts";
import { isKnownChunk, isPrintableId, isWavStart } from "./wav-chunks.ts";
import type { WavFormat } from "./wav-format.ts";
import { id3TagBytes } from "./id3-frames.ts";
import { otherFileAt } from "./other-files.ts";
import type { PcmFormat } from "../pcm-format.ts";
import { pcmFormatOf, wavToPcm } from "./wav-to-pcm.ts";

/** Number of bytes that are examined to decide what follows the sound. */
export const lookaheadBytes = 64 * 1024;

/** Fewer bytes than this do not count as sound, unless the size in the file's header includes them. */
const minSoundBytes = 4096;

/**
 * What follows the place where the sound should have ended. Junk of `Infinity` bytes continues to the next WAV or to
 * the end of the file.
 */
type Follower =
  | { readonly kind: "chunk" | "id3" | "sound" }
  /** One byte value, repeated. What comes after it is not known yet. */
  | { readonly kind: "padding"; readonly byte: number }
  | { readonly kind: "junk"; readonly bytes: number };

/** What is known about a place after the sound. */
interface BehindSound {
  /** The next {@link lookaheadBytes} bytes, or all that are left. */
  readonly ahead: Buffer;
  /** Whether `ahead` reaches the end of the file. */
  readonly isAll: boolean;
  /** The last bytes of the sound before this place. */
  readonly before: Buffer;
  /** Bytes of an incomplete block at the end of the sound before this place. `ahead` would complete it. */
  readonly cutBytes: number;
  /** Format of the sound before this place; undefined if it could not be read. */
  readonly format: WavFormat | undefined;
  /** Whether the size in the file's header includes all of `ahead`. */
  readonly isCovered: boolean;
  /** Maximum number of bytes that can follow. */
  readonly maxBytes: number;
}

/**
 * Decides what follows the sound if it is neither a chunk with a known name nor a WAV. It is sound if it continues the
 * sound before it, as it does when a program fills in its sizes too early. Anything doubtful is junk.
 */
export function whatFollows(behind: BehindSound): Follower {
  const { ahead, isAll, format, isCovered } = behind;
  const wavAt = wavStartIn(ahead.subarray(0, minSoundBytes + 12));
  const oldTag = oldTagBytes(ahead);
  if (id3TagBytes(ahead) !== undefined && ahead[3]! < 5) return { kind: "id3" };
  if (oldTag > 0) return { kind: "junk", bytes: oldTag };
  if (isUnknownChunk(behind)) return { kind: "chunk" };
  if (wavAt > 0) return { kind: "junk", bytes: wavAt };
  const runBytes = runLength(ahead);
  if (runBytes > 1 && isKnownChunk(ahead, runBytes)) return { kind: "junk", bytes: runBytes };
  if (runBytes === ahead.length) return isAll ? junk : { kind: "padding", byte: ahead[0]! };
  if (format === undefined || isText(ahead) || otherFileIn(ahead) !== undefined) return junk;
  if (isCovered) return ahead.length >= format.blockAlign ? { kind: "sound" } : junk;
  return ahead.length >= minSoundBytes && soundsAlike(format, behind) ? { kind: "sound" } : junk;
}

const junk: Follower = { kind: "junk", bytes: Infinity };

function wavStartIn(bytes: Buffer): number {
  for (let at = bytes.indexOf("WAVE", 8); at >= 0; at = bytes.indexOf("WAVE", at + 1)) {
    if (isWavStart(bytes, at - 8)) return at - 8;
  }
  return -1;
}

/** Size in bytes of an ID3v1 or APEv2 tag that begins here; 0 if there is none. */
function oldTagBytes(bytes: Buffer): number {
  if (bytes.length >= 128 && bytes.toString("latin1", 0, 3) === "TAG") return 128;
  if (bytes.length >= 32 && bytes.toString("latin1", 0, 8) === "APETAGEX") return 32 + bytes.readUInt32LE(12);
  return 0;
}

/** Whether a chunk with an unknown name begins here. Its size must lead to a place where a chunk or a WAV can begin. */
function isUnknownChunk({ ahead, isAll, format, maxBytes }: BehindSound): boolean {
  if (ahead.length < 8 || !isPrintableId(ahead)) return false;
  const size = format?.bigEndian === true ? ahead.readUInt32BE(4) : ahead.readUInt32LE(4);
  const end = 8 + size;
  if (end + 4 <= ahead.length) return isPrintableId(ahead, end) || isPrintableId(ahead, end + (size % 2));
  if (isAll) return end + (size % 2) >= ahead.length && end <= ahead.length;
  return end <= maxBytes && /^[\w ]{4}$/u.test(ahead.toString("latin1", 0, 4));
}

/** Number of equal bytes at the beginning. */
function runLength(bytes: Buffer): number {
  const end = bytes.findIndex((byte) => byte !== bytes[0]);
  return end < 0 ? bytes.length : end;
}

/** Whether these bytes are text in ASCII or UTF-8. Sound that uses its full range is never valid text. */
export function isText(bytes: Buffer): boolean {
  const start = bytes.subarray(0, 4096);
  // In sound, one of the first bytes is one of these.
  if (start.some((byte) => byte === 0x7f || (byte < 0x20 && (byte < 9 || byte > 13)))) return false;
  const values = new Set(start);
  if (values.size < 12 || Math.min(...values) > 0x39 || Math.max(...values) < 0x61) return false;
  try {
    // The bytes may end inside a character.
    new TextDecoder("utf-8", { fatal: true }).decode(start, { stream: true });
    return true;
  } catch {
    return false;
  }
}

/** The type of file that begins here, if it is a common type other than WAV. */
export function otherFileIn(bytes: Buffer): string | undefined {
  const start = bytes.toString("latin1", 0, 12);
  if (start.startsWith("ID3") && (id3TagBytes(bytes) ?? 0) > 10 && bytes[3]! < 5) return "MP3";
  if (/^[^]{0,4}ftyp/u.test(start)) return "MP4"; // after zeros, which may have been skipped
  if (start.startsWith("FORM") && start.slice(8, 11) !== "AIF") return undefined;
  return otherFileAt(bytes)?.name;
}

/** White noise has a roughness of 1 (see {@link Shape}); speech and music rarely reach 0.3. */
const maxMusicRoughness = 0.25;

/** Whether sound of this format continues: neighbouring samples are similar, or differ as much as they did before. */
function soundsAlike(format: WavFormat, { before, ahead, cutBytes }: BehindSound): boolean {
  const { blockAlign, framesPerBlock } = format;
  const later = wholeBlocks(ahead.subarray((blockAlign - cutBytes) % blockAlign), blockAlign);
  if (later.length === 0) return false;
  if (framesPerBlock > 1) {
    // Bytes other than sound rarely begin an ADPCM block that can be decoded. Other codecs decode any bytes.
    if (format.codec !== "ms-adpcm" && format.codec !== "ima-adpcm") return false;
    return (
      codedDecoder(format, undefined)!.decode(later).length >=
      0.9 * (later.length / blockAlign) * framesPerBlock * format.channels
    );
  }
  const next = shapeOf(format, later);
  if (next.roughness < maxMusicRoughness || isBackground(next)) return true;
  const earlier = before.subarray(0, before.length - cutBytes);
  if (earlier.length < 256 * blockAlign) return next.level > 0; // the size was a placeholder
  const last = shapeOf(format, earlier.subarray(earlier.length % blockAlign));
  const isAsLoud = next.level < last.level * 4 && next.level > last.level / 4;
  return isAsLoud && Math.abs(next.roughness - last.roughness) < 0.25;
}

/** Whether this is the quiet, even noise of a pause. Other data is loud or has jumps. */
function isBackground({ level, peak }: Shape): boolean {
  return level > 0 && level < 0.05 && peak < 12 * level;
}

function wholeBlocks(bytes: Buffer, blockAlign: number): Buffer {
  return bytes.subarray(0, bytes.length - (bytes.length % blockAlign));
}

const windowFrames = 256;
/**
 * A quarter of the windows must be at least this smooth. Hiss and pauses are rough, but data other than sound is rarely
 * smooth anywhere.
 */
const smoothShare = 0.25;

interface Shape {
  /** Root mean square. */
  readonly level: number;
  readonly peak: number;
  /** Size of the steps between neighbouring samples, relative to the samples themselves. */
  readonly roughness: number;
  readonly maxRoughness: number;
}

/** Measures the level of whole blocks, and the roughness of the smoothest quarter of short windows. */
export function shapeOf(format: WavFormat, blocks: Buffer): Shape {
  const { sampleFormat, channels } = pcmFormatOf(format);
  const samples = samplesIn(wavToPcm(format)(blocks), sampleFormat);
  const windows: { variance: number; roughness: number }[] = [];
  for (let at = 0; at < samples.length; at += windowFrames * channels) {
    windows.push(shapeOfWindow(samples.subarray(at, at + windowFrames * channels), channels));
  }
  const roughness = windows.filter(({ variance }) => variance > 0).map((window) => window.roughness);
  roughness.sort((one, other) => one - other);
  return {
    level: Math.sqrt(windows.reduce((sum, { variance }) => sum + variance, 0) / Math.max(windows.length, 1)),
    peak: peakOf(samples),
    roughness: roughness[Math.floor(roughness.length * smoothShare)] ?? 0,
    maxRoughness: roughness.length < windows.length ? Infinity : (roughness.at(-1) ?? Infinity),
  };
}

/** Loops, because each upload begins with this, and calls for each sample would take a tenth of a short clip's time. */
function samplesIn(pcm: Buffer, sampleFormat: PcmFormat["sampleFormat"]): Float32Array {
  const isInt16 = sampleFormat === "s16le";
  const samples = new Float32Array(pcm.length / (isInt16 ? 2 : 4));
  for (let i = 0; i < samples.length; i++) {
    samples[i] = isInt16 ? pcm.readInt16LE(2 * i) / 32_768 : pcm.readFloatLE(4 * i);
  }
  return samples;
}

function peakOf(samples: Float32Array): number {
  let peak = 0;
  for (let i = 0; i < samples.length; i++) peak = Math.max(peak, Math.abs(samples[i]!));
  return peak;
}

function shapeOfWindow(samples: Float32Array, channels: number): { variance: number; roughness: number } {
  let sum = 0;
  let energy = 0;
  let stepEnergy = 0;
  for (let i = 0; i < samples.length; i++) {
    const sample = samples[i]!;
    sum += sample;
    energy += sample * sample;
    if (i >= channels) stepEnergy += (sample - samples[i - channels]!) ** 2;
  }
  const variance = energy / samples.length - (sum / samples.length) ** 2;
  return variance > 1e-12 ? { variance, roughness: stepEnergy / samples.length / (2 * variance) } : silentWindow;
}

const silentWindow = { variance: 0, roughness: 0 };
