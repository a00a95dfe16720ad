import { layer3Kbps, mpeg1RatesHz } from "../mpeg-tables.ts";

/** A frame of MPEG audio. */
export interface MpegFrame {
  readonly layer: 2 | 3;
  readonly bytes: number;
  readonly sampleRateHz: number;
  readonly channels: 1 | 2;
  readonly coding: "MP3" | "MPEG audio";
  /** The header fields that all frames of one stream share. */
  readonly kind: number;
}

/** Bit rates by layer, as the header writes it: 1 is Layer III, 2 is Layer II. Nobody has files of Layer I. */
const mpeg1Kbps: readonly (readonly number[])[] = [
  [],
  layer3Kbps.mpeg1,
  [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
];
const mpeg2Kbps: readonly (readonly number[])[] = [[], layer3Kbps.mpeg2, layer3Kbps.mpeg2];

/**
 * Reads the header of a frame (ISO 11172-3 section 2.4.1.3, ISO 13818-3; version 0 is MPEG-2.5). Frames of "free
 * format" do not state their size and do not count.
 */
export function mpegFrameAt(bytes: Buffer, at: number): MpegFrame | undefined {
  if (at + 4 > bytes.length || bytes[at] !== 0xff || bytes[at + 1]! < 0xe0) return undefined;
  const version = (bytes[at + 1]! >> 3) & 3;
  const layer = (bytes[at + 1]! >> 1) & 3;
  const kbps = (version === 3 ? mpeg1Kbps : mpeg2Kbps)[layer]?.[(bytes[at + 2]! >> 4) - 1];
  const rateCode = (bytes[at + 2]! >> 2) & 3;
  const mpeg1RateHz = mpeg1RatesHz[rateCode];
  if (version === 1 || kbps === undefined || mpeg1RateHz === undefined) return undefined;
  const sampleRateHz = mpeg1RateHz / (version === 3 ? 1 : version === 2 ? 2 : 4);
  const padding = (bytes[at + 2]! >> 1) & 1;
  const channels = bytes[at + 3]! >> 6 === 3 ? 1 : 2;
  const bytesAtOneHz = (layer === 1 && version !== 3 ? 72_000 : 144_000) * kbps;
  return {
    layer: layer === 1 ? 3 : 2,
    bytes: Math.floor(bytesAtOneHz / sampleRateHz) + padding,
    sampleRateHz,
    channels,
    coding: layer === 1 ? "MP3" : "MPEG audio",
    kind: (channels << 6) | (version << 4) | (layer << 2) | rateCode,
  };
}

/** Number of bytes in which the first frame of a stream must begin: behind an ID3 tag, or anything else. */
export const firstFrameWithin = 64 * 1024;

/** The first frame that another one of the same stream follows. */
export function firstMpegFrame(bytes: Buffer): MpegFrame | undefined {
  for (let at = bytes.indexOf(0xff); at >= 0; at = bytes.indexOf(0xff, at + 1)) {
    const frame = mpegFrameAt(bytes, at);
    if (frame === undefined) continue;
    const next = at + frame.bytes;
    if (mpegFrameAt(bytes, next)?.kind === frame.kind || next === bytes.length) return frame;
  }
  return undefined;
}
