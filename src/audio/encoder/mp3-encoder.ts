import type { EncoderTurns } from "./encoder-pool.ts";
import type { EncodingState } from "./pcm-dealer.ts";
import { SegmentedEncoding } from "./segmented-encoding.ts";
import { mp3RateFor } from "../mp3/quality.ts";
import type { PcmFormat } from "../pcm-format.ts";

/**
 * Settings of the MP3. Its sample rate is {@link mp3RateFor} the source's rate; its channels are those of the source.
 */
export interface Mp3Settings {
  /** A bit rate that an MP3 of this sample rate can have, in kbit/s. */
  readonly bitrateKbps: number;
  /** Upper bound of the PCM in bytes; by default unknown. A conversion that is almost done keeps its turn. */
  readonly maxPcmBytes?: number;
  /** Bytes of silence with which the PCM begins, at least. An encoder may have got them beforehand. */
  readonly silentBytes?: number;
  /** Where to go on; the PCM then begins there. */
  readonly from?: EncodingState | undefined;
  /** Gets the encoding when it begins, to mark places in it. */
  readonly onStart?: ((encoding: SegmentedEncoding) => void) | undefined;
}

/**
 * Encodes PCM as MP3 frames of constant bit rate, without head or tags, and yields whole frames. It runs
 * one ffmpeg during each of its turns, and more of them while the source is faster than one and the pool has spares.
 * All of them have ended or were killed when the generator has ended, however it ended. PCM is copied, so the source may reuse its
 * buffers.
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
  const { maxPcmBytes = Infinity, silentBytes, from, onStart } = settings;
  await using encoding = new SegmentedEncoding(turns, pcm, format, mp3, maxPcmBytes, signal, from, silentBytes);
  onStart?.(encoding);
  yield* encoding.run();
}
