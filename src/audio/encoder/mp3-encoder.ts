import type { EncoderTurns } from "./encoder-pool.ts";
import { SegmentedEncoding } from "./segmented-encoding.ts";
import { bitratesOf, mpegVersionOf } from "../mp3/mp3-frame.ts";
import type { PcmFormat } from "../pcm-format.ts";

/**
 * Settings of the MP3. Its sample rate is {@link mp3RateFor} the source's rate; its channels are those of the source.
 */
export interface Mp3Settings {
  /** One of the bit rates that {@link mp3BitrateFor} returns. */
  readonly bitrateKbps: number;
  /** Upper bound of the PCM in bytes; by default unknown. A conversion that is almost done keeps its turn. */
  readonly maxPcmBytes?: number;
}

/** The MP3's sample rate for a source's: the same if MP3 supports it, else the next one that preserves the sound. */
export function mp3RateFor(sourceRateHz: number): number {
  if (mpegVersionOf(sourceRateHz)) return sourceRateHz;
  if (sourceRateHz > 48_000) return sourceRateHz % 44_100 === 0 ? 44_100 : 48_000;
  const ratesHz = [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100];
  return ratesHz.find((rateHz) => rateHz > sourceRateHz) ?? 48_000;
}

/**
 * The highest bit rate up to the wanted one that an MP3 of this sample rate can have, in kbit/s; its lowest if there is
 * none.
 */
export function mp3BitrateFor(mp3RateHz: number, wantedKbps: number): number {
  const bitrates = bitratesOf(mpegVersionOf(mp3RateHz) ?? 1);
  return bitrates.findLast((kbps) => kbps <= wantedKbps) ?? bitrates[0]!;
}

/**
 * Encodes PCM as MP3 frames of constant bit rate, without bit reservoir, head or tags, and yields whole frames. It runs
 * one ffmpeg during each of its turns, and more of them while the source is faster than one and the pool has spares. All of
 * them have ended when the generator has ended, however it ended. PCM is copied, so the source may reuse its buffers.
 * @throws what the source throws; the signal's reason if it is aborted
 * @throws {ServiceError} `CONVERSION_FAILED` if an encoder fails; `UPLOAD_INCOMPLETE` if there is no sound
 */
export async function* encodeMp3(
  turns: EncoderTurns,
  pcm: AsyncIterable<Buffer>,
  format: PcmFormat,
  settings: Mp3Settings,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  signal.throwIfAborted();
  const { channels } = format;
  const mp3 = { sampleRateHz: mp3RateFor(format.sampleRateHz), channels, bitrateKbps: settings.bitrateKbps };
  await using encoding = new SegmentedEncoding(turns, pcm, format, mp3, settings.maxPcmBytes ?? Infinity, signal);
  yield* encoding.run();
}
