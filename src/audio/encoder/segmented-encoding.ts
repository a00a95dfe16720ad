import { ServiceError, shuttingDown, tryAgainLater } from "../../errors/errors.ts";
import { bytesPerPcmFrame, type PcmFormat } from "../pcm-format.ts";
import type { EncoderTurns, SpareEncoder } from "./encoder-pool.ts";
import { conversionFailed, Encoder, type Mp3Format } from "./encoder.ts";
import type { FfmpegEnd, FfmpegProcess } from "./ffmpeg.ts";
import { FrameGrid } from "./frame-grid.ts";
import type { Joint } from "./joint.ts";
import { mainDataSlotBytes, mpegVersionOf } from "../mp3/mp3-frame.ts";
import { mostMainDataBegin } from "../mp3/side-information.ts";
import { PcmQueue } from "./pcm-queue.ts";
import { Segments } from "./segments.ts";

/**
 * Length of the sound that goes to one encoder before another one takes over, in samples: at least 200 MPEG-1 frames, and
 * more if the source is faster than the encoders, because each change costs a lead-in and a lead-out.
 */
const leastSegmentSamples = 200 * 1152;
const mostSegmentSamples = 500 * 1152;

/** An encoder with less PCM than this gets more at once. */
const hungryBytes = 256 * 1024;

/** Approximate maximum of PCM that one conversion keeps in memory for the encoders. */
const maxBufferedBytes = 20 * 1024 * 1024;

/** Silence after resampled sound, in samples at the MP3's rate, so that the resampler's rounding drops no sound. */
const resamplerSilence = 64;

/** A source that returns nothing for this long counts as slower than its encoder. */
const slowAfterMs = 50;

/** PCM that a conversion without a process collects before it asks for its next turn. */
const worthwhileBytes = 512 * 1024;

/**
 * Encodes one sound with one or more encoders. PCM goes to one encoder until it has enough to do, then to the next. When a
 * turn ends, the encoders end, and the next turn starts with a new one. The segments that the encoders make are joined
 * to one MP3.
 */
export class SegmentedEncoding implements AsyncDisposable {
  readonly #turns: EncoderTurns;
  readonly #source: AsyncIterator<Buffer>;
  readonly #signal: AbortSignal;
  readonly #format: PcmFormat;
  readonly #mp3: Mp3Format;
  readonly #grid: FrameGrid;
  readonly #resampled: boolean;
  readonly #maxPcmBytes: number;
  readonly #maxEncoders: number;
  readonly #segmentBytes: number;
  readonly #longSegmentBytes: number;
  /** Minimum of PCM sent before a turn ends with its process. */
  readonly #turnBytes: number;
  readonly #spares: SpareEncoder[] = [];
  /** Encoders that are still needed. */
  readonly #encoders: Encoder[] = [];
  readonly #children = new Map<Encoder, FfmpegProcess>();
  /** The encoder that gets the PCM. If it is ending, the next turn starts with a new one. */
  #current: Encoder;
  readonly #segments: Segments;
  /** PCM that no encoder has got yet. */
  readonly #pending: PcmQueue;
  /** The PCM that was sent last: the next encoder's lead-in, followed by this encoder's lead-out. */
  readonly #tail: Buffer;
  #sentBytes = 0;
  /** The part of it that was sent in this turn. */
  #sentInTurn = 0;
  /** Where the next turn's segment begins. */
  #joint: Joint = { first: 0, last: 0 };
  #sourceEnded = false;
  #sourceIsSlow = false;
  /** The turn ends as soon as the encoders have done what they were fed. */
  #turnIsEnding = false;
  #waitsForTurn = false;
  /** The encoders were told that no more PCM comes. */
  #isEnding = false;
  #isReading = false;
  readonly #watch: NodeJS.Timeout;
  #failure: { readonly reason: unknown } | undefined;
  #change = Promise.withResolvers<void>();

  /** `maxPcmBytes` is the PCM that the request can hold; Infinity if it is unknown. Silence (`slnt`) may come on top. */
  constructor(
    turns: EncoderTurns,
    pcm: AsyncIterable<Buffer>,
    format: PcmFormat,
    mp3: Mp3Format,
    maxPcmBytes: number,
    signal: AbortSignal,
  ) {
    const { pool } = turns;
    this.#turns = turns;
    this.#format = format;
    this.#mp3 = mp3;
    this.#maxPcmBytes = maxPcmBytes;
    this.#grid = new FrameGrid(format, mp3.sampleRateHz);
    this.#segmentBytes = leastSegmentSamples * bytesPerPcmFrame(format);
    this.#turnBytes = (this.#segmentBytes * format.sampleRateHz) / Math.max(format.sampleRateHz, mp3.sampleRateHz);
    this.#resampled = mp3.sampleRateHz !== format.sampleRateHz;
    const encodersInMemory = Math.floor(maxBufferedBytes / (this.#segmentBytes + hungryBytes));
    this.#maxEncoders = this.#resampled ? 1 : Math.min(encodersInMemory, pool.size);
    // Each encoder may have this much, and the same amount may be pending.
    const sharedBytes = maxBufferedBytes / (this.#maxEncoders + 1);
    const mostBytes = mostSegmentSamples * bytesPerPcmFrame(format);
    this.#longSegmentBytes = Math.max(this.#segmentBytes, Math.min(mostBytes, sharedBytes));
    this.#pending = new PcmQueue(pool.blocks);
    this.#tail = Buffer.alloc(this.#grid.jointBytes);
    this.#segments = new Segments(reservoirFrames(mp3));
    this.#current = this.#startEncoder();
    this.#segments.start(this.#current, 0);
    this.#source = pcm[Symbol.asyncIterator]();
    this.#signal = signal;
    signal.addEventListener("abort", this.#onAbort);
    this.#watch = setInterval(() => this.#failIfStalled(), (pool.stallSeconds * 1000) / 4);
  }

  /** The frames, in order. */
  async *run(): AsyncGenerator<Buffer, void, undefined> {
    void this.#feed().catch((error: unknown) => this.#fail(error));
    while (!this.#failure) {
      const frames = this.#takeFrames();
      yield* frames;
      if (frames.length > 0) continue;
      if (this.#isFinished()) return;
      await this.#change.promise;
    }
    throw this.#failure.reason;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#watch);
    this.#failure ??= { reason: undefined };
    this.#notify();
    this.#signal.removeEventListener("abort", this.#onAbort);
    await Promise.all(Array.from(this.#children.values(), (child) => child[Symbol.asyncDispose]()));
    for (const spare of this.#spares) spare[Symbol.dispose]();
    // A generator that is still awaited ends only after its next bytes, which may never come.
    const returned = Promise.resolve(this.#source.return?.()).catch(() => {});
    if (!this.#isReading) await returned;
  }

  /**
   * A stopped process neither ends nor fails. A process that gets no CPU time is first moved out of the background,
   * because a busy machine may give the background no time at all.
   */
  #failIfStalled(): void {
    const { stallSeconds } = this.#turns.pool;
    for (const encoder of this.#encoders) {
      if (encoder.stalledSeconds > stallSeconds / 4) encoder.hurry();
      if (encoder.stalledSeconds <= stallSeconds) continue;
      if (encoder.isStarved) this.#fail(tryAgainLater("BUSY", "The machine is overloaded", 30));
      else this.#fail(conversionFailed(`ffmpeg did nothing for ${stallSeconds} seconds`));
    }
  }

  readonly #onAbort = () => this.#fail(this.#signal.reason);

  #fail(reason: unknown): void {
    if (this.#failure) return;
    this.#failure = { reason };
    this.#notify();
    // The processes end now, because the reader of the MP3 may not ask for more for a while.
    for (const child of this.#children.values()) void child[Symbol.asyncDispose]();
  }

  #notify(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  /** Runs a step of a callback. If it fails, the conversion fails. */
  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#fail(error);
    }
    this.#notify();
  }

  async #feed(): Promise<void> {
    for (;;) {
      const next = await this.#read();
      if (this.#failure) return;
      if (next.done) break;
      for (let at = 0; at < next.value.length; at += hungryBytes) {
        this.#pending.push(next.value.subarray(at, at + hungryBytes));
        this.#deal();
        while (this.#pending.bytes > this.#maxPendingBytes() && !this.#failure) await this.#change.promise;
      }
    }
    this.#sourceEnded = true;
    this.#deal();
    while ((this.#pending.bytes > 0 || !this.#isAtWork()) && !this.#failure) await this.#change.promise;
    if (!this.#failure) this.#end();
  }

  /** PCM that may be pending while the source goes on. */
  #maxPendingBytes(): number {
    if (!this.#isAtWork() || this.#turns.pool.waiting > 0) return worthwhileBytes;
    return this.#encoders.filter(({ ending }) => !ending).length > 1 ? this.#longSegmentBytes : this.#segmentBytes;
  }

  /** Reads the source's next bytes. If the source is slow, the turn ends, so that others can encode. */
  async #read(): Promise<IteratorResult<Buffer, unknown>> {
    this.#isReading = true;
    const timer = setTimeout(() => {
      this.#sourceIsSlow = true;
      this.#guard(() => this.#endTurnIfIdle());
    }, slowAfterMs);
    try {
      return await this.#source.next();
    } finally {
      clearTimeout(timer);
      this.#sourceIsSlow = false;
      this.#isReading = false;
    }
  }

  /** Sends pending PCM to encoders that need it. */
  #deal(): void {
    if (this.#failure || this.#isEnding || (this.#pending.bytes === 0 && !this.#sourceEnded)) return;
    while (this.#hasTurn() && this.#pending.bytes > 0) {
      if (this.#current.backlogBytes >= hungryBytes) {
        const other = this.#nextEncoder();
        if (!other) return;
        this.#switchTo(other);
      }
      // Smaller shares at the end, so that all encoders finish at about the same time.
      const share = this.#sourceEnded ? Math.max(this.#segmentBytes, Math.ceil(this.#pending.bytes / 2)) : Infinity;
      this.#send(Math.min(this.#pending.bytes, share));
    }
  }

  /** Whether an encoder may get PCM now. */
  #isAtWork(): boolean {
    return this.#turns.isOn && !this.#turnIsEnding && !this.#current.ending;
  }

  /** Whether the conversion has its turn. Asks for the next turn, starts it, and ends it when it has lasted long enough. */
  #hasTurn(): boolean {
    if (this.#turnIsEnding) return false;
    if (!this.#turns.isOn) {
      const isEnough = this.#sourceEnded || !this.#current.ending || this.#pending.bytes >= worthwhileBytes;
      if (isEnough && !this.#waitsForTurn) void this.#waitForTurn();
      return false;
    }
    if (this.#current.ending) this.#goOn();
    if (this.#pending.bytes === 0 || this.#sentInTurn === 0) return true;
    const isWorthwhile = this.#sentInTurn >= this.#turnBytes;
    // A source that is a little slower than its encoder must not keep it for long: the process is parked instead.
    const isIdle = this.#encoders.every(({ backlogBytes }) => backlogBytes === 0);
    // The silence that a `slnt` chunk asks for is not in the estimate.
    const leftBytes = this.#sentBytes > this.#maxPcmBytes ? Infinity : this.#maxPcmBytes - this.#sentBytes;
    const leftRatio = leftBytes / this.#sentInTurn;
    if (!(isWorthwhile || isIdle) || !this.#turns.shouldEnd(leftRatio)) return true;
    this.#turnIsEnding = true;
    if (isWorthwhile) this.#endSegment();
    this.#endTurnIfIdle();
    return false;
  }

  async #waitForTurn(): Promise<void> {
    this.#waitsForTurn = true;
    try {
      await this.#turns.next();
    } catch (error) {
      return this.#fail(error);
    }
    this.#waitsForTurn = false;
    this.#sentInTurn = 0;
    this.#guard(() => this.#deal());
  }

  /** Ends the turn if nothing is left to encode and the turn should end or the source is slow. */
  #endTurnIfIdle(): void {
    if (this.#failure || this.#isEnding || !this.#turns.isOn) return;
    if (!this.#turnIsEnding && !(this.#sourceIsSlow && this.#pending.bytes === 0)) return;
    if (this.#encoders.some(({ backlogBytes, ending, ended }) => backlogBytes > 0 || (ending && !ended))) return;
    this.#turnIsEnding = false;
    this.#turns.end(this.#current.ending ? undefined : () => this.#endParkedProcess());
    this.#deal();
  }

  /** Ends a parked process; the next turn starts with a new one. */
  #endParkedProcess(): void {
    if (this.#failure || this.#isEnding || this.#current.ending) return;
    this.#guard(() => this.#endSegment());
  }

  /** Ends the encoders and with them the segment, at the end of what was sent. */
  #endSegment(): void {
    const partOfSample = modulo(-this.#sentBytes, bytesPerPcmFrame(this.#format));
    if (partOfSample > 0) this.#current.feed({ pcm: Buffer.alloc(partOfSample), release() {} });
    this.#joint = this.#grid.jointIn(this.#sentBytes);
    this.#segments.endAt(this.#joint);
    for (const encoder of this.#encoders) encoder.end();
    this.#notify();
  }

  /**
   * Starts an encoder at the last joint. To bring it to the same point as the last encoder, it gets silence in place of the
   * sound since the grid's last beginning, then the lead-in and all sound after it, which was kept.
   */
  #goOn(): void {
    const encoder = this.#startEncoder();
    const leadIn = Math.max(0, this.#joint.first - this.#grid.leadInFrames);
    const beginning = this.#grid.beginningBefore(leadIn);
    const keptFrom = this.#grid.startOf(leadIn);
    feedSilence(encoder, keptFrom - this.#grid.startOf(beginning));
    const kept = this.#tail.subarray(this.#tail.length - (this.#sentBytes - keptFrom));
    encoder.feed({ pcm: Buffer.from(kept), release() {} });
    this.#segments.start(encoder, -beginning);
    const last = this.#current;
    this.#current = encoder;
    this.#forget(last);
  }

  /** The encoder to change to, if one is idle and enough PCM is pending to be worth the change. */
  #nextEncoder(): Encoder | undefined {
    const isSegment = this.#pending.bytes >= this.#segmentBytes;
    const isWorthwhile =
      isSegment ||
      (this.#sourceEnded && this.#pending.bytes > this.#grid.startOf(this.#grid.period + 3 * this.#grid.sharedFrames));
    return (isWorthwhile ? this.#hungryEncoder() : undefined) ?? (isSegment ? this.#spareEncoder() : undefined);
  }

  #end(): void {
    const pcmFrameBytes = bytesPerPcmFrame(this.#format);
    if (this.#sentBytes % pcmFrameBytes !== 0) throw new Error("The PCM ends inside a sample.");
    if (this.#sentBytes === 0) throw new ServiceError("UPLOAD_INCOMPLETE", "The file contains no sound.");
    if (this.#resampled) {
      const silentSamples = Math.ceil((resamplerSilence * this.#format.sampleRateHz) / this.#mp3.sampleRateHz);
      feedSilence(this.#current, silentSamples * pcmFrameBytes);
    }
    this.#segments.endBefore(this.#grid.allFramesOf(this.#sentBytes));
    for (const encoder of this.#encoders) encoder.end();
    this.#isEnding = true;
    this.#notify();
  }

  #hungryEncoder(): Encoder | undefined {
    return this.#encoders.find(
      (encoder) => !encoder.ending && encoder !== this.#current && encoder.backlogBytes < hungryBytes,
    );
  }

  #spareEncoder(): Encoder | undefined {
    if (this.#spares.length + 1 >= this.#maxEncoders) return undefined;
    const spare = this.#turns.pool.takeSpare(() => this.#endOneEncoder());
    if (!spare) return undefined;
    try {
      const encoder = this.#startEncoder();
      this.#spares.push(spare);
      return encoder;
    } catch {
      // The system is at its limits. The conversion continues with the encoders that it has.
      spare[Symbol.dispose]();
      return undefined;
    }
  }

  /** Ends an encoder other than the current one. It is free for others when it has done what it was fed. */
  #endOneEncoder(): void {
    const others = this.#encoders.filter((encoder) => encoder !== this.#current && !encoder.ending);
    others.toSorted((a, b) => a.backlogBytes - b.backlogBytes)[0]?.end();
  }

  #startEncoder(): Encoder {
    const child = this.#turns.pool.start(encoderArguments(this.#format, this.#mp3));
    const encoder = new Encoder(child, this.#mp3, (end) => {
      this.#guard(() => {
        if (end) this.#onEncoderEnd(encoder, end);
        // Pending PCM must not wait for the source's next bytes.
        else this.#deal();
        this.#endTurnIfIdle();
      });
    });
    this.#children.set(encoder, child);
    this.#encoders.push(encoder);
    return encoder;
  }

  #onEncoderEnd(encoder: Encoder, end: FfmpegEnd): void {
    if (this.#turns.pool.closed) this.#fail(shuttingDown());
    if (!encoder.ending || end.code !== 0 || end.stderr !== "") {
      this.#fail(conversionFailed(`ffmpeg ended with ${end.code ?? end.signal ?? "no code"}: ${end.stderr}`));
    }
    // Encoders are alike: whichever ends, a spare one can be returned.
    const spare = this.#spares.find(({ isWanted }) => isWanted) ?? this.#spares.at(-1);
    if (spare) this.#spares.splice(this.#spares.indexOf(spare), 1);
    spare?.[Symbol.dispose]();
    this.#forget(encoder);
  }

  /**
   * Makes another encoder the current one. The old one has got all that it needs for the joint, also if the source stalls
   * now. At the joint, the new one is at the same point as the old one, so that its frames have the same lengths as in one
   * pass.
   */
  #switchTo(encoder: Encoder): void {
    const { silentFrames, sharedFrames, period } = this.#grid;
    const frameBytes = this.#grid.startOf(1);
    this.#send(modulo(-this.#sentBytes, frameBytes));
    if (encoder.fedBytes > 0) feedSilence(encoder, silentFrames * frameBytes);
    const leadIn = encoder.fedBytes / frameBytes;
    const leadInOfMp3 = this.#sentBytes / frameBytes - sharedFrames;
    const shift = modulo(leadIn - leadInOfMp3, period);
    this.#send(shift * frameBytes);
    const offset = leadIn - leadInOfMp3 - shift;
    this.#segments.endAt(this.#grid.jointIn(this.#sentBytes));
    this.#segments.start(encoder, offset);
    const kept = this.#tail.subarray(-sharedFrames * frameBytes);
    encoder.feed({ pcm: Buffer.from(kept), release() {} });
    this.#current = encoder;
  }

  /** Moves pending PCM to the current encoder and keeps the last of it. */
  #send(byteCount: number): void {
    const tail = this.#tail;
    for (const portion of this.#pending.take(byteCount)) {
      const { pcm } = portion;
      tail.copyWithin(0, pcm.length);
      pcm.copy(tail, Math.max(0, tail.length - pcm.length), Math.max(0, pcm.length - tail.length));
      this.#sentBytes += pcm.length;
      this.#sentInTurn += pcm.length;
      this.#current.feed(portion);
    }
  }

  #takeFrames(): Buffer[] {
    const frames = this.#segments.take(() => this.#grid.jointIn(this.#sentBytes).first);
    for (const encoder of this.#children.keys()) this.#forget(encoder);
    return frames;
  }

  /** Drops an encoder that has ended and of which all frames were taken, so that a long sound does not collect them. */
  #forget(encoder: Encoder): void {
    const isNeeded = !encoder.ended || encoder === this.#current || this.#segments.includes(encoder);
    if (isNeeded || this.#failure || !this.#children.delete(encoder)) return;
    this.#encoders.splice(this.#encoders.indexOf(encoder), 1);
    this.#verify(encoder);
  }

  #verify(encoder: Encoder): void {
    const due = this.#grid.allFramesOf(encoder.fedBytes);
    if (!encoder.finish() || (!this.#resampled && encoder.frames !== due)) {
      throw conversionFailed(`${encoder.frames} frames instead of ${due}`);
    }
  }

  /** Whether all frames were taken and all encoders have ended. */
  #isFinished(): boolean {
    if (!this.#isEnding || !this.#segments.areTaken || this.#encoders.some(({ ended }) => !ended)) return false;
    for (const encoder of this.#encoders) this.#verify(encoder);
    return true;
  }
}

/** States all of the input and output, so that ffmpeg guesses nothing. */
function encoderArguments(pcm: PcmFormat, mp3: Mp3Format): string[] {
  const { sampleFormat, sampleRateHz, channels } = pcm;
  return [
    "-hide_banner -nostdin -loglevel error -filter_threads 1 -protocol_whitelist pipe",
    `-probesize 32 -f ${sampleFormat} -ar ${sampleRateHz} -ac ${channels} -i pipe:0 -map 0:a:0 -map_metadata -1`,
    `-c:a libmp3lame -b:a ${mp3.bitrateKbps}k -compression_level 5 -ar ${mp3.sampleRateHz} -write_xing 0 -id3v2_version 0`,
    "-flush_packets 0 -f mp3 pipe:1",
  ].flatMap((part) => part.split(" "));
}

/** Number of frames in which the bit reservoir of the next frame can lie. */
function reservoirFrames({ sampleRateHz, channels, bitrateKbps }: Mp3Format): number {
  const mpegVersion = mpegVersionOf(sampleRateHz) ?? 1;
  return Math.ceil(
    mostMainDataBegin({ mpegVersion, channels }) / mainDataSlotBytes(sampleRateHz, channels, bitrateKbps),
  );
}

function feedSilence(encoder: Encoder, byteCount: number): void {
  const silence = Buffer.alloc(Math.min(byteCount, hungryBytes));
  for (let left = byteCount; left > 0; left -= silence.length) {
    encoder.feed({ pcm: silence.subarray(0, left), release() {} });
  }
}

function modulo(value: number, divisor: number): number {
  return ((value % divisor) + divisor) % divisor;
}
