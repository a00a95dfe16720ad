import { ServiceError } from "../../errors/errors.ts";
import { crc16 } from "./crc16.ts";
import { FramePositions } from "./frame-positions.ts";
import { bitratesOf, decoderDelaySamples, lameDelaySamples, readFrameHeader } from "./mp3-frame.ts";
import type { Mp3FrameHeader } from "./mp3-frame.ts";

/** What an MP3 states about its level. */
interface Mp3Level {
  /** ReplayGain 2.0 of the track, in dB; omitted if it has no value, as for silence. */
  readonly replayGainDb?: number | undefined;
  /** Largest absolute sample, relative to full scale (1). */
  readonly peak?: number | undefined;
  /** Steps of gain that the frames have when they are sent, but not in the {@link Mp3Index}. Default: 0. */
  readonly gainSteps?: number | undefined;
}

/** Facts about the sound of an {@link Mp3Index}. */
export interface EncodedSound extends Mp3Level {
  /** Samples of each channel, at the rate of the MP3. */
  readonly samples: number;
  /** Samples of silence that the encoder got before the sound; see `short-sound.ts`. Default: 0. */
  readonly silenceBefore?: number | undefined;
}

/** What an {@link Mp3Index} has counted so far. */
export interface Mp3IndexState {
  /** The header of the first frame, as a number. */
  readonly word: number | undefined;
  readonly frames: number;
  readonly bytes: number;
  readonly crc: number;
  readonly encoderName: string | undefined;
}

/** Counts the frames of a constant bit rate MP3 and their bytes, for {@link infoFrame}. */
export class Mp3Index {
  #first: { readonly word: number; readonly header: Mp3FrameHeader; readonly positions: FramePositions } | undefined;
  #frames = 0;
  #bytes = 0;
  #crc = 0;
  #encoderName: string | undefined;

  /**
   * Adds frames. They must be whole, in order, all of one kind and bit rate, and as long as {@link FramePositions}
   * says: a range of an MP3 is changed on its way out without knowing more.
   * @throws {ServiceError} CONVERSION_FAILED if they are not.
   */
  add(frames: Buffer): void {
    let offset = 0;
    while (offset < frames.length) {
      offset += this.#frameLength(frames, offset);
      this.#frames++;
    }
    if (offset !== frames.length) throw brokenMp3();
    if (this.#encoderName === undefined && this.#bytes < searchedBytes) {
      this.#encoderName = /LAME3\.\d{3}/u.exec(frames.toString("latin1", 0, searchedBytes))?.[0];
    }
    this.#bytes += frames.length;
    this.#crc = crc16(this.#crc, frames);
  }

  /** Number of MP3 frames so far. */
  get frames(): number {
    return this.#frames;
  }

  /** The name and version of the encoder, in nine characters. */
  get encoderName(): string {
    return this.#encoderName ?? usualEncoderName;
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

  /** What it takes to go on with another index. */
  save(): Mp3IndexState {
    const [frames, bytes, crc, encoderName] = [this.#frames, this.#bytes, this.#crc, this.#encoderName];
    return { word: this.#first?.word, frames, bytes, crc, encoderName };
  }

  /** Goes on where another index of the same MP3 was saved. */
  restore({ word, frames, bytes, crc, encoderName }: Mp3IndexState): void {
    if (word !== undefined) {
      const start = Buffer.alloc(4);
      start.writeUInt32BE(word);
      const header = readFrameHeader(start);
      if (header === undefined) throw brokenMp3();
      this.#first = { word, header, positions: new FramePositions(header) };
    }
    this.#frames = frames;
    this.#bytes = bytes;
    this.#crc = crc;
    this.#encoderName = encoderName;
  }

  #frameLength(frames: Buffer, offset: number): number {
    if (offset + 4 > frames.length) throw brokenMp3();
    const word = frames.readUInt32BE(offset);
    if (this.#first === undefined) {
      const header = readFrameHeader(frames, offset);
      if (header === undefined) throw brokenMp3();
      this.#first = { word, header, positions: new FramePositions(header) };
    }
    const { word: firstWord, header, positions } = this.#first;
    if (((word ^ firstWord) & sameInEveryFrame) !== 0) throw brokenMp3();
    const byteLength = header.byteLength + ((word & paddingBit) - (firstWord & paddingBit)) / paddingBit;
    if (byteLength !== positions.startOf(this.#frames + 1) - positions.startOf(this.#frames)) throw brokenMp3();
    return byteLength;
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

/** LAME's 100 - 10 V - q, with the V of constant bit rates, 4, and the q of `-compression_level 5`. */
const qualityField = 100 - 10 * 4 - 5;

/**
 * LAME writes its name into bits that it does not need, in most frames. This is what it is called if it had none to
 * spare.
 */
const usualEncoderName = "LAME3.100";
/** So many bytes of the first frames are searched for the name. */
const searchedBytes = 64 * 1024;

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
  at = frame.writeUInt32BE(qualityField, at);
  at += frame.write(index.encoderName, at, "latin1"); // players use the delay and the padding only after this name
  at = frame.writeUInt8(revision0ConstantBitrate, at);
  at = frame.writeUInt8(0, at); // lowpass: not stated
  at += 4 + 2 + 2; // peak, track gain, and album gain: none
  at = frame.writeUInt8(0, at); // encoder switches: not stated
  at = frame.writeUInt8(Math.min(header.bitrateKbps, 255), at);
  at = frame.writeUIntBE((delay << 12) | padding, at, 3);
  at = frame.writeUInt8((sourceRateField(header.sampleRateHz) << 6) | (stereoModeField(word) << 2), at);
  at += 1 + 2; // gain applied to the MP3; preset and surround: none
  at = frame.writeUInt32BE(totalBytes > 0xffff_ffff ? 0 : totalBytes, at);
  frame.writeUInt16BE(index.musicCrc, at);
  setInfoLevel(frame, sound);
  return frame;
}

/** Offsets of LAME's fields, from "Info" on. */
const levelFields = { peak: 131, trackGain: 135, mp3Gain: 145, musicCrc: 152, tagCrc: 154 } as const;

/**
 * Writes the level into an Info frame. The CRC of the sound is unknown, and left out, if gain is applied to it later.
 */
export function setInfoLevel(frame: Buffer, { replayGainDb, peak, gainSteps = 0 }: Mp3Level): void {
  const info = 4 + readFrameHeader(frame)!.sideInfoBytes;
  frame.writeUInt32BE(peakField(peak), info + levelFields.peak);
  frame.writeUInt16BE(gainField(replayGainDb), info + levelFields.trackGain);
  frame.writeUInt8(Math.min(Math.abs(gainSteps), 0x7f) | (gainSteps < 0 ? 0x80 : 0), info + levelFields.mp3Gain);
  if (gainSteps !== 0) frame.writeUInt16BE(0, info + levelFields.musicCrc);
  const tagCrcAt = info + levelFields.tagCrc;
  frame.writeUInt16BE(crc16(0, frame.subarray(0, tagCrcAt)), tagCrcAt);
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

function brokenMp3(): ServiceError {
  return new ServiceError("CONVERSION_FAILED", "The encoder did not return the whole recording. Send the file again.");
}
