import { createHash } from "node:crypto";
import { counted, ServiceError } from "../errors/errors.ts";
import type { Applicant, EncoderPool } from "./encoder/encoder-pool.ts";
import { FloatScale } from "./wav/float-scale.ts";
import { id3Tag } from "./mp3/id3-tag.ts";
import { replayGainDb } from "./meter/loudness.ts";
import { encodeMp3, mp3BitrateFor, mp3RateFor } from "./encoder/mp3-encoder.ts";
import { infoFrame, Mp3Index, shortSoundSamples, silenceAround } from "./mp3/mp3-header.ts";
import { bytesPerPcmFrame, type PcmFormat } from "./pcm-format.ts";
import { SoundMeter, type SoundFacts } from "./meter/sound-meter.ts";
import { framesIn, type WavFormat } from "./wav/wav-format.ts";
import { openWav } from "./wav/wav-reader.ts";
import type { WavTags } from "./wav/wav-tags.ts";
import { qualities, type Quality } from "./mp3/quality.ts";
import { largestSampleOf, pcmFormatOf, wavToPcm } from "./wav/wav-to-pcm.ts";

/** A problem of an upload that did not prevent its conversion, as the API reports it. */
export type ConversionWarning =
  | "CUT_SHORT"
  | "DAMAGED"
  | "CLIPPED"
  | "SILENT"
  | "MIXED_DOWN"
  | "RESAMPLED"
  | "RESCALED"
  | "SOUND_LEFT_OUT"
  | "TRAILING_JUNK";

/** Number of PCM bytes at which a process is started. A client that sends less costs no process. */
const worthwhileBytes = 64 * 1024;

/** How to convert. */
export interface ConversionOptions {
  readonly encoders: EncoderPool;
  /** The owner of the upload. The owners take turns at the pool. */
  readonly owner?: number;
  /** Suspended while the conversion waits for its turn. */
  readonly slot?: Applicant["slot"];
  readonly quality: Quality;
  /** Maximum duration of the sound, in seconds. */
  readonly maxDurationSeconds: number;
  /** Maximum number of bytes that the source can have; undefined if the client did not state it. */
  readonly maxSourceBytes?: number | undefined;
  /** Aborts the conversion, which then throws the signal's reason. */
  readonly signal: AbortSignal;
}

/** The facts that are known when the whole WAV has been converted. */
export interface ConversionFacts {
  readonly source: {
    readonly format: WavFormat;
    /** Samples of each channel. */
    readonly samples: number;
    readonly bytes: number;
    /** Number of bytes after the sound that were left out; see {@link ConversionFacts.warnings}. */
    readonly leftOutBytes: number;
    /** In hexadecimal digits. */
    readonly sha256: string;
    readonly tags: WavTags;
  };
  readonly mp3: { readonly bitrateKbps: number; readonly sampleRateHz: number; readonly channels: 1 | 2 };
  readonly sound: SoundFacts;
  readonly warnings: readonly ConversionWarning[];
}

/** A conversion whose WAV header has been read. */
export interface Conversion {
  /** Yields the MP3's frames while the WAV arrives. Read it once, to the end. */
  frames(): AsyncGenerator<Buffer, void, undefined>;
  /** The facts. Available when {@link frames} has ended. */
  facts(): ConversionFacts;
  /** The bytes to put before the frames. Available when {@link frames} has ended. */
  head(title: string): Buffer;
}

/**
 * Reads a WAV's header and prepares its conversion to MP3.
 * @throws {ServiceError} UNSUPPORTED_MEDIA, UPLOAD_INCOMPLETE or UPLOAD_TOO_LONG, as soon as it is certain
 */
export async function openConversion(source: AsyncIterable<Buffer>, options: ConversionOptions): Promise<Conversion> {
  const { encoders, owner, slot, quality, maxDurationSeconds, maxSourceBytes, signal } = options;
  const hash = createHash("sha256");
  let sourceBytes = 0;
  async function* hashed(): AsyncGenerator<Buffer, void, undefined> {
    for await (const bytes of source) {
      hash.update(bytes);
      sourceBytes += bytes.length;
      yield bytes;
    }
  }

  const wav = await openWav(hashed(), { maxBytes: maxSourceBytes, maxSeconds: maxDurationSeconds });
  const pcm = pcmFormatOf(wav.format);
  const maxSamples = maxDurationSeconds * pcm.sampleRateHz;
  if ((wav.announcedFrames ?? 0) > maxSamples) throw tooLong(maxDurationSeconds);

  const mp3 = { ...mp3FormatOf(pcm, quality), channels: pcm.channels };
  const meter = new SoundMeter(pcm, largestSampleOf(wav.format));
  const scale = new FloatScale(wav.format);
  const index = new Mp3Index();
  let samples = 0;
  let silenceBefore = 0;
  let isDamaged = false;

  async function* sound(): AsyncGenerator<Buffer, void, undefined> {
    const toPcm = wavToPcm(wav.format, () => scale.fullScale);
    const frameBytes = bytesPerPcmFrame(pcm);
    for await (const blocks of scale.settled(wav.blocks())) {
      const decoded = toPcm(blocks);
      isDamaged ||= decoded.length < framesIn(wav.format, blocks.length) * frameBytes;
      const bytes = decoded.subarray(0, Math.max(0, decoded.length - wav.paddingFrames * frameBytes));
      samples += bytes.length / frameBytes;
      if (samples > maxSamples) throw tooLong(maxDurationSeconds);
      meter.add(bytes);
      yield bytes;
    }
  }

  /** Converts a number of source samples to MP3 samples, without rounding. */
  const mp3Samples = (sourceSamples: number): number => (sourceSamples * mp3.sampleRateHz) / pcm.sampleRateHz;

  /** Yields the sound. Sound that is too short for decoders to recognise the MP3 gets silence around it. */
  async function* recognisableSound(): AsyncGenerator<Buffer, void, undefined> {
    const frameBytes = bytesPerPcmFrame(pcm);
    const enough = Math.round(shortSoundSamples / mp3Samples(1)) * frameBytes;
    let held: Buffer[] | undefined = [];
    let heldBytes = 0;
    for await (const bytes of sound()) {
      if (!held) {
        yield bytes;
        continue;
      }
      held.push(bytes);
      heldBytes += bytes.length;
      if (heldBytes < enough) continue;
      yield* held;
      held = undefined;
    }
    if (!held || heldBytes === 0) return;
    const { before, after } = silenceAround(shortSoundSamples - 1);
    const leading = leadingSilence(before, mp3Samples(1), mp3Samples(heldBytes / frameBytes));
    silenceBefore = Math.round(mp3Samples(leading));
    yield* [Buffer.alloc(leading * frameBytes), ...held, Buffer.alloc(Math.round(after / mp3Samples(1)) * frameBytes)];
  }

  async function* encode(): AsyncGenerator<Buffer, void, undefined> {
    const sound = recognisableSound();
    const first = await readAtLeast(worthwhileBytes, sound);
    const maxFrames = maxSourceBytes === undefined ? Infinity : framesIn(wav.format, maxSourceBytes);
    const maxPcmBytes = maxFrames * bytesPerPcmFrame(pcm);
    using turns = await encoders.acquire(signal, { owner, slot }).catch(async (error: unknown) => {
      await sound.return();
      throw error;
    });
    yield* encodeMp3(turns, rejoined(first, sound), pcm, { ...mp3, maxPcmBytes }, signal);
  }

  async function* frames(): AsyncGenerator<Buffer, void, undefined> {
    for await (const bytes of encode()) {
      index.add(bytes);
      yield bytes;
    }
  }

  let soundFacts: SoundFacts | undefined;
  let sha256: string | undefined;
  const facts = (): ConversionFacts => {
    soundFacts ??= meter.finish();
    sha256 ??= hash.digest("hex");
    const conditions: [ConversionWarning, boolean][] = [
      ["CUT_SHORT", wav.remarks.has("CUT_SHORT")],
      ["DAMAGED", isDamaged],
      ["SOUND_LEFT_OUT", wav.remarks.has("SOUND_LEFT_OUT")],
      ["TRAILING_JUNK", wav.remarks.has("TRAILING_JUNK")],
      ["CLIPPED", soundFacts.clippedSamples > 0],
      ["SILENT", soundFacts.silent],
      ["MIXED_DOWN", wav.format.channels > 2],
      ["RESCALED", scale.fullScale !== wav.format.floatFullScale],
      ["RESAMPLED", mp3.sampleRateHz !== wav.format.sampleRateHz],
    ];
    return {
      source: {
        format: wav.format,
        samples,
        bytes: sourceBytes,
        leftOutBytes: wav.leftOutBytes,
        sha256,
        tags: wav.tags,
      },
      mp3,
      sound: soundFacts,
      warnings: conditions.filter(([, applies]) => applies).map(([warning]) => warning),
    };
  };

  const head = (title: string): Buffer => {
    const { source, sound: measured } = facts();
    const level = {
      replayGainDb: measured.integratedLufs === null ? undefined : replayGainDb(measured.integratedLufs),
      peak: measured.samplePeak,
    };
    const tag = id3Tag({ ...source.tags.texts, title, durationSeconds: samples / pcm.sampleRateHz, ...level });
    return Buffer.concat([
      tag,
      infoFrame(index, { samples: Math.round(mp3Samples(samples)), silenceBefore, ...level }),
    ]);
  };

  return { frames, facts, head };
}

/** Reads buffers of a source until they have `byteCount` bytes or the source ends. */
async function readAtLeast(byteCount: number, source: AsyncIterator<Buffer>): Promise<Buffer[]> {
  const buffers: Buffer[] = [];
  for (let bytes = 0; bytes < byteCount;) {
    const next = await source.next();
    if (next.done) break;
    bytes += next.value.length;
    buffers.push(next.value);
  }
  return buffers;
}

async function* rejoined(
  first: readonly Buffer[],
  rest: AsyncGenerator<Buffer, void, undefined>,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    yield* first;
    yield* rest;
  } finally {
    await rest.return();
  }
}

/**
 * Length of the silence before a short sound, in source samples. It is as close as possible to a whole number of MP3
 * samples, of which there are `ratio` for each source sample. It lasts `before` MP3 samples or slightly less, so that
 * the sound still reaches beyond the end of that frame.
 */
function leadingSilence(before: number, ratio: number, mp3Samples: number): number {
  const offBy = (silence: number): number => Math.abs(silence * ratio - Math.round(silence * ratio));
  let best = Math.floor(before / ratio);
  for (let silence = best; before - silence * ratio < Math.min(mp3Samples, 576); silence--) {
    if (offBy(silence) < offBy(best) - 1e-9) best = silence;
  }
  return best;
}

/** The MP3's sample rate and bit rate for this sound. */
function mp3FormatOf(
  { sampleRateHz, channels }: PcmFormat,
  quality: Quality,
): { sampleRateHz: number; bitrateKbps: number } {
  const mp3RateHz = mp3RateFor(sampleRateHz);
  const wanted = channels === 1 ? qualities[quality].monoKbps : qualities[quality].stereoKbps;
  return { sampleRateHz: mp3RateHz, bitrateKbps: mp3BitrateFor(mp3RateHz, wanted) };
}

function tooLong(maxSeconds: number): ServiceError {
  return new ServiceError("UPLOAD_TOO_LONG", `The recording may last at most ${counted(maxSeconds, "second")}.`, {
    maxSeconds,
  });
}
