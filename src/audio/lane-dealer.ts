import { ServiceError, shuttingDown, tryAgainLater } from "../errors.ts";
import type { Mp3Format } from "./encoder-lane.ts";
import { conversionFailed, EncoderLane } from "./encoder-lane.ts";
import type { Borrower, EncoderPlace } from "./encoder-pool.ts";
import type { FfmpegEnd, FfmpegProcess } from "./ffmpeg.ts";
import { lameDelaySamples, mpegVersionOf, samplesPerFrameOf } from "./mp3-frame.ts";
import type { PcmFormat } from "./pcm-format.ts";
import { bytesPerPcmFrame } from "./pcm-format.ts";
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
export class LaneDealer implements AsyncDisposable, Borrower {
  readonly #place: EncoderPlace;
  readonly #source: AsyncIterator<Buffer>;
  readonly #signal: AbortSignal;
  readonly #format: PcmFormat;
  readonly #mp3: Mp3Format;
  readonly #samplesPerFrame: 1152 | 576;
  readonly #resampled: boolean;
  readonly #maxLanes: number;
  /** PCM of one MP3 frame, where the rates are equal. */
  readonly #frameBytes: number;
  readonly #segmentBytes: number;
  readonly #longSegmentBytes: number;
  readonly #borrowed: EncoderPlace[] = [];
  readonly #children: FfmpegProcess[] = [];
  readonly #lanes: EncoderLane[] = [];
  /** The lane that the source flows to. */
  #current: EncoderLane;
  #spans: Span[] = [];
  /** PCM that no lane has yet. */
  readonly #pending: PcmQueue;
  /** The last PCM that was sent: the next lane's lead-in and, before that, this lane's lead-out. */
  readonly #tail: Buffer;
  #sentBytes = 0;
  #sourceEnded = false;
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
    this.#frameBytes = this.#samplesPerFrame * bytesPerPcmFrame(format);
    this.#segmentBytes = leastSegmentSamples * bytesPerPcmFrame(format);
    this.#resampled = mp3.sampleRateHz !== format.sampleRateHz;
    const memoryLanes = Math.floor(maxBufferedBytes / (this.#segmentBytes + hungryBytes));
    this.#maxLanes = this.#resampled ? 1 : Math.min(memoryLanes, place.pool.lanes);
    // Each lane may have so much, and as much may be pending.
    const sharedBytes = maxBufferedBytes / (this.#maxLanes + 1);
    const mostBytes = mostSegmentSamples * bytesPerPcmFrame(format);
    this.#longSegmentBytes = Math.max(this.#segmentBytes, Math.min(mostBytes, sharedBytes));
    this.#pending = new PcmQueue(place.pool.blocks);
    this.#tail = Buffer.alloc((leadInSamples + leadOutSamples) * bytesPerPcmFrame(format));
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

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#watch);
    this.#failure ??= { reason: undefined };
    this.#notify();
    this.#signal.removeEventListener("abort", this.#onAbort);
    await Promise.all(this.#children.map((child) => child[Symbol.asyncDispose]()));
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
      if (lane.isStarved) this.#fail(tryAgainLater("BUSY", "The machine has too much to do", 30));
      else this.#fail(conversionFailed(`ffmpeg did nothing for ${stallSeconds} seconds`));
    }
  }

  readonly #onAbort = () => this.#fail(this.#signal.reason);

  #fail(reason: unknown): void {
    if (this.#failure) return;
    this.#failure = { reason };
    this.#notify();
    // At once: whoever takes the MP3 may not ask for more for a while.
    for (const child of this.#children) void child[Symbol.asyncDispose]();
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
    await this.#pendingAtMost(() => 0);
    if (!this.#failure) this.#endLanes();
  }

  /** Waits until the lanes have taken so much that no more than this is pending. */
  async #pendingAtMost(byteCount: () => number): Promise<void> {
    while (this.#pending.bytes > byteCount() && !this.#failure) await this.#change.promise;
  }

  /** PCM that may be pending while the source goes on. */
  #maxPendingBytes(): number {
    return this.#lanes.filter((lane) => !lane.ending).length > 1 ? this.#longSegmentBytes : this.#segmentBytes;
  }

  /** The source's next bytes. One that keeps its lane waiting keeps nobody else from encoding. */
  async #read(): Promise<IteratorResult<Buffer, unknown>> {
    this.#reading = true;
    const timer = setTimeout(() => this.#place.rest(), restAfterMs);
    try {
      return await this.#source.next();
    } finally {
      clearTimeout(timer);
      this.#place.wake();
      this.#reading = false;
    }
  }

  /** Sends what is pending where it is wanted. */
  #deal(): void {
    while (this.#pending.bytes > 0 && !this.#failure) {
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

  /** The lane to change to, if one is idle and what is pending is worth the change. */
  #nextLane(): EncoderLane | undefined {
    const isSegment = this.#pending.bytes >= this.#segmentBytes;
    const isWorthwhile =
      isSegment || (this.#sourceEnded && this.#pending.bytes > (paddingCadence + 1) * this.#frameBytes);
    return (isWorthwhile ? this.#hungryLane() : undefined) ?? (isSegment ? this.#borrowLane() : undefined);
  }

  #endLanes(): void {
    const pcmFrameBytes = bytesPerPcmFrame(this.#format);
    if (this.#sentBytes % pcmFrameBytes !== 0) throw new Error("The PCM ends inside a sample.");
    if (this.#sentBytes === 0) throw new ServiceError("UPLOAD_INCOMPLETE", "The file holds no sound.");
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
    this.#children.push(child);
    const lane = new EncoderLane(child, this.#mp3, (end) => {
      if (end) this.#onLaneEnd(lane, end);
      // Not only when the source gives more: one that is slow just now shall not keep sound waiting.
      else this.#deal();
      this.#notify();
    });
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
  }

  /**
   * Makes another lane the one that the source flows to. The border lies a lead-out before what the old lane has
   * already got, so that a source that stalls here leaves no lane waiting for its last samples; and it lies where the
   * new lane is at the same point of the padding cadence, so that its frames are as long as in a single pass.
   */
  #switchTo(lane: EncoderLane): void {
    this.#send(modulo(-this.#sentBytes, this.#frameBytes));
    const leadIn = leadInSamples / this.#samplesPerFrame;
    const leadOut = leadOutSamples / this.#samplesPerFrame;
    const firstLaneFrame = lane.fedBytes / this.#frameBytes + leadIn;
    const earliest = this.#sentBytes / this.#frameBytes - leadOut;
    const shift = modulo(firstLaneFrame - earliest, paddingCadence);
    this.#send(shift * this.#frameBytes);
    const border = earliest + shift;
    this.#spans.at(-1)!.endFrame = border;
    this.#spans.push({ lane, firstFrame: border, firstLaneFrame });
    lane.feed({ pcm: Buffer.from(this.#tail), release() {} });
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
      if (this.#mp3Frames === span.endFrame) this.#spans.shift();
      else if (lane.ended && taken.length === 0) throw conversionFailed(`only ${lane.frames} frames`);
      else return taken;
      if (taken.length > 0) return taken;
    }
    return [];
  }

  /** Frames of the MP3 of which it is certain that the current lane gives them. */
  #decidedFrames(): number {
    if (this.#maxLanes === 1) return Infinity;
    return Math.floor(this.#sentBytes / this.#frameBytes) - leadOutSamples / this.#samplesPerFrame;
  }

  /** Whether every frame was taken, and every lane has ended and proved right. */
  #finished(): boolean {
    if (!this.#lanesEnding || this.#spans.length > 0 || this.#lanes.some((lane) => !lane.ended)) return false;
    for (const lane of this.#lanes) {
      const due = mp3FramesFor(lane.fedBytes / bytesPerPcmFrame(this.#format), this.#samplesPerFrame);
      if (!lane.finish() || (!this.#resampled && lane.frames !== due)) {
        throw conversionFailed(`${lane.frames} frames instead of ${due}`);
      }
    }
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
