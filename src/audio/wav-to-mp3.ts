import { counted, ServiceError } from "../errors/errors.ts";
import type { Applicant, EncoderPool } from "./encoder/encoder-pool.ts";
import { FloatScale, type FloatScaleState } from "./wav/float-scale.ts";
import { ownGainSteps } from "./mp3/mp3-gain.ts";
import { compressState, decodeState, encodeState } from "./conversion-state.ts";
import { nodeSourceHash, type ResumableHash } from "./source-hash.ts";
import type { EncodingState } from "./encoder/pcm-dealer.ts";
import type { SegmentedEncoding } from "./encoder/segmented-encoding.ts";
import { ClippingCounter, type ClippingState } from "./meter/clipping.ts";
import { Peekable } from "./peekable.ts";
import type { Chapter } from "./tag-contents.ts";
import { encodeMp3 } from "./encoder/mp3-encoder.ts";
import { monoFormatOf, monoMixOf, samplesOf } from "./mono-mix.ts";
import { mpegVersionOf } from "./mp3/mp3-frame.ts";
import { Mp3Index, type Mp3IndexState } from "./mp3/mp3-header.ts";
import { shortSoundSamples, silenceAroundShort } from "./mp3/short-sound.ts";
import { fromDifferences, toDifferences, type PcmDifferences } from "./pcm-differences.ts";
import { bytesPerPcmFrame } from "./pcm-format.ts";
import { SoundMeter, type SoundFacts, type SoundMeterState } from "./meter/sound-meter.ts";
import { framesIn, type WavFormat } from "./wav/wav-format.ts";
import { openWav, type WavReaderState } from "./wav/wav-reader.ts";
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
interface ConversionOptions {
  readonly encoders: EncoderPool;
  readonly quality: Quality;
  /** Maximum duration of the sound, in seconds. */
  readonly maxDurationSeconds: number;
  /** Maximum number of bytes that the source can have; undefined if the client did not state it. */
  readonly maxSourceBytes?: number | undefined;
  /** Aborts the conversion, which then throws the signal's reason. */
  readonly signal: AbortSignal;
  /** Set if another conversion may have to go on. */
  readonly checkpoints?: Checkpoints;
}

/** How to make checkpoints, and what gets them. */
export interface Checkpoints {
  /** A new hash, of the whole source. */
  readonly hash: ResumableHash;
  /** The state of the checkpoint to go on from; the source then begins there. */
  readonly from?: Buffer | undefined;
  /** Bytes of the source between two checkpoints, about. */
  readonly everyBytes: number;
  /** Gets each checkpoint when all frames before it have been taken, and none behind it. */
  readonly onCheckpoint: (checkpoint: Checkpoint) => void;
}

/** A place in the source at which another conversion can go on. */
export interface Checkpoint {
  /** Bytes of the source before it. */
  readonly sourceBytes: number;
  /** Bytes of the frames before it. */
  readonly frameBytes: number;
  /** The state of the conversion, as {@link Checkpoints.from} takes it. */
  state(): Buffer;
}

/** The state of a conversion before its encoders, between two buffers of the source. */
interface InputState {
  readonly hash: Uint8Array;
  readonly sourceBytes: number;
  readonly samples: number;
  readonly reader: WavReaderState;
  readonly scale: FloatScaleState;
  readonly meter: SoundMeterState;
  readonly beforeMix: ClippingState;
}

/** The state of a conversion. Releases before compressed states stored the PCM as it is. */
interface ConversionState {
  readonly input: Buffer;
  readonly encoding: Omit<EncodingState, "kept"> & { readonly kept: PcmDifferences | Buffer };
  readonly index: Mp3IndexState;
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
    readonly chapters: readonly Chapter[];
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

/** Whose conversion it is. `maxDurationSeconds` lowers the limit with which it was opened. */
interface Converter extends Applicant {
  readonly maxDurationSeconds?: number;
}

/** A conversion whose WAV header and first sound have been read. Nothing is encoded yet, unless it is {@link encodedAhead}. */
export interface Conversion {
  /** Length of the sound, in seconds, if all of it has been read, as of a short one; else undefined. */
  readonly wholeSeconds: number | undefined;
  /** Whether checkpoints are under way: their frames are being made. */
  readonly hasCheckpointsAhead: boolean;
  /**
   * Yields the MP3's frames while the WAV arrives, and returns the facts. Read it once, to the end. The owners of conversions
   * take turns at the encoders; the slot is suspended while this one waits for its turn.
   */
  frames(converter?: Converter): AsyncGenerator<Buffer, ConversionFacts, undefined>;
}

/**
 * Reads a WAV's header and first sound and prepares its conversion to MP3, or goes on with one.
 * @throws {ServiceError} UNSUPPORTED_MEDIA, UPLOAD_INCOMPLETE or UPLOAD_TOO_LONG, as soon as it is certain
 */
export async function openConversion(source: AsyncIterable<Buffer>, options: ConversionOptions): Promise<Conversion> {
  const { encoders, quality, maxSourceBytes, signal, checkpoints } = options;
  const from = checkpoints?.from && decodeState<ConversionState>(checkpoints.from);
  const input = from && decodeState<InputState>(from.input);
  const hash = checkpoints?.hash ?? nodeSourceHash();
  if (input) checkpoints?.hash.load(input.hash);
  let sourceBytes = input?.sourceBytes ?? 0;
  let markedBytes = sourceBytes;
  let encoding: SegmentedEncoding | undefined;
  async function* hashed(): AsyncGenerator<Buffer, void, undefined> {
    for await (const bytes of source) {
      hash.update(bytes);
      sourceBytes += bytes.length;
      yield bytes;
      // Asked for more: all sound so far has been measured and given to the encoders.
      if (checkpoints && sourceBytes - markedBytes >= checkpoints.everyBytes) mark(checkpoints);
    }
  }

  /** Marks this place of the source for a checkpoint, if it is one where the reader can go on. */
  function mark({ hash, onCheckpoint }: Checkpoints): void {
    if (!encoding) return;
    const [reader, scaleState] = [wav.save(), scale.save()];
    if (!reader || !scaleState) return;
    const [meterState, mixState] = [meter().save(), beforeMix.save()];
    const before = { hash: hash.save(), sourceBytes, samples, reader };
    const state: InputState = { ...before, scale: scaleState, meter: meterState, beforeMix: mixState };
    const input = encodeState(state);
    markedBytes = sourceBytes;
    encoding.mark((encoding) => {
      const indexState = index.save();
      onCheckpoint({
        sourceBytes: state.sourceBytes,
        frameBytes: index.bytes,
        state() {
          const kept = toDifferences(encoding.kept, pcm);
          return compressState({ input, encoding: { ...encoding, kept }, index: indexState } satisfies ConversionState);
        },
      });
    });
  }

  let maxSeconds = options.maxDurationSeconds;
  const bounds = { maxBytes: maxSourceBytes, maxSeconds };
  const wav = await openWav(hashed(), bounds, input?.reader);
  const decodedFormat = pcmFormatOf(wav.format);
  const isMixedToMono = decodedFormat.channels > qualities[quality].maxChannels;
  const pcm = isMixedToMono ? monoFormatOf(decodedFormat) : decodedFormat;
  refuseIfLonger(wav.announcedFrames ?? 0);

  const mp3 = {
    sampleRateHz: mp3RateFor(pcm.sampleRateHz),
    bitrateKbps: mp3BitrateFor(pcm.sampleRateHz, pcm.channels, quality),
    channels: pcm.channels,
  };
  const largestSample = largestSampleOf(wav.format);
  const { channels, bitsPerSample } = wav.format;
  const beforeMix = new ClippingCounter(channels, decodedFullScale(wav.format), largestSample);
  const scale = new FloatScale(wav.format);
  const index = new Mp3Index();
  let samples = input?.samples ?? 0;
  if (from && input) {
    beforeMix.restore(input.beforeMix);
    scale.restore(input.scale);
    index.restore(from.index);
  }

  let soundMeter: SoundMeter | undefined;
  /** It is made when it is first needed, which is after the encoder has got its first sound. */
  function meter(): SoundMeter {
    if (soundMeter) return soundMeter;
    soundMeter = new SoundMeter(pcm, { largestSample, bitsPerSample });
    if (input) soundMeter.restore(input.meter);
    return soundMeter;
  }

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
      refuseIfLonger(samples);
      yield isMixedToMono ? mixedToMono(decoded) : decoded;
    }
  }

  function mixedToMono(stereo: Buffer): Buffer {
    const samples = samplesOf(stereo, decodedFormat);
    if (channels === 2) beforeMix.add(samples);
    return monoMixOf(samples);
  }

  function refuseIfLonger(samples: number): void {
    if (samples <= maxSeconds * pcm.sampleRateHz) return;
    throw new ServiceError("UPLOAD_TOO_LONG", `The recording may last at most ${counted(maxSeconds, "second")}.`, {
      maxSeconds,
    });
  }

  const frameBytes = bytesPerPcmFrame(pcm);
  const ratio = mp3.sampleRateHz / pcm.sampleRateHz;
  const enoughBytes = Math.round(shortSoundSamples / ratio) * frameBytes;
  const opened = new Peekable(sound());
  const aheadBytes = from ? 0 : Math.max(enoughBytes, worthwhileBytes);
  const bytesAhead = await opened.peek(aheadBytes);
  const isShort = bytesAhead > 0 && bytesAhead < enoughBytes;
  const silence = isShort ? silenceAroundShort((bytesAhead / frameBytes) * ratio, ratio) : { before: 0, after: 0 };

  /** What the encoders get. The sound is measured after they have got it, so that both work at the same time. */
  async function* soundBetweenSilence(): AsyncGenerator<Buffer, void, undefined> {
    if (silence.before > 0) yield Buffer.alloc(silence.before * frameBytes);
    for await (const bytes of opened.bytes()) {
      yield bytes;
      meter().add(bytes);
    }
    if (silence.after > 0) yield Buffer.alloc(silence.after * frameBytes);
  }

  async function* encode(applicant: Applicant): AsyncGenerator<Buffer, void, undefined> {
    const maxFrames = maxSourceBytes === undefined ? Infinity : framesIn(wav.format, maxSourceBytes);
    using turns = await encoders.acquire(signal, applicant);
    const settings = {
      ...mp3,
      maxPcmBytes: maxFrames * frameBytes,
      silentBytes: silence.before * frameBytes,
      from: from && { ...from.encoding, kept: keptPcm(from.encoding) },
      onStart: (started: SegmentedEncoding) => (encoding = started),
    };
    yield* encodeMp3(turns, soundBetweenSilence(), pcm, settings, signal);
  }

  async function* frames(converter: Converter = {}): AsyncGenerator<Buffer, ConversionFacts, undefined> {
    await using _source = opened; // however it ends
    maxSeconds = Math.min(maxSeconds, converter.maxDurationSeconds ?? Infinity);
    refuseIfLonger(wav.announcedFrames ?? 0);
    refuseIfLonger(samples);
    for await (const bytes of encode(converter)) {
      index.add(bytes);
      yield bytes;
    }
    const measured = meter().finish();
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
        chapters: wav.tags.chapters(wav.format.sampleRateHz, samples),
      },
      mp3: { ...mp3, index, silenceBefore: Math.round(silence.before * ratio), gainSteps },
      sound: measured,
      warnings: conditions.filter(([, applies]) => applies).map(([warning]) => warning),
    };
  }

  return {
    wholeSeconds: bytesAhead < aheadBytes ? bytesAhead / frameBytes / pcm.sampleRateHz : undefined,
    frames,
    get hasCheckpointsAhead() {
      return encoding?.hasMarks ?? false;
    },
  };
}

/**
 * Encodes a short sound to its end and keeps its frames: `frames` of the result yields them, whatever its converter.
 * @throws what `frames` throws
 */
export async function encodedAhead(conversion: Conversion, converter: Converter): Promise<Conversion> {
  const kept: Buffer[] = [];
  const frames = conversion.frames(converter);
  for (;;) {
    const next = await frames.next();
    if (!next.done) {
      kept.push(next.value);
      continue;
    }
    return {
      ...conversion,
      async *frames() {
        yield* kept;
        return next.value;
      },
    };
  }
}

function keptPcm({ kept }: ConversionState["encoding"]): Buffer {
  return Buffer.isBuffer(kept) ? kept : fromDifferences(kept);
}
