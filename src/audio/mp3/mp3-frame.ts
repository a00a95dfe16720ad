import { layer3Kbps, mpeg1RatesHz } from "../mpeg-tables.ts";

/** The four header bytes of an MPEG audio Layer III frame (ISO 11172-3 section 2.4.1.3, ISO 13818-3). */
export interface Mp3FrameHeader {
  readonly mpegVersion: 1 | 2 | 2.5;
  readonly bitrateKbps: number;
  readonly sampleRateHz: number;
  readonly channels: 1 | 2;
  /** Samples per channel in one frame: 1152 in MPEG-1, 576 in MPEG-2 and MPEG-2.5. */
  readonly samplesPerFrame: 1152 | 576;
  /** Size of the whole frame, including its header. */
  readonly byteLength: number;
  /** Size of the side information, which follows the header and the CRC, if any. */
  readonly sideInfoBytes: number;
}

const headerBytes = 4;

/** Samples that LAME adds before the sound, for every MPEG version and number of channels. */
export const lameDelaySamples = 576;

/** Delay of every Layer III decoder, in samples. Players add it to LAME's delay themselves. */
export const decoderDelaySamples = 529;

/** The MPEG version that has this sample rate; undefined if MP3 does not support it. */
export function mpegVersionOf(sampleRateHz: number): 1 | 2 | 2.5 | undefined {
  for (const version of [1, 2, 2.5] as const) {
    if (mpeg1RatesHz.some((rate) => rate / rateDivisor(version) === sampleRateHz)) return version;
  }
  return undefined;
}

/** The bit rates of Layer III for a version, in kbit/s and ascending. LAME supports at most 64 for MPEG-2.5. */
export function bitratesOf(mpegVersion: 1 | 2 | 2.5): readonly number[] {
  const all = mpegVersion === 1 ? layer3Kbps.mpeg1 : layer3Kbps.mpeg2;
  return mpegVersion === 2.5 ? all.filter((kbps) => kbps <= 64) : all;
}

/** Samples per channel in one frame of this version. */
export function samplesPerFrameOf(mpegVersion: 1 | 2 | 2.5): 1152 | 576 {
  return mpegVersion === 1 ? 1152 : 576;
}

/** Reads the frame header at `offset`; undefined if these four bytes are not a Layer III header. */
export function readFrameHeader(bytes: Uint8Array, offset = 0): Mp3FrameHeader | undefined {
  // Not destructured: this is done for each frame, and a view and an iterator would be its garbage.
  const b0 = bytes[offset];
  const b1 = bytes[offset + 1];
  const b2 = bytes[offset + 2];
  const b3 = bytes[offset + 3];
  if (b0 === undefined || b1 === undefined || b2 === undefined || b3 === undefined) return undefined;
  if (b0 !== 0xff || (b1 & 0xe0) !== 0xe0 || (b1 & 0x06) !== 0x02) return undefined;
  const mpegVersion = ([2.5, undefined, 2, 1] as const)[(b1 >> 3) & 3];
  if (mpegVersion === undefined) return undefined;
  const bitrateKbps = (mpegVersion === 1 ? layer3Kbps.mpeg1 : layer3Kbps.mpeg2)[(b2 >> 4) - 1];
  const baseRateHz = mpeg1RatesHz[(b2 >> 2) & 3];
  if (bitrateKbps === undefined || baseRateHz === undefined) return undefined;
  const sampleRateHz = baseRateHz / rateDivisor(mpegVersion);
  const channels = b3 >> 6 === 3 ? 1 : 2;
  const samplesPerFrame = samplesPerFrameOf(mpegVersion);
  const padding = (b2 >> 1) & 1;
  return {
    mpegVersion,
    bitrateKbps,
    sampleRateHz,
    channels,
    samplesPerFrame,
    byteLength: Math.floor((samplesPerFrame * bitrateKbps * 125) / sampleRateHz) + padding,
    sideInfoBytes: sideInfoBytesOf(mpegVersion, channels),
  };
}

/** Bytes for main data in a frame of this kind that is not padded. */
export function mainDataSlotBytes(sampleRateHz: number, channels: 1 | 2, bitrateKbps: number): number {
  const mpegVersion = mpegVersionOf(sampleRateHz) ?? 1;
  const frameBytes = Math.floor((samplesPerFrameOf(mpegVersion) * bitrateKbps * 125) / sampleRateHz);
  return frameBytes - headerBytes - sideInfoBytesOf(mpegVersion, channels);
}

function sideInfoBytesOf(mpegVersion: 1 | 2 | 2.5, channels: 1 | 2): number {
  if (mpegVersion === 1) return channels === 1 ? 17 : 32;
  return channels === 1 ? 9 : 17;
}

function rateDivisor(mpegVersion: 1 | 2 | 2.5): number {
  return mpegVersion === 1 ? 1 : mpegVersion === 2 ? 2 : 4;
}
