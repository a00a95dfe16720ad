import { shuttingDown, tryAgainLater } from "../../errors/errors.ts";
import type { PcmFormat } from "../pcm-format.ts";
import type { EncoderPool, SpareEncoder } from "./encoder-pool.ts";
import { conversionFailed, Encoder, type Mp3Format } from "./encoder.ts";
import type { FfmpegEnd } from "./ffmpeg-starter.ts";
import type { FrameGrid } from "./frame-grid.ts";
import type { EncoderStart } from "./ready-encoders.ts";

/** How often the encoders are looked at within the time that one may stand still. */
export const looksPerStall = 4;

/** The encoders of one conversion that are still needed, and the spares among them. Disposing of it kills them. */
export class ConversionEncoders implements AsyncDisposable {
  readonly #pool: EncoderPool;
  readonly #start: EncoderStart;
  readonly #pcm: PcmFormat;
  readonly #mp3: Mp3Format;
  readonly #grid: FrameGrid;
  /** Whether ffmpeg resamples, so that the number of frames is known only approximately. */
  readonly #resampled: boolean;
  readonly #onChange: (encoder: Encoder, end?: FfmpegEnd) => void;
  readonly #encoders = new Set<Encoder>();
  readonly #spares: SpareEncoder[] = [];
  #readsAll = false;

  /** `onChange` is called as {@link Encoder}'s is. */
  constructor(
    pool: EncoderPool,
    format: PcmFormat,
    mp3: Mp3Format,
    grid: FrameGrid,
    onChange: (encoder: Encoder, end?: FfmpegEnd) => void,
  ) {
    this.#pool = pool;
    this.#start = { args: encoderArguments(format, mp3), silentBytes: 0 };
    this.#pcm = format;
    this.#mp3 = mp3;
    this.#grid = grid;
    this.#resampled = format.sampleRateHz !== mp3.sampleRateHz;
    this.#onChange = onChange;
  }

  /** Whether none has anything left to encode. */
  get areIdle(): boolean {
    return this.#every(({ backlogBytes }) => backlogBytes === 0);
  }

  /** Whether all have encoded what they were fed, and those that were told to end have ended. */
  get areDone(): boolean {
    return this.#every(({ backlogBytes, ending, ended }) => backlogBytes === 0 && (!ending || ended !== undefined));
  }

  /**
   * Drops the frames that are left, and returns whether nothing can come of any of them any more. One that has returned its last
   * frame needs another millisecond or two to end; nobody has to wait for that.
   */
  dropTheRest(): boolean {
    return this.#every((encoder) => encoder.ended !== undefined || this.#isComplete(encoder));
  }

  /** Whether more than one can get PCM. */
  get areSeveral(): boolean {
    return [...this.#encoders].filter(({ ending }) => !ending).length > 1;
  }

  /** Whether a process waits that one of them could use. */
  get oneIsReady(): boolean {
    return this.#pool.hasReady(this.#start);
  }

  /** Starts an encoder in the conversion's turn. The PCM that it gets begins with so much silence. */
  start(silentBytes = 0): Encoder {
    const start = silentBytes > 0 && this.#pool.givesSilence ? this.#startWith(silentBytes) : this.#start;
    const child = this.#pool.start(start);
    const onChange = (end?: FfmpegEnd) => this.#onChange(encoder, end);
    const encoder: Encoder = new Encoder(child, start.silentBytes, this.#mp3, this.#pool.mp3Blocks, onChange);
    if (this.#readsAll) encoder.readAll();
    this.#encoders.add(encoder);
    return encoder;
  }

  /** Starts another encoder than `current`, if the pool has a spare one and there are fewer than `most`. */
  startSpare(current: () => Encoder, most: number): Encoder | undefined {
    if (this.#spares.length + 1 >= most) return undefined;
    const spare = this.#pool.takeSpare(() => this.#endOneBut(current()));
    if (!spare) return undefined;
    try {
      const encoder = this.start();
      this.#spares.push(spare);
      return encoder;
    } catch {
      // The system is at its limits. The conversion continues with the encoders that it has.
      spare[Symbol.dispose]();
      return undefined;
    }
  }

  /** An encoder other than `current` that has less than `byteCount` to do. */
  withLessThan(byteCount: number, current: Encoder): Encoder | undefined {
    return [...this.#encoders].find(
      (encoder) => !encoder.ending && encoder !== current && encoder.backlogBytes < byteCount,
    );
  }

  /**
   * Makes no encoder wait for the reader of the MP3 from now on. Of the PCM that is left, an encoder may get too little to
   * return frames that the reader needs first: they come only when all encoders end, and one that waits would not.
   */
  readAll(): void {
    this.#readsAll = true;
    for (const encoder of this.#encoders) encoder.readAll();
  }

  /**
   * Ends the encoders other than `current` that have nothing to do. ffmpeg gives its last frames only then, or when it gets
   * more; the frames of `current` wait for them.
   */
  endIdleBut(current: Encoder): void {
    for (const encoder of this.#encoders) {
      if (encoder !== current && encoder.backlogBytes === 0 && !encoder.ending) encoder.end();
    }
  }

  /** Lets all of them finish what they were fed. */
  end(): void {
    for (const encoder of this.#encoders) encoder.end();
  }

  /**
   * Returns the spare of an encoder that has ended.
   * @throws {ServiceError} `CONVERSION_FAILED` if it ended otherwise than it should, `SHUTTING_DOWN` if the pool is
   * closed
   */
  settle(encoder: Encoder, end: FfmpegEnd): void {
    if (this.#pool.closed) throw shuttingDown();
    if (!encoder.ending || end.code !== 0 || end.stderr !== "") {
      throw conversionFailed(`ffmpeg ended with ${end.code ?? end.signal ?? "no code"}: ${end.stderr}`);
    }
    // Encoders are alike: whichever ends, a spare one can be returned.
    const spare = this.#spares.find(({ isWanted }) => isWanted) ?? this.#spares.at(-1);
    if (spare) this.#spares.splice(this.#spares.indexOf(spare), 1);
    spare?.[Symbol.dispose]();
  }

  /**
   * Drops encoders that have ended and are not needed, so that a long sound does not collect them.
   * @throws {ServiceError} `CONVERSION_FAILED` if one of them has not made the frames that it should
   */
  forget(isNeeded: (encoder: Encoder) => boolean): void {
    for (const encoder of this.#encoders) {
      if (!encoder.ended || isNeeded(encoder)) continue;
      this.#encoders.delete(encoder);
      this.#verify(encoder);
    }
  }

  /**
   * A stopped process neither ends nor fails. A process that gets no CPU time is first moved out of the background,
   * because a busy machine may give the background no time at all. To be called {@link looksPerStall} times in the time that
   * a process may stand still.
   * @throws {ServiceError} `BUSY` or `CONVERSION_FAILED` if one has done nothing for too long
   */
  requireProgress(): void {
    const { stallSeconds } = this.#pool;
    for (const encoder of this.#encoders) {
      const looks = encoder.look();
      // The first look may come at once after the last progress.
      if (looks >= 2) encoder.hurry();
      if (looks <= looksPerStall) continue;
      if (encoder.isStarved) throw tryAgainLater("BUSY", "The machine is overloaded", 30);
      throw conversionFailed(`ffmpeg did nothing for ${stallSeconds} seconds`);
    }
  }

  /** Kills the processes and forgets them, without waiting for their end. */
  killSoon(): void {
    void this.kill();
    this.#encoders.clear();
  }

  /** Kills the processes. */
  async kill(): Promise<void> {
    await Promise.all(Array.from(this.#encoders, (encoder) => encoder[Symbol.asyncDispose]()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    for (const spare of this.#spares) spare[Symbol.dispose]();
  }

  /** Ends an encoder other than the current one. It is free for others when it has done what it was fed. */
  #endOneBut(current: Encoder): void {
    const others = [...this.#encoders].filter((encoder) => encoder !== current && !encoder.ending);
    others.toSorted((a, b) => a.backlogBytes - b.backlogBytes)[0]?.end();
  }

  #startWith(silentBytes: number): EncoderStart {
    return { args: encoderArguments(this.#pcm, this.#mp3, smallPackets), silentBytes };
  }

  #verify(encoder: Encoder): void {
    if (!encoder.finish() || (!this.#resampled && encoder.frames !== this.#due(encoder))) {
      throw conversionFailed(`${encoder.frames} frames instead of ${this.#due(encoder)}`);
    }
  }

  #isComplete(encoder: Encoder): boolean {
    if (this.#resampled || !encoder.ending || encoder.backlogBytes > 0 || encoder.hasComplained) return false;
    return encoder.finish() && encoder.frames === this.#due(encoder);
  }

  /** Number of frames that it returns in all. */
  #due({ fedBytes }: Encoder): number {
    return this.#grid.allFramesOf(fedBytes);
  }

  #every(holds: (encoder: Encoder) => boolean): boolean {
    return [...this.#encoders].every(holds);
  }
}

/**
 * ffmpeg reads a tenth of a second of PCM at once, which is more than the silence before a short sound. If it is told a
 * rate that is lower by this factor, it reads 128 samples at 44.1 kHz, and so nearly all of the silence.
 */
const smallPackets = 24;

/**
 * States all of the input and output, so that ffmpeg guesses nothing.
 * @param readsSlower the factor by which the rate of its input is lower than that of the PCM, until a filter corrects it
 */
function encoderArguments(pcm: PcmFormat, mp3: Mp3Format, readsSlower = 1): string[] {
  const { sampleFormat, sampleRateHz, channels } = pcm;
  const readRateHz = Math.floor(sampleRateHz / readsSlower);
  const filter = readsSlower === 1 ? "" : ` -af asetrate=${sampleRateHz}`;
  return [
    "-hide_banner -nostdin -loglevel error -filter_threads 1 -protocol_whitelist pipe",
    `-probesize 32 -f ${sampleFormat} -ar ${readRateHz} -ac ${channels} -i pipe:0 -map 0:a:0${filter} -map_metadata -1`,
    `-c:a libmp3lame -b:a ${mp3.bitrateKbps}k -compression_level 5 -ar ${mp3.sampleRateHz} -write_xing 0 -id3v2_version 0`,
    "-flush_packets 0 -f mp3 pipe:1",
  ].flatMap((part) => part.split(" "));
}
