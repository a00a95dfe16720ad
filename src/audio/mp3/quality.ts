import { mpeg1RatesHz } from "../mpeg-tables.ts";
import { bitratesOf, mpegVersionOf } from "./mp3-frame.ts";

/**
 * Constant bit rates for mono and for stereo, in kbit/s, and how many bits they spend on a sample of the source at
 * most. At 8 kHz, 64 kbit/s are 8 bits a sample, as in A-law: more is not better, measured as noise-to-mask.
 */
export const qualities = {
  SPEECH: { monoKbps: 64, stereoKbps: 64, maxBitsPerSample: 6, maxChannels: 1 },
  LOW: { monoKbps: 64, stereoKbps: 96, maxBitsPerSample: 6, maxChannels: 2 },
  STANDARD: { monoKbps: 96, stereoKbps: 192, maxBitsPerSample: 8, maxChannels: 2 },
  HIGH: { monoKbps: 160, stereoKbps: 320, maxBitsPerSample: 8, maxChannels: 2 },
} as const;

/** A name in {@link qualities}. */
export type Quality = keyof typeof qualities;

export const qualityNames: readonly Quality[] = ["SPEECH", "LOW", "STANDARD", "HIGH"];

const ascendingRatesHz = mpeg1RatesHz.toSorted((a, b) => a - b);

/**
 * The MP3's sample rate for a source's. It is at least 22.05 kHz: lower rates sound worse at the same bit rate, and the
 * lowest ones (MPEG-2.5) do not play everywhere. From there on, it is the same if MP3 supports it, else the next one
 * that preserves the sound.
 */
export function mp3RateFor(sourceRateHz: number): number {
  const multiple = ascendingRatesHz.find((rateHz) => rateHz % sourceRateHz === 0) ?? 32_000;
  if (sourceRateHz < 22_050) return multiple;
  if (mpegVersionOf(sourceRateHz)) return sourceRateHz;
  if (sourceRateHz > 48_000) return sourceRateHz % 44_100 === 0 ? 44_100 : 48_000;
  return [24_000, 32_000, 44_100, 48_000].find((rateHz) => rateHz > sourceRateHz)!;
}

/** The MP3's bit rate for a source's sample rate and the number of channels of both, in kbit/s. */
export function mp3BitrateFor(sourceRateHz: number, channels: 1 | 2, quality: Quality): number {
  const { monoKbps, stereoKbps, maxBitsPerSample } = qualities[quality];
  const useful = (sourceRateHz * channels * maxBitsPerSample) / 1000;
  const wanted = Math.min(channels === 1 ? monoKbps : stereoKbps, useful);
  const bitrates = bitratesOf(mpegVersionOf(mp3RateFor(sourceRateHz)) ?? 1);
  return bitrates.findLast((kbps) => kbps <= wanted) ?? bitrates[0]!;
}
