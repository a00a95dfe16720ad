import { createHash } from "node:crypto";
import { counted, ServiceError } from "../errors/errors.ts";
import type { Applicant, EncoderPool } from "./encoder/encoder-pool.ts";
import { FloatScale } from "./wav/float-scale.ts";
import { id3Tag } from "./mp3/id3-tag.ts";
import { mp3GainDb, ownGainSteps } from "./mp3/mp3-gain.ts";
import { ClippingCounter } from "./meter/clipping.ts";
import { replayGainDb } from "./meter/loudness.ts";
import { Peekable } from "./peekable.ts";
import { encodeMp3 } from "./encoder/mp3-encoder.ts";
import { monoFormatOf, monoMixOf, samplesOf } from "./mono-mix.ts";
import { mpegVersionOf } from "./mp3/mp3-frame.ts";
import { infoFrame, Mp3Index, shortSoundSamples, silenceAround } from "./mp3/mp3-header.ts";
import { bytesPerPcmFrame } from "./pcm-format.ts";
import { SoundMeter, type SoundFacts } from "./meter/sound-meter.ts";
import { framesIn, type WavFormat } from "./wav/wav-format.ts";
import { openWav } from "./wav/wav-reader.ts";
import type { WavTags } from "./wav/wav-tags.ts";
import { mp3BitrateFor, mp3RateFor, qualities, type Quality } from "./mp3/quality.ts";
import { mixAttenuationDb } from "./wav/stereo-mix.ts";
import { decodedFullScale, largestSampleOf, pcmFormatOf, wavToPcm } from "./wav/wav-to-pcm.ts";

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
  readonly mp3: {
    readonly bitrateKbps: number;
    readonly sampleRateHz: number;
    readonly channels: 1 | 2;
    /** The count of the frames and their bytes. */
    readonly index: Mp3Index;
    /** Samples of silence before the sound, at the MP3's rate. */
    readonly silenceBefore: number;
    /** Steps of gain to apply to the frames when they are sent; see `mp3-gain.ts`. The head states them. */
    readonly gainSteps: number;
  };
  readonly sound: SoundFacts;
  readonly warnings: readonly ConversionWarning[];
}

/** A conversion whose WAV header has been read. */
export interface Conversion {
  /** Yields the MP3's frames while the WAV arrives, and returns the facts. Read it once, to the end. */
  frames(): AsyncGenerator<Buffer, ConversionFacts, undefined>;
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
  const decodedFormat = pcmFormatOf(wav.format);
  const isMixedToMono = decodedFormat.channels > qualities[quality].maxChannels;
  const pcm = isMixedToMono ? monoFormatOf(decodedFormat) : decodedFormat;
  const maxSamples = maxDurationSeconds * pcm.sampleRateHz;
  if ((wav.announcedFrames ?? 0) > maxSamples) throw tooLong(maxDurationSeconds);

  const mp3 = {
    sampleRateHz: mp3RateFor(pcm.sampleRateHz),
    bitrateKbps: mp3BitrateFor(pcm.sampleRateHz, pcm.channels, quality),
    channels: pcm.channels,
  };
  const largestSample = largestSampleOf(wav.format);
  const { channels, bitsPerSample } = wav.format;
  const meter = new SoundMeter(pcm, { largestSample, bitsPerSample });
  const beforeMix = new ClippingCounter(channels, decodedFullScale(wav.format), largestSample);
  const scale = new FloatScale(wav.format);
  const index = new Mp3Index();
  let samples = 0;
  let silenceBefore = 0;

  async function* sound(): AsyncGenerator<Buffer, void, undefined> {
    const toPcm = wavToPcm(
      wav.format,
      () => scale.fullScale,
      (decoded) => beforeMix.add(decoded),
    );
    const frameBytes = bytesPerPcmFrame(decodedFormat);
    for await (const blocks of scale.settled(wav.blocks())) {
      const decoded = toPcm(blocks);
      samples += decoded.length / frameBytes;
      if (samples > maxSamples) throw tooLong(maxDurationSeconds);
      const bytes = isMixedToMono ? mixedToMono(decoded) : decoded;
      meter.add(bytes);
      yield bytes;
    }
  }

  function mixedToMono(stereo: Buffer): Buffer {
    const samples = samplesOf(stereo, decodedFormat);
    if (channels === 2) beforeMix.add(samples);
    return monoMixOf(samples);
  }

  async function* encode(): AsyncGenerator<Buffer, void, undefined> {
    const frameBytes = bytesPerPcmFrame(pcm);
    const ratio = mp3.sampleRateHz / pcm.sampleRateHz;
    const enoughBytes = Math.round(shortSoundSamples / ratio) * frameBytes;
    await using wholeSound = new Peekable(sound());
    const bytesAhead = await wholeSound.peek(Math.max(enoughBytes, worthwhileBytes));
    const isShort = bytesAhead > 0 && bytesAhead < enoughBytes;
    const silence = isShort ? silenceAroundShort((bytesAhead / frameBytes) * ratio, ratio) : { before: 0, after: 0 };
    silenceBefore = Math.round(silence.before * ratio);
    const maxFrames = maxSourceBytes === undefined ? Infinity : framesIn(wav.format, maxSourceBytes);
    using turns = await encoders.acquire(signal, { owner, slot });
    const padded = wholeSound.between(silence.before * frameBytes, silence.after * frameBytes);
    yield* encodeMp3(turns, padded, pcm, { ...mp3, maxPcmBytes: maxFrames * frameBytes }, signal);
  }

  async function* frames(): AsyncGenerator<Buffer, ConversionFacts, undefined> {
    for await (const bytes of encode()) {
      index.add(bytes);
      yield bytes;
    }
    const measured = meter.finish();
    const conditions: [ConversionWarning, boolean][] = [
      ["CUT_SHORT", wav.remarks.has("CUT_SHORT")],
      ["DAMAGED", wav.remarks.has("DAMAGED")],
      ["SOUND_LEFT_OUT", wav.remarks.has("SOUND_LEFT_OUT")],
      ["TRAILING_JUNK", wav.remarks.has("TRAILING_JUNK")],
      ["CLIPPED", (channels > pcm.channels ? beforeMix : measured).clippedSamples > 0],
      ["SILENT", measured.silent],
      ["MIXED_DOWN", channels > 2],
      ["RESCALED", scale.fullScale !== wav.format.floatFullScale],
      ["RESAMPLED", mpegVersionOf(wav.format.sampleRateHz) === undefined],
    ];
    const { samplePeakDbfs, truePeakDbtp } = measured;
    const mixAttenuation = mixAttenuationDb(wav.format);
    const gainSteps = ownGainSteps({ ...mp3, samplePeakDbfs, truePeakDbtp, mixAttenuationDb: mixAttenuation });
    return {
      source: {
        format: wav.format,
        samples,
        bytes: sourceBytes,
        leftOutBytes: wav.leftOutBytes,
        sha256: hash.digest("hex"),
        tags: wav.tags,
      },
      mp3: { ...mp3, index, silenceBefore, gainSteps },
      sound: measured,
      warnings: conditions.filter(([, applies]) => applies).map(([warning]) => warning),
    };
  }

  return { frames };
}

/** Makes the bytes that stand before the frames: the tag, and the Info frame that tells players the length. */
export function mp3Head({ source, mp3, sound }: ConversionFacts, title: string): Buffer {
  const { sampleRateHz } = source.format;
  const gainDb = mp3GainDb(mp3.bitrateKbps, mp3.gainSteps);
  const level = {
    replayGainDb: sound.integratedLufs === null ? undefined : replayGainDb(sound.integratedLufs + gainDb),
    peak: sound.samplePeak * 10 ** (gainDb / 20),
  };
  const facts = {
    durationSeconds: source.samples / sampleRateHz,
    chapters: source.tags.chapters(sampleRateHz, source.samples),
    cover: source.tags.cover,
  };
  const samples = Math.round((source.samples * mp3.sampleRateHz) / sampleRateHz);
  return Buffer.concat([
    id3Tag({ ...source.tags.texts, ...facts, title, ...level }),
    infoFrame(mp3.index, { samples, silenceBefore: mp3.silenceBefore, gainSteps: mp3.gainSteps, ...level }),
  ]);
}

/**
 * Returns the silence around a sound whose MP3 would be too short for decoders, in samples of the source.
 * @param mp3Samples the length of the sound, in samples of the MP3
 * @param ratio samples of the MP3 for each sample of the source
 */
function silenceAroundShort(mp3Samples: number, ratio: number): { before: number; after: number } {
  const { before, after } = silenceAround(shortSoundSamples - 1);
  return { before: leadingSilence(before, ratio, mp3Samples), after: Math.round(after / ratio) };
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

function tooLong(maxSeconds: number): ServiceError {
  return new ServiceError("UPLOAD_TOO_LONG", `The recording may last at most ${counted(maxSeconds, "second")}.`, {
    maxSeconds,
  });
}
