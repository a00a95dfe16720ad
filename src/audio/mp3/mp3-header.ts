import { ServiceError } from "../../errors/errors.ts";
import { bitratesOf, decoderDelaySamples, lameDelaySamples, readFrameHeader } from "./mp3-frame.ts";
import type { Mp3FrameHeader } from "./mp3-frame.ts";

/** Measurements of the sound of an {@link Mp3Index}, from before it was encoded. */
export interface EncodedSound {
  /** Samples of each channel, at the rate of the MP3. */
  readonly samples: number;
  /** Samples of silence that the encoder got before the sound; see {@link silenceAround}. Default: 0. */
  readonly silenceBefore?: number | undefined;
  /** ReplayGain 2.0 of the track, in dB; omitted if it has no value, as for silence. */
  readonly replayGainDb?: number | undefined;
  /** Largest absolute sample, relative to full scale (1). */
  readonly peak?: number | undefined;
}

/** A sound with fewer samples than this results in fewer than nine MPEG-1 frames. */
export const shortSoundSamples = 8112;

/**
 * The silence to encode before and after a sound, in samples per channel. Only short sounds get silence, and the Info
 * frame tells players to skip it. ffmpeg (7.0) may take an MP3 of fewer than seven frames for video, and plays too much
 * if the delay ends in the frame in which the padding begins; here, the delay fills whole frames. mp3val warns below
 * ten frames. More silence would not fit into the 12 bits of the delay and the padding.
 */
export function silenceAround(samples: number): { readonly before: number; readonly after: number } {
  return samples < shortSoundSamples
    ? { before: 4 * 1152 - lameDelaySamples - decoderDelaySamples, after: 2 * 1152 }
    : { before: 0, after: 0 };
}

/** Counts the frames of a constant bit rate MP3 and their bytes, for {@link infoFrame}. */
export class Mp3Index {
  #first: { readonly word: number; readonly header: Mp3FrameHeader } | undefined;
  #frames = 0;
  #bytes = 0;
  #crc = 0;

  /**
   * Adds frames. They must be whole, in order, and all of one kind and bit rate.
   * @throws {ServiceError} CONVERSION_FAILED if they are not.
   */
  add(frames: Buffer): void {
    let offset = 0;
    while (offset < frames.length) {
      offset += this.#frameLength(frames, offset);
      this.#frames++;
    }
    if (offset !== frames.length) throw brokenMp3();
    this.#bytes += frames.length;
    this.#crc = crc16(this.#crc, frames);
  }

  /** Number of MP3 frames so far. */
  get frames(): number {
    return this.#frames;
  }

  /** Bytes of these frames. */
  get bytes(): number {
    return this.#bytes;
  }

  /** CRC-16 of these bytes for the LAME tag: polynomial 0x8005, reflected, initial value zero. */
  get musicCrc(): number {
    return this.#crc;
  }

  /**
   * The header of the first frame.
   * @throws {ServiceError} CONVERSION_FAILED if there is none yet.
   */
  get firstHeader(): { readonly word: number; readonly header: Mp3FrameHeader } {
    if (this.#first === undefined) throw brokenMp3();
    return this.#first;
  }

  #frameLength(frames: Buffer, offset: number): number {
    if (offset + 4 > frames.length) throw brokenMp3();
    const word = frames.readUInt32BE(offset);
    if (this.#first === undefined) {
      const header = readFrameHeader(frames, offset);
      if (header === undefined) throw brokenMp3();
      this.#first = { word, header };
    }
    const { word: firstWord, header } = this.#first;
    if (((word ^ firstWord) & sameInEveryFrame) !== 0) throw brokenMp3();
    return header.byteLength + ((word & paddingBit) - (firstWord & paddingBit)) / paddingBit;
  }
}

// Fields of the four header bytes read as one number: ISO 11172-3 section 2.4.1.3.
const paddingBit = 0x0000_0200;
const unprotectedBit = 0x0001_0000;
const bitrateShift = 12;
/** Fields that are equal in every frame: sync, version, layer, protection, bit rate, sample rate and channel mode. */
const sameInEveryFrame = 0xffff_fcc0;
/** Fields that the Info frame copies from the sound: all but the bit rate, the padding slot and the mode extension. */
const takenFromSound = 0xffff_0dcf;

const tocEntries = 100;
/** Sizes of "Info", flags, frame count, byte count, seek table and quality, and of LAME's part. */
const infoBytes = 4 + 4 + 4 + 4 + tocEntries + 4 + 36;
const hasFramesBytesTocQuality = 0x0f;
const revision0ConstantBitrate = 0x01;
/** The name "radio" and the originator "determined automatically" in a ReplayGain field. */
const trackGainMeasured = (1 << 13) | (3 << 10);

/**
 * Creates the frame before the sound. It tells players the length, where to seek, and which samples to skip at both
 * ends. It is a silent MP3 frame with the Xing fields ("Info", for a constant bit rate) and the fields of the Mp3 Info
 * Tag revision 0, as LAME writes them (http://gabriel.mp3-tech.org/mp3infotag.html).
 * @throws {ServiceError} CONVERSION_FAILED if the number of frames does not match the sound.
 */
export function infoFrame(index: Mp3Index, sound: EncodedSound): Buffer {
  const { word, header } = index.firstHeader;
  const delay = lameDelaySamples + (sound.silenceBefore ?? 0);
  const padding = index.frames * header.samplesPerFrame - delay - sound.samples;
  if (padding < decoderDelaySamples || padding > 0xfff) throw brokenMp3();

  const frame = emptyFrame(word, header);
  const totalBytes = frame.length + index.bytes;
  let at = 4 + header.sideInfoBytes;
  at += frame.write("Info", at, "latin1");
  at = frame.writeUInt32BE(hasFramesBytesTocQuality, at);
  at = frame.writeUInt32BE(index.frames, at);
  // Zero means "unknown" to players. It is used for MP3s over 4 GiB.
  at = frame.writeUInt32BE(totalBytes > 0xffff_ffff ? 0 : totalBytes, at);
  // All frames have the same length, so the bytes are spread evenly over the duration. The Info frame has no duration.
  for (let percent = 0; percent < tocEntries; percent++) {
    const position = percent === 0 ? 0 : frame.length + (index.bytes * percent) / tocEntries;
    at = frame.writeUInt8(Math.floor((256 * position) / totalBytes), at);
  }
  at = frame.writeUInt32BE(0, at); // quality: not stated
  at += frame.write("LAME3.100", at, "latin1"); // players use the delay and the padding only after this name
  at = frame.writeUInt8(revision0ConstantBitrate, at);
  at = frame.writeUInt8(0, at); // lowpass: not stated
  at = frame.writeUInt32BE(peakField(sound.peak), at);
  at = frame.writeUInt16BE(gainField(sound.replayGainDb), at);
  at = frame.writeUInt16BE(0, at); // album gain: none
  at = frame.writeUInt8(0, at); // encoder switches: not stated
  at = frame.writeUInt8(Math.min(header.bitrateKbps, 255), at);
  at = frame.writeUIntBE((delay << 12) | padding, at, 3);
  at = frame.writeUInt8((sourceRateField(header.sampleRateHz) << 6) | (stereoModeField(word) << 2), at);
  at = frame.writeUInt8(0, at); // gain applied to the MP3: none
  at = frame.writeUInt16BE(0, at); // preset and surround: none
  at = frame.writeUInt32BE(totalBytes > 0xffff_ffff ? 0 : totalBytes, at);
  at = frame.writeUInt16BE(index.musicCrc, at);
  frame.writeUInt16BE(crc16(0, frame.subarray(0, at)), at);
  return frame;
}

/**
 * A frame without sound that is large enough for the fields: at the sound's bit rate, or at the next sufficient one.
 */
function emptyFrame(word: number, sound: Mp3FrameHeader): Buffer {
  const bytesNeeded = 4 + sound.sideInfoBytes + infoBytes;
  for (const [position, kbps] of bitratesOf(sound.mpegVersion).entries()) {
    if (kbps < sound.bitrateKbps) continue;
    const start = Buffer.alloc(4);
    start.writeInt32BE((word & takenFromSound) | unprotectedBit | ((position + 1) << bitrateShift));
    const byteLength = readFrameHeader(start)?.byteLength ?? 0;
    if (byteLength >= bytesNeeded) return Buffer.concat([start], byteLength);
  }
  throw brokenMp3();
}

/** The peak as a fixed-point number with 23 binary places; zero if there is none. */
function peakField(peak = 0): number {
  return Math.min(Math.round(peak * 2 ** 23), 0xffff_ffff);
}

function gainField(gainDb: number | undefined): number {
  if (gainDb === undefined || !Number.isFinite(gainDb)) return 0;
  const tenths = Math.min(Math.round(Math.abs(gainDb) * 10), 0x1ff);
  return trackGainMeasured | (gainDb < 0 ? 0x200 : 0) | tenths;
}

/** The sample rate of the encoder's input: up to 32 kHz, 44.1 kHz, or 48 kHz. */
function sourceRateField(sampleRateHz: number): number {
  return sampleRateHz <= 32_000 ? 0 : sampleRateHz === 44_100 ? 1 : 2;
}

/** LAME's numbers for the channel modes: stereo, joint stereo, dual channel and mono. */
function stereoModeField(word: number): number {
  return [1, 3, 2, 0][(word >> 6) & 3] ?? 0;
}

/** Eight tables: the effect of a byte on a CRC-16 (polynomial 0x8005, reflected) when 0 to 7 more bytes follow it. */
const crcTables = makeCrcTables();

function makeCrcTables(): Uint16Array {
  const tables = new Uint16Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) * 0xa001);
    tables[byte] = crc;
  }
  for (let entry = 256; entry < tables.length; entry++) {
    const before = tables[entry - 256]!;
    tables[entry] = (before >> 8) ^ tables[before & 0xff]!;
  }
  return tables;
}

/** Continues a CRC-16, eight bytes per step. This takes under 1 ms per MB, a third of the time of single bytes. */
function crc16(start: number, bytes: Uint8Array): number {
  const table = crcTables;
  let crc = start;
  let at = 0;
  for (; at + 8 <= bytes.length; at += 8) {
    crc =
      table[0x700 + (bytes[at]! ^ (crc & 0xff))]! ^
      table[0x600 + (bytes[at + 1]! ^ (crc >> 8))]! ^
      table[0x500 + bytes[at + 2]!]! ^
      table[0x400 + bytes[at + 3]!]! ^
      table[0x300 + bytes[at + 4]!]! ^
      table[0x200 + bytes[at + 5]!]! ^
      table[0x100 + bytes[at + 6]!]! ^
      table[bytes[at + 7]!]!;
  }
  for (; at < bytes.length; at++) crc = (crc >> 8) ^ table[(crc ^ bytes[at]!) & 0xff]!;
  return crc;
}

function brokenMp3(): ServiceError {
  return new ServiceError("CONVERSION_FAILED", "The encoder did not return the whole recording. Send the file again.");
}
