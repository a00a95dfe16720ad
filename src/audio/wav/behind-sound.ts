import { isKnownChunk, isPrintableId, isWavStart } from "./wav-chunks.ts";
import type { WavFormat } from "./wav-format.ts";
import { id3TagBytes } from "./id3-frames.ts";
import { pcmFormatOf, wavToPcm } from "./wav-to-pcm.ts";

/** How many bytes are looked at to tell what follows the sound. */
export const lookaheadBytes = 64 * 1024;

/** Fewer bytes than these are no sound, unless the size in the file's header covers them. */
const minSoundBytes = 4096;

/** What stands where the sound should have ended. Junk of `Infinity` bytes goes on to the next WAV or to the end. */
export type Follower =
  | { readonly kind: "chunk" | "id3" | "sound" }
  /** One byte again and again; what comes behind it is still to be seen. */
  | { readonly kind: "padding"; readonly byte: number }
  | { readonly kind: "junk"; readonly bytes: number };

/** What is known about a place behind the sound. */
export interface BehindSound {
  /** The next bytes, {@link lookaheadBytes} of them or all that are left. */
  readonly ahead: Buffer;
  /** Whether `ahead` reaches the end of the file. */
  readonly isAll: boolean;
  /** The last bytes of the sound before. */
  readonly before: Buffer;
  /** Bytes at the end of the sound before that are no whole block: `ahead` would complete it. */
  readonly cutBytes: number;
  /** Of the sound before; undefined if it could not be read. */
  readonly format: WavFormat | undefined;
  /** Whether the size in the file's header counts all of `ahead` as part of the file. */
  readonly isCovered: boolean;
  /** Most bytes that can follow. */
  readonly maxBytes: number;
}

/**
 * Tells what follows the sound where neither a chunk with a usual name nor a WAV does. Sound is what a writer put there
 * that filled in its sizes too early: it goes on as the sound before it. Everything doubtful is junk.
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

/** Bytes of a tag that MP3 players know and that states its size: ID3v1, APEv2; 0 if none begins here. */
function oldTagBytes(bytes: Buffer): number {
  if (bytes.length >= 128 && bytes.toString("latin1", 0, 3) === "TAG") return 128;
  if (bytes.length >= 32 && bytes.toString("latin1", 0, 8) === "APETAGEX") return 32 + bytes.readUInt32LE(12);
  return 0;
}

/** Whether a chunk without a usual name begins here: its size has to lead to a place where something can begin. */
function isUnknownChunk({ ahead, isAll, format, maxBytes }: BehindSound): boolean {
  if (ahead.length < 8 || !isPrintableId(ahead)) return false;
  const size = format?.bigEndian === true ? ahead.readUInt32BE(4) : ahead.readUInt32LE(4);
  const end = 8 + size;
  if (end + 4 <= ahead.length) return isPrintableId(ahead, end) || isPrintableId(ahead, end + (size % 2));
  if (isAll) return end + (size % 2) >= ahead.length && end <= ahead.length;
  return end <= maxBytes && /^[\w ]{4}$/u.test(ahead.toString("latin1", 0, 4));
}

/** How many bytes at the beginning are the same. */
function runLength(bytes: Buffer): number {
  const end = bytes.findIndex((byte) => byte !== bytes[0]);
  return end < 0 ? bytes.length : end;
}

/** Whether these bytes are text in ASCII or UTF-8: no sound is valid as such and uses all of its range. */
export function isText(bytes: Buffer): boolean {
  const values = new Set(bytes.subarray(0, 4096));
  if (values.size < 12 || Math.min(...values) > 0x39 || Math.max(...values) < 0x61) return false;
  if ([...values].some((byte) => byte === 0x7f || (byte < 0x20 && (byte < 9 || byte > 13)))) return false;
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, 4096), { stream: true }); // may end in a character
    return true;
  } catch {
    return false;
  }
}

/** What kind of file begins here, if it is one that people have instead of sound. */
export function otherFileIn(bytes: Buffer): string | undefined {
  const start = bytes.toString("latin1", 0, 12);
  if (start.startsWith("ID3") && (id3TagBytes(bytes) ?? 0) > 10 && bytes[3]! < 5) return "MP3";
  if (/^[^]{0,4}ftyp/u.test(start)) return "MP4"; // behind zeros, which may have been passed over
  if (start.startsWith("FORM") && start.slice(8, 11) !== "AIF") return undefined;
  return otherFiles.find(([magic]) => start.startsWith(magic))?.[1];
}

const otherFiles: readonly (readonly [magic: string, name: string])[] = [
  ["fLaC", "FLAC"],
  ["OggS", "Ogg"],
  ["FORM", "AIFF"],
  ["caff", "CAF"],
  ["wvpk", "WavPack"],
  ["MAC ", "Monkey's Audio"],
  ["#!AMR", "AMR"],
  ["\x1aE\xdf\xa3", "WebM or Matroska"],
  ["\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"],
  [".snd", "AU"],
  ["PK\x03\x04", "ZIP"],
  ["%PDF", "PDF"],
  ["\x89PNG", "PNG"],
  ["\xff\xd8\xff\xe0", "JPEG"],
  ["\xff\xd8\xff\xe1", "JPEG"],
  ["\x1f\x8b\x08", "gzip"],
];

/** Steps between neighbouring samples of white noise have a roughness of 1, those of speech and music hardly one of 0.3. */
const maxMusicRoughness = 0.25;

/** Whether sound of this format goes on: neighbouring samples are like each other, or as unlike as they were before. */
function soundsAlike(format: WavFormat, { before, ahead, cutBytes }: BehindSound): boolean {
  const { blockAlign, framesPerBlock } = format;
  const later = wholeBlocks(ahead.subarray((blockAlign - cutBytes) % blockAlign), blockAlign);
  if (later.length === 0) return false;
  if (framesPerBlock > 1) {
    // Other bytes than sound hardly ever begin a block of ADPCM that can be decoded.
    const sampleBytes = 2 * pcmFormatOf(format).channels;
    return wavToPcm(format)(later).length >= 0.9 * (later.length / blockAlign) * framesPerBlock * sampleBytes;
  }
  const next = shapeOf(format, later);
  if (next.roughness < maxMusicRoughness || isBackground(next)) return true;
  const earlier = before.subarray(0, before.length - cutBytes);
  if (earlier.length < 256 * blockAlign) return next.level > 0; // a size that was never meant
  const last = shapeOf(format, earlier.subarray(earlier.length % blockAlign));
  const isAsLoud = next.level < last.level * 4 && next.level > last.level / 4;
  return isAsLoud && Math.abs(next.roughness - last.roughness) < 0.25;
}

/** Whether this is the faint, even noise of a pause: other data is loud, or has its leaps. */
function isBackground({ level, peak }: Shape): boolean {
  return level > 0 && level < 0.05 && peak < 12 * level;
}

function wholeBlocks(bytes: Buffer, blockAlign: number): Buffer {
  return bytes.subarray(0, bytes.length - (bytes.length % blockAlign));
}

const windowFrames = 256;
/** A quarter of the windows has to be as smooth: hisses and pauses are rough, but hardly any other data is smooth anywhere. */
const smoothShare = 0.25;

interface Shape {
  /** Root mean square. */
  readonly level: number;
  readonly peak: number;
  /** How the steps between neighbouring samples compare to the samples themselves. */
  readonly roughness: number;
  readonly maxRoughness: number;
}

/** How loud whole blocks are, and how rough in the smoothest quarter of short windows. */
export function shapeOf(format: WavFormat, blocks: Buffer): Shape {
  const pcm = wavToPcm(format)(blocks);
  const { sampleFormat, channels } = pcmFormatOf(format);
  const samples =
    sampleFormat === "s16le"
      ? Float32Array.from({ length: pcm.length / 2 }, (_, i) => pcm.readInt16LE(2 * i) / 32_768)
      : Float32Array.from({ length: pcm.length / 4 }, (_, i) => pcm.readFloatLE(4 * i));
  const windows: { variance: number; roughness: number }[] = [];
  for (let at = 0; at < samples.length; at += windowFrames * channels) {
    windows.push(shapeOfWindow(samples.subarray(at, at + windowFrames * channels), channels));
  }
  const roughness = windows.filter(({ variance }) => variance > 0).map((window) => window.roughness);
  roughness.sort((one, other) => one - other);
  return {
    level: Math.sqrt(windows.reduce((sum, { variance }) => sum + variance, 0) / Math.max(windows.length, 1)),
    peak: samples.reduce((largest, sample) => Math.max(largest, Math.abs(sample)), 0),
    roughness: roughness[Math.floor(roughness.length * smoothShare)] ?? 0,
    maxRoughness: roughness.length < windows.length ? Infinity : (roughness.at(-1) ?? Infinity),
  };
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
