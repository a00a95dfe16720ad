import type { PcmFormat } from "../pcm-format.ts";
import { ConversionEncoders, looksPerStall } from "./conversion-encoders.ts";
import type { EncoderTurns } from "./encoder-pool.ts";
import type { Encoder, Mp3Format } from "./encoder.ts";
import type { FfmpegEnd } from "./ffmpeg-starter.ts";
import { FrameGrid } from "./frame-grid.ts";
import { PcmDealer, type EncodingState } from "./pcm-dealer.ts";

/**
 * Length of the sound that goes to one encoder before another one takes over, in samples of the MP3: at least 200 MPEG-1
 * frames, and more if the source is faster than the encoders, because each change costs a lead-in and a lead-out.
 */
const leastSegmentSamples = 200 * 1152;
const mostSegmentSamples = 500 * 1152;

/** An encoder with less PCM than this gets more at once. */
const hungryBytes = 256 * 1024;

/** Approximate maximum of PCM that one conversion keeps in memory for the encoders. */
const maxBufferedBytes = 20 * 1024 * 1024;

/** A source that returns nothing for this long counts as slower than its encoder. */
const slowAfterMs = 50;

/** PCM that a conversion without a process collects before it asks for its next turn. */
const worthwhileBytes = 512 * 1024;

/** A conversion whose source has ended, and that has no more PCM than this left, is almost done. */
const almostDoneBytes = 2 * worthwhileBytes;

/**
 * Encodes one sound with one or more encoders. PCM goes to one encoder until it has enough to do, then to the next. When a
 * turn ends, the encoders end, and the next turn starts with a new one. The segments that the encoders make are joined
 * to one MP3.
 */
export class SegmentedEncoding implements AsyncDisposable {
  readonly #turns: EncoderTurns;
  readonly #source: AsyncIterator<Buffer>;
  readonly #signal: AbortSignal;
  readonly #grid: FrameGrid;
  readonly #maxPcmBytes: number;
  readonly #maxEncoders: number;
  readonly #segmentBytes: number;
  readonly #longSegmentBytes: number;
  /** Where a short sound may be divided between two encoders, in its PCM. */
  #middleBytes = Infinity;
  readonly #encoders: ConversionEncoders;
  /** If its current encoder is ending, the next turn starts with a new one. */
  readonly #dealer: PcmDealer;
  /** What was sent before this turn. */
  #sentBeforeTurn = 0;
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

  /**
   * `maxPcmBytes` is the PCM that the request can hold; Infinity if it is unknown. Silence (`slnt`) may come on top. `from` is
   * where to go on; the PCM then begins there. Otherwise it begins with `silentBytes` of silence.
   */
  constructor(
    turns: EncoderTurns,
    pcm: AsyncIterable<Buffer>,
    format: PcmFormat,
    mp3: Mp3Format,
    maxPcmBytes: number,
    signal: AbortSignal,
    from?: EncodingState,
    silentBytes = 0,
  ) {
    const { pool } = turns;
    this.#turns = turns;
    this.#maxPcmBytes = maxPcmBytes;
    this.#grid = new FrameGrid(format, mp3.sampleRateHz);
    const bytesOf = (mp3Samples: number) => this.#grid.startOf(mp3Samples / this.#grid.samplesPerFrame);
    this.#segmentBytes = bytesOf(leastSegmentSamples);
    const encodersInMemory = Math.max(1, Math.floor(maxBufferedBytes / (this.#segmentBytes + hungryBytes)));
    this.#maxEncoders = this.#grid.isWhole ? Math.min(encodersInMemory, pool.size) : 1;
    // Each encoder may have this much, and the same amount may be pending.
    const sharedBytes = maxBufferedBytes / (this.#maxEncoders + 1);
    const mostBytes = bytesOf(mostSegmentSamples);
    this.#longSegmentBytes = Math.max(this.#segmentBytes, Math.min(mostBytes, sharedBytes));
    if (!from && this.#maxEncoders > 1 && maxPcmBytes < 2 * this.#segmentBytes)
      this.#middleBytes = this.#grid.middleOf(maxPcmBytes) ?? Infinity;
    this.#encoders = new ConversionEncoders(pool, format, mp3, this.#grid, this.#onEncoderChange);
    this.#dealer = new PcmDealer(format, mp3, this.#grid, pool.blocks, this.#encoders.start(silentBytes), from);
    this.#sentBeforeTurn = this.#dealer.sentBytes;
    this.#source = pcm[Symbol.asyncIterator]();
    this.#signal = signal;
    signal.addEventListener("abort", this.#onAbort);
    const watch = () => this.#guard(() => this.#encoders.requireProgress());
    this.#watch = setInterval(watch, (pool.stallSeconds * 1000) / looksPerStall);
  }

  /**
   * Marks the end of the PCM that was read. When the frames before it have been taken, `onPass` gets what it takes to go
   * on there. Some marks are never passed, because a joint of other encoders is there.
   */
  mark(onPass: (state: EncodingState) => void): void {
    this.#dealer.mark(onPass);
  }

  /** Whether marks may still be passed. */
  get hasMarks(): boolean {
    return this.#dealer.hasMarks;
  }

  /** The frames, in order. */
  async *run(): AsyncGenerator<Buffer, void, undefined> {
    void this.#feed().catch((error: unknown) => this.#fail(error));
    while (!this.#failure) {
      const frames = this.#dealer.takeFrames();
      this.#forgetEncoders();
      yield* frames;
      if (frames.length > 0 || this.#dealer.passMark()) continue;
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
    await this.#encoders[Symbol.asyncDispose]();
    // A generator that is still awaited ends only after its next bytes, which may never come.
    const returned = Promise.resolve(this.#source.return?.()).catch(() => {});
    if (!this.#isReading) await returned;
  }

  readonly #onAbort = () => this.#fail(this.#signal.reason);

  readonly #onEncoderChange = (encoder: Encoder, end?: FfmpegEnd) =>
    this.#guard(() => {
      if (this.#failure) return;
      if (end) {
        this.#encoders.settle(encoder, end);
        this.#forgetEncoders();
      }
      // Pending PCM must not wait for the source's next bytes.
      else this.#deal();
      this.#restIfIdle();
    });

  #fail(reason: unknown): void {
    if (this.#failure) return;
    this.#failure = { reason };
    this.#notify();
    // The processes end now, because the reader of the MP3 may not ask for more for a while.
    void this.#encoders.kill();
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
    const dealer = this.#dealer;
    for (;;) {
      const next = await this.#read();
      if (this.#failure) return;
      if (next.done) break;
      for (let at = 0; at < next.value.length; at += hungryBytes) {
        dealer.push(next.value.subarray(at, at + hungryBytes));
        this.#deal();
        while (dealer.pendingBytes > this.#maxPendingBytes() && !this.#failure) await this.#change.promise;
      }
    }
    this.#sourceEnded = true;
    this.#encoders.readAll();
    this.#deal();
    while ((dealer.pendingBytes > 0 || !this.#isAtWork()) && !this.#failure) await this.#change.promise;
    if (!this.#failure) this.#end();
  }

  /**
   * PCM that may be pending while the source goes on. Of several encoders, one may need the next segment before it returns
   * frames of the last one, so that it must always be possible to collect a segment.
   */
  #maxPendingBytes(): number {
    if (!this.#isAtWork() || this.#maxEncoders === 1) return worthwhileBytes;
    if (this.#turns.pool.waiting === 0) return this.#encoders.areSeveral ? this.#longSegmentBytes : this.#segmentBytes;
    return this.#encoders.areSeveral ? this.#segmentBytes : worthwhileBytes;
  }

  /** Reads the source's next bytes. If the source is slow, spare encoders and the turn end, so that others can encode. */
  async #read(): Promise<IteratorResult<Buffer, unknown>> {
    this.#isReading = true;
    const timer = setTimeout(() => {
      this.#sourceIsSlow = true;
      this.#guard(() => this.#restIfIdle());
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
    const dealer = this.#dealer;
    if (this.#failure || this.#isEnding || (dealer.pendingBytes === 0 && !this.#sourceEnded)) return;
    while (this.#hasTurn() && dealer.pendingBytes > 0) {
      this.#changeInTheMiddle();
      if (dealer.current.backlogBytes >= hungryBytes) {
        const other = this.#nextEncoder();
        if (!other) return;
        dealer.switchTo(other);
      }
      // Smaller shares at the end, so that all encoders finish at about the same time.
      const half = Math.max(this.#segmentBytes, Math.ceil(dealer.pendingBytes / 2));
      const share = this.#sourceEnded && this.#maxEncoders > 1 ? half : Infinity;
      dealer.send(Math.min(dealer.pendingBytes, share));
    }
  }

  /**
   * Changes to an encoder that is ready in the middle of a short sound, so that both finish at about the same time. Not if the
   * current one has little to do: then the source is slow, and another encoder would gain nothing.
   */
  #changeInTheMiddle(): void {
    const dealer = this.#dealer;
    const byteCount = this.#middleBytes - dealer.sentBytes;
    if (byteCount > dealer.pendingBytes) return;
    this.#middleBytes = Infinity;
    const toDo = dealer.current.backlogBytes + byteCount;
    // Starting a process takes longer than encoding a short sound.
    if (toDo < this.#grid.startOf(this.#grid.sharedFrames) || !this.#encoders.oneIsReady) return;
    const other = this.#encoders.startSpare(() => dealer.current, this.#maxEncoders);
    if (!other) return;
    dealer.send(byteCount);
    dealer.switchTo(other);
  }

  /** The encoder to change to, if one is idle and enough PCM is pending to be worth the change. */
  #nextEncoder(): Encoder | undefined {
    const { current, pendingBytes } = this.#dealer;
    const isSegment = pendingBytes >= this.#segmentBytes;
    const { period, sharedFrames } = this.#grid;
    const isWorthwhile =
      isSegment || (this.#sourceEnded && pendingBytes > this.#grid.startOf(period + 3 * sharedFrames));
    const hungry = isWorthwhile ? this.#encoders.withLessThan(hungryBytes, current) : undefined;
    if (hungry || !isSegment) return hungry;
    return this.#encoders.startSpare(() => this.#dealer.current, this.#maxEncoders);
  }

  /** Whether an encoder may get PCM now. */
  #isAtWork(): boolean {
    return this.#turns.isOn && !this.#turnIsEnding && !this.#dealer.current.ending;
  }

  /** Whether the conversion has its turn. Asks for the next turn, starts it, and ends it when it has lasted long enough. */
  #hasTurn(): boolean {
    const { current, pendingBytes, sentBytes } = this.#dealer;
    if (this.#turnIsEnding) return false;
    if (!this.#turns.isOn) {
      const isEnough = this.#sourceEnded || !current.ending || pendingBytes >= worthwhileBytes;
      if (isEnough && !this.#waitsForTurn) void this.#waitForTurn();
      return false;
    }
    if (current.ending) {
      this.#dealer.goOnWith(this.#encoders.start());
      this.#forgetEncoders();
    }
    const sentInTurn = sentBytes - this.#sentBeforeTurn;
    if (pendingBytes === 0 || sentInTurn === 0) return true;
    const isWorthwhile = sentInTurn >= this.#segmentBytes;
    // The silence that a `slnt` chunk asks for is not in the estimate.
    const leftBytes = sentBytes > this.#maxPcmBytes ? Infinity : this.#maxPcmBytes - sentBytes;
    // A source that is a little slower than its encoder must not keep it for long: the process is parked instead.
    if (!(isWorthwhile || this.#encoders.areIdle) || !this.#turns.shouldEnd(leftBytes / sentInTurn)) return true;
    this.#turnIsEnding = true;
    if (isWorthwhile) this.#endSegment();
    this.#endTurnIfIdle();
    return false;
  }

  async #waitForTurn(): Promise<void> {
    this.#waitsForTurn = true;
    try {
      await this.#turns.next(() => this.#sourceEnded && this.#dealer.pendingBytes <= almostDoneBytes);
    } catch (error) {
      return this.#fail(error);
    }
    this.#waitsForTurn = false;
    this.#sentBeforeTurn = this.#dealer.sentBytes;
    this.#guard(() => this.#deal());
  }

  /** Ends encoders, and the turn, if nothing is left for them to encode and the turn should end or the source is slow. */
  #restIfIdle(): void {
    const mayRest = this.#sourceIsSlow && !this.#failure && !this.#isEnding;
    if (mayRest) this.#encoders.endIdleBut(this.#dealer.current);
    this.#endTurnIfIdle();
  }

  #endTurnIfIdle(): void {
    if (this.#failure || this.#isEnding || !this.#turns.isOn) return;
    if (!this.#turnIsEnding && !(this.#sourceIsSlow && this.#dealer.pendingBytes === 0)) return;
    if (!this.#encoders.areDone) return;
    this.#turnIsEnding = false;
    this.#turns.end(this.#dealer.current.ending ? undefined : () => this.#endParkedProcess());
    this.#deal();
  }

  /** Ends a parked process; the next turn starts with a new one. */
  #endParkedProcess(): void {
    if (this.#failure || this.#isEnding || this.#dealer.current.ending) return;
    this.#guard(() => this.#endSegment());
  }

  /** Ends the encoders and with them the segment, at the end of what was sent. */
  #endSegment(): void {
    this.#dealer.endSegment();
    this.#encoders.end();
    this.#notify();
  }

  #end(): void {
    this.#dealer.end();
    this.#encoders.end();
    this.#isEnding = true;
    this.#notify();
  }

  #forgetEncoders(): void {
    if (!this.#failure) this.#encoders.forget((encoder) => this.#dealer.needs(encoder));
  }

  /** Whether all frames were taken and nothing can come of the encoders any more. */
  #isFinished(): boolean {
    if (!this.#isEnding || !this.#dealer.framesAreTaken || !this.#encoders.dropTheRest()) return false;
    this.#encoders.forget(() => false);
    this.#encoders.killSoon();
    return true;
  }
}
