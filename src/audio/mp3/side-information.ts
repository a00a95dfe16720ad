import type { Mp3FrameHeader } from "./mp3-frame.ts";

/** The fields of a header that decide how the side information is laid out. */
export type SideInformationKind = Pick<Mp3FrameHeader, "mpegVersion" | "channels">;

/**
 * Where fields lie in the side information of a Layer III frame, in bits from its start (ISO 11172-3 section 2.4.1.7,
 * ISO 13818-3 section 2.4.1.7). The lists have one entry for each granule and channel: MPEG-1 has two granules, MPEG-2
 * and 2.5 one.
 */
interface SideInformationLayout {
  /** Length of `main_data_begin`, the first field. */
  readonly mainDataBeginBits: 9 | 8;
  /** The fields `part2_3_length`, of 12 bits. */
  readonly part23Lengths: readonly number[];
  /** The fields `global_gain`, of 8 bits. One step is a factor of 2^(1/4) in amplitude. */
  readonly globalGains: readonly number[];
  /** Length of all fields of one granule and channel. Its first field is `part2_3_length`. */
  readonly granuleBits: number;
}

const part23LengthBits = 12;
/** In a granule, `part2_3_length` (12 bits) and `big_values` (9) precede `global_gain`. */
const globalGainOffset = 21;

/** The layouts by version and channels. */
const layouts = {
  mpeg1: { 1: layoutOf(9, 18, 59, 2), 2: layoutOf(9, 20, 59, 4) },
  mpeg2: { 1: layoutOf(8, 9, 63, 1), 2: layoutOf(8, 10, 63, 2) },
} as const;

function layoutOf(
  mainDataBeginBits: 9 | 8,
  firstGranule: number,
  granuleBits: number,
  granules: number,
): SideInformationLayout {
  const part23Lengths = Array.from({ length: granules }, (_, granule) => firstGranule + granule * granuleBits);
  const globalGains = part23Lengths.map((bit) => bit + globalGainOffset);
  return { mainDataBeginBits, part23Lengths, globalGains, granuleBits };
}

/** Where the fields lie in frames of this kind. */
export function sideInformationLayout({ mpegVersion, channels }: SideInformationKind): SideInformationLayout {
  return (mpegVersion === 1 ? layouts.mpeg1 : layouts.mpeg2)[channels];
}

/**
 * Offset of the side information in the frame that starts at `frameStart`: after the header, and a CRC if there is one.
 */
export function sideInformationStart(bytes: Uint8Array, frameStart = 0): number {
  const hasNoCrc = bytes[frameStart + 1]! & 1;
  return frameStart + (hasNoCrc ? 4 : 6);
}

/** How many bytes of main data of earlier frames belong to the frame that starts at `frameStart`: `main_data_begin`. */
export function readMainDataBegin(bytes: Uint8Array, frameStart: number, kind: SideInformationKind): number {
  return readBits(bytes, sideInformationStart(bytes, frameStart), 0, sideInformationLayout(kind).mainDataBeginBits);
}

/** Sets {@link readMainDataBegin}. The value is at most {@link mostMainDataBegin}. */
export function writeMainDataBegin(
  bytes: Uint8Array,
  frameStart: number,
  kind: SideInformationKind,
  byteCount: number,
): void {
  const start = sideInformationStart(bytes, frameStart);
  if (kind.mpegVersion === 1) {
    bytes[start] = byteCount >> 1;
    bytes[start + 1] = ((byteCount & 1) << 7) | (bytes[start + 1]! & 0x7f);
  } else bytes[start] = byteCount;
}

/** The largest `main_data_begin` that frames of this kind can have, in bytes. */
export function mostMainDataBegin(kind: SideInformationKind): number {
  return 2 ** sideInformationLayout(kind).mainDataBeginBits - 1;
}

/** Length of the main data of the frame that starts at `frameStart`, in bytes: all granules, without stuffing. */
export function mainDataBytes(bytes: Uint8Array, frameStart: number, kind: SideInformationKind): number {
  const start = sideInformationStart(bytes, frameStart);
  let bits = 0;
  for (const bit of sideInformationLayout(kind).part23Lengths) bits += readBits(bytes, start, bit, part23LengthBits);
  return Math.ceil(bits / 8);
}

/** Takes the sound out of one of a frame's granules: number `index` in the lists of {@link SideInformationLayout}. */
export function clearGranule(bytes: Uint8Array, frameStart: number, kind: SideInformationKind, index: number): void {
  const start = sideInformationStart(bytes, frameStart);
  const { part23Lengths, granuleBits } = sideInformationLayout(kind);
  const first = part23Lengths[index]!;
  for (let bit = first; bit < first + granuleBits; bit++) bytes[start + (bit >> 3)]! &= ~(0x80 >> (bit & 7));
}

/** Reads a number of up to 16 bits, `bit` bits after byte `start`. */
function readBits(bytes: Uint8Array, start: number, bit: number, bitCount: number): number {
  const at = start + (bit >> 3);
  const word = (bytes[at]! << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
  return (word >> (24 - (bit & 7) - bitCount)) & (2 ** bitCount - 1);
}
