import { ServiceError, shuttingDown, tryAgainLater } from "../../errors/errors.ts";
import type { Mp3Format } from "./encoder-lane.ts";
import { conversionFailed, EncoderLane } from "./encoder-lane.ts";
import type { Borrower, EncoderPlace, IdleProcess } from "./encoder-pool.ts";
import type { FfmpegEnd, FfmpegProcess } from "./ffmpeg.ts";
import { lameDelaySamples, mpegVersionOf, samplesPerFrameOf } from "../mp3/mp3-frame.ts";
import type { PcmFormat } from "../pcm-format.ts";
import { bytesPerPcmFrame } from "../pcm-format.ts";
import { PcmQueue } from "./pcm-queue.ts";

/** Samples that LAME leaves at least behind the last one, for the decoder's delay. */
const leastPaddingSamples = 576;

/**
 * Sound that goes to one lane before another takes over, in samples: at least 200 frames of MPEG-1, and more where the
 * source is faster than the lanes, as every change costs a lead-in and a lead-out.
 */
const leastSegmentSamples = 200 * 1152;
const mostSegmentSamples = 500 * 1152;

/** Sound that a lane encodes before its first and after its last own frame, so that both come out as in one pass. */
const leadInSamples = 6 * 1152;
const leadOutSamples = 4 * 1152;

/** After so many frames the padding that keeps the bit rate constant repeats: at 44.1 kHz and its parts, else at once. */
const paddingCadence = 49;

/** A lane with less than this to encode is fed at once. */
const hungryBytes = 256 * 1024;

/** About how much PCM one upload may hold in memory on its way to the lanes. */
const maxBufferedBytes = 20 * 1024 * 1024;

/** Silence behind resampled sound, in samples at the MP3's rate, so that the resampler's rounding loses none. */
const resamplerSilence = 64;

/** A source that gives nothing for so long counts as slower than its lane. */
const restAfterMs = 50;

/** Sound that an upload without a process collects before it asks for one again. */
const worthwhileBytes = 512 * 1024;

/** Most bytes of its last sound that an upload keeps, so that another process can go on where one has ended. */
const maxTailBytes = 1280 * 1024;

/**
 * Whether another process can go on with a sound in the middle: each MP3 frame must be a whole number of the source's
 * samples, and the sound that leads in must be little enough to be kept.
 */
export function isJoinable(format: PcmFormat, mp3RateHz: number): boolean {
  const samples = sourceSamplesPerFrame(format, mp3RateHz);
  return Number.isInteger(samples) && tailFramesAt(mp3RateHz) * samples * bytesPerPcmFrame(format) <= maxTailBytes;
}

/** Samples of the source in one MP3 frame. */
function sourceSamplesPerFrame({ sampleRateHz }: PcmFormat, mp3RateHz: number): number {
  return (samplesPerFrameOf(mpegVersionOf(mp3RateHz) ?? 1) * sampleRateHz) / mp3RateHz;
}

/** MP3 frames in the last sound that is kept. */
function tailFramesAt(mp3RateHz: number): number {
  const leadFrames = (leadInSamples + leadOutSamples) / samplesPerFrameOf(mpegVersionOf(mp3RateHz) ?? 1);
  return leadFrames + cadenceAt(mp3RateHz) + 1;
}

function cadenceAt(mp3RateHz: number): number {
  return mp3RateHz % 11_025 === 0 ? paddingCadence : 1;
}

/** Frames that LAME makes of so many samples, flushed. */
export function mp3FramesFor(samples: number, samplesPerFrame: 1152 | 576): number {
  return Math.ceil((lameDelaySamples + samples + leastPaddingSamples) / samplesPerFrame);
}

/** A stretch of the MP3 and the lane that encodes it. */
interface Span {
  readonly lane: EncoderLane;
  /** Its first frame in the MP3, and the number that this frame has in its lane. */
  readonly firstFrame: number;
  readonly firstLaneFrame: number;
  /** Its last frame and one; absent while its lane is still being fed. */
  endFrame?: number;
}

/**
 * One upload on its way through one lane or several. The source flows to one lane until that has enough to do, then to
 * the next; the frames of each are taken where its stretch begins and ends, so that they join to one stream.
 */
export class LaneDealer implements AsyncDisposable, Borrower, IdleProcess {
  readonly #place: EncoderPlace;
  readonly #source: AsyncIterator<Buffer>;
  readonly #signal: AbortSignal;
  readonly #format: PcmFormat;
  readonly #mp3: Mp3Format;
  readonly #samplesPerFrame: 1152 | 576;
  readonly #resampled: boolean;
  readonly #joinable: boolean;
  /** After so many frames a lane is at the same point of the padding again. */
  readonly #cadence: number;
  readonly #maxLanes: number;
  /** PCM of one MP3 frame; a whole number where the sound is joinable. */
  readonly #frameBytes: number;
  readonly #segmentBytes: number;
  readonly #longSegmentBytes: number;
  /** PCM that is sent at least before a turn is over. */
  readonly #turnBytes: number;
  readonly #borrowed: EncoderPlace[] = [];
  /** The lanes that are needed yet. */
  readonly #lanes: EncoderLane[] = [];
  readonly #children = new Map<EncoderLane, FfmpegProcess>();
  /** The lane that the source flows to; one that is ending when the next turn begins with a new one. */
  #current: EncoderLane;
  #spans: Span[] = [];
  /** PCM that no lane has yet. */
  readonly #pending: PcmQueue;
  /** The last PCM that was sent: the next lane's lead-in and, behind that, this lane's lead-out. */
  readonly #tail: Buffer;
  #sentBytes = 0;
  /** The part of it that was sent since the place was last taken. */
  #sentInTurn = 0;
  /** The first frame of the MP3 that the next turn gives. */
  #border = 0;
  #sourceEnded = false;
  #sourceIsSlow = false;
  /** The turn is over: the place is left as soon as the lanes have encoded what they were fed. */
  #leaving = false;
  #lanesEnding = false;
  #reading = false;
  #mp3Frames = 0;
  readonly #watch: NodeJS.Timeout;
  #failure: { readonly reason: unknown } | undefined;
  #change = Promise.withResolvers<void>();

  constructor(place: EncoderPlace, pcm: AsyncIterable<Buffer>, format: PcmFormat, mp3: Mp3Format, signal: AbortSignal) {
    this.#place = place;
    this.#format = format;
    this.#mp3 = mp3;
    this.#samplesPerFrame = samplesPerFrameOf(mpegVersionOf(mp3.sampleRateHz) ?? 1);
    this.#frameBytes = sourceSamplesPerFrame(format, mp3.sampleRateHz) * bytesPerPcmFrame(format);
    this.#joinable = isJoinable(format, mp3.sampleRateHz);
    this.#cadence = cadenceAt(mp3.sampleRateHz);
    this.#segmentBytes = leastSegmentSamples * bytesPerPcmFrame(format);
    this.#turnBytes = (this.#segmentBytes * format.sampleRateHz) / Math.max(format.sampleRateHz, mp3.sampleRateHz);
    this.#resampled = mp3.sampleRateHz !== format.sampleRateHz;
    const memoryLanes = Math.floor(maxBufferedBytes / (this.#segmentBytes + hungryBytes));
    this.#maxLanes = this.#resampled || !this.#joinable ? 1 : Math.min(memoryLanes, place.pool.lanes);
    // Each lane may have so much, and as much may be pending.
    const sharedBytes = maxBufferedBytes / (this.#maxLanes + 1);
    const mostBytes = mostSegmentSamples * bytesPerPcmFrame(format);
    this.#longSegmentBytes = Math.max(this.#segmentBytes, Math.min(mostBytes, sharedBytes));
    this.#pending = new PcmQueue(place.pool.blocks);
    this.#tail = Buffer.alloc(this.#joinable ? tailFramesAt(mp3.sampleRateHz) * this.#frameBytes : 0);
    this.#current = this.#startLane();
    this.#spans.push({ lane: this.#current, firstFrame: 0, firstLaneFrame: 0 });
    this.#source = pcm[Symbol.asyncIterator]();
    this.#signal = signal;
    signal.addEventListener("abort", this.#onAbort);
    this.#watch = setInterval(() => this.#failIfStalled(), (place.pool.stallSeconds * 1000) / 4);
  }

  /** The frames, in order. */
  async *run(): AsyncGenerator<Buffer, void, undefined> {
    void this.#feed().catch((error: unknown) => this.#fail(error));
    while (!this.#failure) {
      const frames = this.#takeFrames();
      yield* frames;
      if (frames.length > 0) continue;
      if (this.#finished()) return;
      await this.#change.promise;
    }
    throw this.#failure.reason;
  }

  /** Ends a lane that the source does not flow to; its place is free once it has encoded what it was fed. */
  giveBackOne(): void {
    const spare = this.#lanes.filter((lane) => lane !== this.#current && !lane.ending);
    spare.toSorted((a, b) => a.backlogBytes - b.backlogBytes)[0]?.end();
  }

  /** Another process can go on with the sound. */
  get joinable(): boolean {
    return this.#joinable;
  }

  /** Ends the process while it is not this upload's turn; the next turn begins with another one. */
  endIdleProcess(): void {
    if (this.#failure || this.#lanesEnding || this.#current.ending) return;
    this.#guard(() => this.#endTurn());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#watch);
    this.#failure ??= { reason: undefined };
    this.#notify();
    this.#signal.removeEventListener("abort", this.#onAbort);
    await Promise.all(Array.from(this.#children.values(), (child) => child[Symbol.asyncDispose]()));
    for (const place of this.#borrowed) place[Symbol.dispose]();
    // A source that is still asked for its next bytes ends after giving them: nobody can wait for that.
    const returned = Promise.resolve(this.#source.return?.()).catch(() => {});
    if (!this.#reading) await returned;
  }

  /**
   * A process that somebody has stopped neither ends nor fails. One that gets no core leaves the background before it is
   * given up: on a machine full of other work the background may have no time at all.
   */
  #failIfStalled(): void {
    const { stallSeconds } = this.#place.pool;
    for (const lane of this.#lanes) {
      if (lane.stalledSeconds > stallSeconds / 4) lane.hurry();
      if (lane.stalledSeconds <= stallSeconds) continue;
      if (lane.isStarved) this.#fail(tryAgainLater("BUSY", "The machine is overloaded", 30));
      else this.#fail(conversionFailed(`ffmpeg did nothing for ${stallSeconds} seconds`));
    }
  }

  readonly #onAbort = () => this.#fail(this.#signal.reason);

  #fail(reason: unknown): void {
    if (this.#failure) return;
    this.#failure = { reason };
    this.#notify();
    // At once: whoever takes the MP3 may not ask for more for a while.
    for (const child of this.#children.values()) void child[Symbol.asyncDispose]();
  }

  #notify(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  async #feed(): Promise<void> {
    for (;;) {
      const next = await this.#read();
      if (this.#failure) return;
      if (next.done) break;
      for (let at = 0; at < next.value.length; at += hungryBytes) {
        this.#pending.push(next.value.subarray(at, at + hungryBytes));
        this.#deal();
        await this.#pendingAtMost(() => this.#maxPendingBytes());
      }
    }
    this.#sourceEnded = true;
    this.#deal();
    while ((this.#pending.bytes > 0 || !this.#isAtWork()) && !this.#failure) await this.#change.promise;
    if (!this.#failure) this.#endLanes();
  }

  /** Waits until the lanes have taken so much that no more than this is pending. */
  async #pendingAtMost(byteCount: () => number): Promise<void> {
    while (this.#pending.bytes > byteCount() && !this.#failure) await this.#change.promise;
  }

  /** PCM that may be pending while the source goes on. */
  #maxPendingBytes(): number {
    if (!this.#isAtWork() || this.#place.pool.waiting > 0) return worthwhileBytes;
    return this.#lanes.filter((lane) => !lane.ending).length > 1 ? this.#longSegmentBytes : this.#segmentBytes;
  }

  /** The source's next bytes. One that keeps its lane waiting keeps nobody else from encoding. */
  async #read(): Promise<IteratorResult<Buffer, unknown>> {
    this.#reading = true;
    const timer = setTimeout(() => {
      this.#sourceIsSlow = true;
      this.#guard(() => this.#leaveIfIdle());
    }, restAfterMs);
    try {
      return await this.#source.next();
    } finally {
      clearTimeout(timer);
      this.#sourceIsSlow = false;
      this.#reading = false;
    }
  }

  /** Sends what is pending where it is wanted. */
  #deal(): void {
    if (this.#failure || this.#lanesEnding || (this.#pending.bytes === 0 && !this.#sourceEnded)) return;
    while (this.#hasTurn() && this.#pending.bytes > 0) {
      if (this.#current.backlogBytes >= hungryBytes) {
        const other = this.#nextLane();
        if (!other) return;
        this.#switchTo(other);
      }
      // Less and less at the end, so that no lane is left with much when the others are done.
      const share = this.#sourceEnded ? Math.max(this.#segmentBytes, Math.ceil(this.#pending.bytes / 2)) : Infinity;
      this.#send(Math.min(this.#pending.bytes, share));
    }
  }

  /** Whether there is a lane that may be given work now. */
  #isAtWork(): boolean {
    return this.#place.working && !this.#leaving && !this.#current.ending;
  }

  /** Whether there is work for this upload's turn; asks for one, ends one, and begins one. */
  #hasTurn(): boolean {
    if (this.#leaving) return false;
    if (!this.#place.working) {
      if (this.#place.pool.closed) throw shuttingDown();
      const hasEnough = this.#sourceEnded || !this.#current.ending || this.#pending.bytes >= worthwhileBytes;
      this.#sentInTurn = 0;
      if (hasEnough) this.#place.askForTurn(() => this.#guard(() => this.#deal()));
      if (!this.#place.working) return false;
    }
    if (this.#current.ending) this.#goOn();
    const isEnough = this.#pending.bytes > 0 && this.#sentInTurn >= this.#turnBytes;
    if (!isEnough || !this.#place.turnIsOver()) return true;
    this.#leaving = true;
    if (this.#joinable) this.#endTurn();
    this.#leaveIfIdle();
    return false;
  }

  /** Does what nobody waits for; a failure is the upload's. */
  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#fail(error);
    }
    this.#notify();
  }

  /** Leaves the place, when the turn is over or the source is slow, and nothing is left to encode. */
  #leaveIfIdle(): void {
    if (this.#failure || this.#lanesEnding || !this.#place.working) return;
    if (!this.#leaving && !(this.#sourceIsSlow && this.#pending.bytes === 0)) return;
    if (this.#lanes.some((lane) => lane.backlogBytes > 0 || (lane.ending && !lane.ended))) return;
    const hasProcess = !this.#current.ending;
    this.#leaving = false;
    this.#place.leave(hasProcess ? this : undefined);
    this.#deal();
  }

  /**
   * Ends the lanes where they are. The border lies a lead-out before the end of what they have got: what follows comes
   * from a new lane, which begins with sound that was kept.
   */
  #endTurn(): void {
    const partOfSample = modulo(-this.#sentBytes, bytesPerPcmFrame(this.#format));
    if (partOfSample > 0) this.#current.feed({ pcm: Buffer.alloc(partOfSample), release() {} });
    this.#border = Math.max(0, Math.floor(this.#sentBytes / this.#frameBytes) - this.#leadOutFrames);
    this.#spans.at(-1)!.endFrame = this.#border;
    for (const lane of this.#lanes) lane.end();
    this.#notify();
  }

  /** Starts a new lane where the last one ended, at the same point of the padding cadence. */
  #goOn(): void {
    const lane = this.#startLane();
    const leadIn = leadInSamples / this.#samplesPerFrame;
    const start = Math.max(0, Math.floor((this.#border - leadIn) / this.#cadence) * this.#cadence);
    const kept = this.#tail.subarray(start * this.#frameBytes - (this.#sentBytes - this.#tail.length));
    lane.feed({ pcm: Buffer.from(kept), release() {} });
    this.#spans.push({ lane, firstFrame: this.#border, firstLaneFrame: this.#border - start });
    const last = this.#current;
    this.#current = lane;
    this.#forget(last);
  }

  /** The lane to change to, if one is idle and what is pending is worth the change. */
  #nextLane(): EncoderLane | undefined {
    const isSegment = this.#pending.bytes >= this.#segmentBytes;
    const isWorthwhile =
      isSegment || (this.#sourceEnded && this.#pending.bytes > (this.#cadence + 1) * this.#frameBytes);
    return (isWorthwhile ? this.#hungryLane() : undefined) ?? (isSegment ? this.#borrowLane() : undefined);
  }

  #endLanes(): void {
    const pcmFrameBytes = bytesPerPcmFrame(this.#format);
    if (this.#sentBytes % pcmFrameBytes !== 0) throw new Error("The PCM ends inside a sample.");
    if (this.#sentBytes === 0) throw new ServiceError("UPLOAD_INCOMPLETE", "The file contains no sound.");
    if (this.#resampled) {
      const silentSamples = Math.ceil((resamplerSilence * this.#format.sampleRateHz) / this.#mp3.sampleRateHz);
      this.#current.feed({ pcm: Buffer.alloc(silentSamples * pcmFrameBytes), release() {} });
    }
    this.#spans.at(-1)!.endFrame = mp3FramesFor(this.#samples(), this.#samplesPerFrame);
    for (const each of this.#lanes) each.end();
    this.#lanesEnding = true;
    this.#notify();
  }

  /** Samples of each channel that were sent, at the MP3's rate. */
  #samples(): number {
    const samples = this.#sentBytes / bytesPerPcmFrame(this.#format);
    return Math.round((samples * this.#mp3.sampleRateHz) / this.#format.sampleRateHz);
  }

  #hungryLane(): EncoderLane | undefined {
    return this.#lanes.find((lane) => !lane.ending && lane !== this.#current && lane.backlogBytes < hungryBytes);
  }

  #borrowLane(): EncoderLane | undefined {
    if (this.#borrowed.length + 1 >= this.#maxLanes) return undefined;
    const place = this.#place.pool.borrow(this);
    if (!place) return undefined;
    try {
      const lane = this.#startLane();
      this.#borrowed.push(place);
      return lane;
    } catch {
      // The system is at its limits: the upload goes on with the lanes that it has.
      place[Symbol.dispose]();
      return undefined;
    }
  }

  #startLane(): EncoderLane {
    const child = this.#place.pool.start(encoderArguments(this.#format, this.#mp3));
    const lane = new EncoderLane(child, this.#mp3, (end) => {
      this.#guard(() => {
        if (end) this.#onLaneEnd(lane, end);
        // Not only when the source gives more: one that is slow just now shall not keep sound waiting.
        else this.#deal();
        this.#leaveIfIdle();
      });
    });
    this.#children.set(lane, child);
    this.#lanes.push(lane);
    return lane;
  }

  #onLaneEnd(lane: EncoderLane, end: FfmpegEnd): void {
    if (this.#place.pool.closed) this.#fail(shuttingDown());
    if (!lane.ending || end.code !== 0 || end.stderr !== "") {
      this.#fail(conversionFailed(`ffmpeg ended with ${end.code ?? end.signal ?? "no code"}: ${end.stderr}`));
    }
    // Places are alike: whichever lane ends, one of those that were lent is free.
    this.#borrowed.pop()?.[Symbol.dispose]();
    this.#forget(lane);
  }

  /**
   * Makes another lane the one that the source flows to. The border lies a lead-out before what the old lane has
   * already got, so that a source that stalls here leaves no lane waiting for its last samples; and it lies where the
   * new lane is at the same point of the padding cadence, so that its frames are as long as in a single pass.
   */
  #switchTo(lane: EncoderLane): void {
    this.#send(modulo(-this.#sentBytes, this.#frameBytes));
    const leadIn = leadInSamples / this.#samplesPerFrame;
    const firstLaneFrame = lane.fedBytes / this.#frameBytes + leadIn;
    const earliest = this.#sentBytes / this.#frameBytes - this.#leadOutFrames;
    const shift = modulo(firstLaneFrame - earliest, this.#cadence);
    this.#send(shift * this.#frameBytes);
    const border = earliest + shift;
    this.#spans.at(-1)!.endFrame = border;
    this.#spans.push({ lane, firstFrame: border, firstLaneFrame });
    const kept = this.#tail.subarray(-(leadIn + this.#leadOutFrames) * this.#frameBytes);
    lane.feed({ pcm: Buffer.from(kept), release() {} });
    this.#current = lane;
  }

  /** Moves bytes from the pending ones to the current lane and remembers the last of them. */
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

  /** The next frames of the MP3, in order, as far as they are there. */
  #takeFrames(): Buffer[] {
    for (let span = this.#spans[0]; span; span = this.#spans[0]) {
      const { lane, firstFrame, firstLaneFrame } = span;
      const offset = firstLaneFrame - firstFrame;
      const taken = lane.take(firstLaneFrame, (span.endFrame ?? this.#decidedFrames()) + offset);
      this.#mp3Frames = Math.max(this.#mp3Frames, lane.frames - offset);
      if (this.#mp3Frames === span.endFrame) {
        this.#spans.shift();
        this.#forget(lane);
      } else if (lane.ended && taken.length === 0) throw conversionFailed(`only ${lane.frames} frames`);
      else return taken;
      if (taken.length > 0) return taken;
    }
    return [];
  }

  /** Frames of the MP3 of which it is certain that the current lane gives them. */
  #decidedFrames(): number {
    if (!this.#joinable) return Infinity;
    return Math.floor(this.#sentBytes / this.#frameBytes) - this.#leadOutFrames;
  }

  get #leadOutFrames(): number {
    return leadOutSamples / this.#samplesPerFrame;
  }

  /** Lets go of a lane that has ended and of which every frame was taken, so that a long sound does not collect them. */
  #forget(lane: EncoderLane): void {
    const isNeeded = !lane.ended || lane === this.#current || this.#spans.some((span) => span.lane === lane);
    if (isNeeded || this.#failure || !this.#children.delete(lane)) return;
    this.#lanes.splice(this.#lanes.indexOf(lane), 1);
    this.#verify(lane);
  }

  #verify(lane: EncoderLane): void {
    const due = mp3FramesFor(lane.fedBytes / bytesPerPcmFrame(this.#format), this.#samplesPerFrame);
    if (!lane.finish() || (!this.#resampled && lane.frames !== due)) {
      throw conversionFailed(`${lane.frames} frames instead of ${due}`);
    }
  }

  /** Whether every frame was taken, and every lane has ended and proved right. */
  #finished(): boolean {
    if (!this.#lanesEnding || this.#spans.length > 0 || this.#lanes.some((lane) => !lane.ended)) return false;
    for (const lane of this.#lanes) this.#verify(lane);
    return true;
  }
}

/** Nothing is left for ffmpeg to guess: not what comes in, not what goes out. */
function encoderArguments(pcm: PcmFormat, mp3: Mp3Format): string[] {
  const { sampleFormat, sampleRateHz, channels } = pcm;
  return [
    "-hide_banner -nostdin -loglevel error -filter_threads 1 -protocol_whitelist pipe",
    `-probesize 32 -f ${sampleFormat} -ar ${sampleRateHz} -ac ${channels} -i pipe:0 -map 0:a:0 -map_metadata -1`,
    `-c:a libmp3lame -b:a ${mp3.bitrateKbps}k -ar ${mp3.sampleRateHz} -reservoir 0 -write_xing 0 -id3v2_version 0`,
    "-flush_packets 0 -f mp3 pipe:1",
  ].flatMap((part) => part.split(" "));
}

function modulo(value: number, divisor: number): number {
  return ((value % divisor) + divisor) % divisor;
}
