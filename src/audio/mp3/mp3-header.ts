import { ServiceError } from "../../errors/errors.ts";
import { bitratesOf, decoderDelaySamples, lameDelaySamples, readFrameHeader } from "./mp3-frame.ts";
import type { Mp3FrameHeader } from "./mp3-frame.ts";

/** The sound that goes with an {@link Mp3Index}, measured before it was encoded. */
export interface EncodedSound {
  /** Samples of each channel, at the rate of the MP3. */
  readonly samples: number;
  /** Samples of silence that the encoder got before those, see {@link silenceAround}; none if left out. */
  readonly silenceBefore?: number | undefined;
  /** ReplayGain 2.0 of the track, in dB; left out where it has no value, as in silence. */
  readonly replayGainDb?: number | undefined;
  /** Largest absolute sample, 1 being full scale. */
  readonly peak?: number | undefined;
}

/** Sounds below this many samples make fewer than nine MPEG-1 frames. */
export const shortSoundSamples = 8112;

/**
 * The silence, in samples of each channel, to encode before and behind a sound of so many samples; the Info frame has
 * players leave it out. Only short sounds get any. ffmpeg (7.0) may take an MP3 of less than seven frames for video, and
 * plays too much if the frame in which the delay ends is also the one in which the padding begins: here the delay fills
 * whole frames. mp3val warns below ten frames. More silence would not fit the 12 bits of the delay and the padding.
 */
export function silenceAround(samples: number): { readonly before: number; readonly after: number } {
  return samples < shortSoundSamples
    ? { before: 4 * 1152 - lameDelaySamples - decoderDelaySamples, after: 2 * 1152 }
    : { before: 0, after: 0 };
}

/** Counts the frames of a constant bit rate MP3 as they pass, and sums up their bytes, for {@link infoFrame}. */
export class Mp3Index {
  #first: { readonly word: number; readonly header: Mp3FrameHeader } | undefined;
  #frames = 0;
  #bytes = 0;
  #crc = 0;

  /**
   * Takes the next frames, which must be whole, in order, and all of one kind and bit rate.
   * @throws {ServiceError} CONVERSION_FAILED when they are not.
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

  /** MP3 frames so far. */
  get frames(): number {
    return this.#frames;
  }

  /** Bytes of these frames. */
  get bytes(): number {
    return this.#bytes;
  }

  /** CRC-16 of these bytes, as the LAME tag wants it: polynomial 0x8005, reflected, from zero. */
  get musicCrc(): number {
    return this.#crc;
  }

  /**
   * The header of the first frame.
   * @throws {ServiceError} CONVERSION_FAILED while there is none.
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
/** Sync, version, layer, protection, bit rate, sample rate and channel mode; the padding slot and the rest may differ. */
const sameInEveryFrame = 0xffff_fcc0;
/** What the Info frame has in common with the sound: not the bit rate, the padding slot and the mode extension. */
const takenFromSound = 0xffff_0dcf;

const tocEntries = 100;
/** "Info", flags, frame count, byte count, seek table and quality, then LAME's part. */
const infoBytes = 4 + 4 + 4 + 4 + tocEntries + 4 + 36;
const hasFramesBytesTocQuality = 0x0f;
const revision0ConstantBitrate = 0x01;
/** Name "radio" and originator "determined automatically" of a ReplayGain field. */
const trackGainMeasured = (1 << 13) | (3 << 10);

/**
 * Makes the frame that stands before the sound and tells players its length, where to seek, and which samples to leave
 * out at both ends: a silent MP3 frame with the Xing fields ("Info", for a constant bit rate) and those of the
 * Mp3 Info Tag revision 0 as LAME writes them (http://gabriel.mp3-tech.org/mp3infotag.html).
 * @throws {ServiceError} CONVERSION_FAILED when the frames do not hold just the sound.
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
  // Zero says "unknown" to players, which is right for the few MP3s over 4 GiB.
  at = frame.writeUInt32BE(totalBytes > 0xffff_ffff ? 0 : totalBytes, at);
  // All frames have one length, so the sound's bytes are spread evenly over its time. The Info frame takes none.
  for (let percent = 0; percent < tocEntries; percent++) {
    const position = percent === 0 ? 0 : frame.length + (index.bytes * percent) / tocEntries;
    at = frame.writeUInt8(Math.floor((256 * position) / totalBytes), at);
  }
  at = frame.writeUInt32BE(0, at); // quality: not stated
  at += frame.write("LAME3.100", at, "latin1"); // players honour the delay and the padding behind this name only
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

/** A frame without sound and with room for the fields: at the sound's bit rate, or else at the next that suffices. */
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

/** The peak as a fixed-point number with 23 binary places; zero where there is none. */
function peakField(peak = 0): number {
  return Math.min(Math.round(peak * 2 ** 23), 0xffff_ffff);
}

function gainField(gainDb: number | undefined): number {
  if (gainDb === undefined || !Number.isFinite(gainDb)) return 0;
  const tenths = Math.min(Math.round(Math.abs(gainDb) * 10), 0x1ff);
  return trackGainMeasured | (gainDb < 0 ? 0x200 : 0) | tenths;
}

/** The rate at which the encoder got the sound: up to 32 kHz, 44.1 kHz, or 48 kHz. */
function sourceRateField(sampleRateHz: number): number {
  return sampleRateHz <= 32_000 ? 0 : sampleRateHz === 44_100 ? 1 : 2;
}

/** LAME's numbers for the channel modes stereo, joint stereo, dual channel and mono. */
function stereoModeField(word: number): number {
  return [1, 3, 2, 0][(word >> 6) & 3] ?? 0;
}

/** Eight tables: what a byte does to a CRC-16 (polynomial 0x8005, reflected) when 0 to 7 further bytes follow it. */
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

/** Goes on with a CRC-16, eight bytes a step: under 1 ms per MB, a third of what byte by byte takes. */
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
