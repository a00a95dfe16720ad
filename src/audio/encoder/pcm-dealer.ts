import { ServiceError } from "../../errors/errors.ts";
import type { MemoryBlocks } from "../../memory/memory-blocks.ts";
import { mainDataSlotBytes, mpegVersionOf } from "../mp3/mp3-frame.ts";
import { mostMainDataBegin } from "../mp3/side-information.ts";
import { noiseLike } from "./noise-like.ts";
import { bytesPerPcmFrame, type PcmFormat } from "../pcm-format.ts";
import type { Encoder, Mp3Format } from "./encoder.ts";
import type { FrameGrid } from "./frame-grid.ts";
import type { Joint } from "./joint.ts";
import { PcmQueue } from "./pcm-queue.ts";
import { Segments, type SegmentEnd } from "./segments.ts";

/** Silence after resampled sound, in samples at the MP3's rate, so that the resampler's rounding drops no sound. */
const resamplerSilence = 64;

const silence = Buffer.alloc(256 * 1024);

/** What it takes to go on encoding at one place of the sound. */
export interface EncodingState {
  /** Bytes of PCM before the place. */
  readonly sentBytes: number;
  /** The last of them, from the next encoder's lead-in on. */
  readonly kept: Buffer;
  readonly end: SegmentEnd;
}

/** A place of the sound at which the encoding may have to go on. */
interface Mark {
  readonly sentBytes: number;
  readonly joint: Joint;
  kept: Buffer | undefined;
  /** Gets the state when the frames before the place have been taken. */
  readonly onPass: (state: EncodingState) => void;
}

/**
 * Deals the PCM of one sound to encoders, one after the other, and gives each the sound around its joints. Their
 * segments become one MP3. Who gets how much is decided elsewhere.
 */
export class PcmDealer {
  readonly #format: PcmFormat;
  readonly #mp3: Mp3Format;
  readonly #grid: FrameGrid;
  readonly #blocks: MemoryBlocks;
  readonly #segments: Segments;
  /** PCM that no encoder has got yet. */
  readonly #pending: PcmQueue;
  /** The PCM that was sent last: the next encoder's lead-in, followed by this encoder's lead-out. */
  #tail = Buffer.alloc(0);
  #current: Encoder;
  #sentBytes = 0;
  /** Where the segment after the last one begins, if that was ended. */
  #joint: Joint = { first: 0, last: 0 };
  /** Places that were not passed yet, in order. */
  readonly #marks: Mark[] = [];

  /** The encoder `first` gets the beginning, or what comes after `from`. */
  constructor(
    format: PcmFormat,
    mp3: Mp3Format,
    grid: FrameGrid,
    blocks: MemoryBlocks,
    first: Encoder,
    from?: EncodingState,
  ) {
    this.#format = format;
    this.#mp3 = mp3;
    this.#grid = grid;
    this.#blocks = blocks;
    this.#pending = new PcmQueue(blocks);
    this.#segments = new Segments(reservoirFrames(mp3), from?.end);
    this.#current = first;
    if (!from) {
      this.#segments.start(first, 0);
      return;
    }
    this.#sentBytes = from.sentBytes;
    this.#lastOf(from.kept.length).set(from.kept);
    this.#joint = from.end.joint;
    this.goOnWith(first);
  }

  /** The encoder that gets the PCM. */
  get current(): Encoder {
    return this.#current;
  }

  /** Bytes of PCM that no encoder has got yet. */
  get pendingBytes(): number {
    return this.#pending.bytes;
  }

  /** Bytes of the sound that encoders have got. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Whether an encoder gets PCM or has frames that are still to be taken. */
  needs(encoder: Encoder): boolean {
    return encoder === this.#current || this.#segments.includes(encoder);
  }

  /** Adds PCM, which is copied, to what is pending. */
  push(pcm: Buffer): void {
    this.#pending.push(pcm);
  }

  /** Marks the end of what is pending, which is a whole number of samples. */
  mark(onPass: Mark["onPass"]): void {
    const sentBytes = this.#sentBytes + this.#pending.bytes;
    const mark: Mark = { sentBytes, joint: this.#grid.jointIn(sentBytes), kept: undefined, onPass };
    this.#marks.push(mark);
    this.#keepFor(mark);
  }

  /** Whether places were marked that were not passed yet. */
  get hasMarks(): boolean {
    return this.#marks.length > 0;
  }

  /** Passes the next place if that is possible, and returns whether it was passed or given up. */
  passMark(): boolean {
    const [mark] = this.#marks;
    if (!mark) return false;
    const end = this.#segments.endIn(mark.joint);
    if (end === undefined || (end !== "never" && mark.kept === undefined)) return false;
    this.#marks.shift();
    if (end !== "never") {
      const kept = mark.kept!.subarray(this.#leadInOf(end.joint) - this.#leadInOf(mark.joint));
      mark.onPass({ sentBytes: mark.sentBytes, kept, end });
    }
    return true;
  }

  /** Keeps the PCM before a mark, when it has just been sent. */
  #keepFor(mark: Mark): void {
    if (mark.sentBytes !== this.#sentBytes) return;
    const keptFrom = this.#leadInOf(mark.joint);
    mark.kept = Buffer.from(this.#lastOf(this.#sentBytes - keptFrom));
  }

  /** Where the lead-in of an encoder begins that makes frames from this joint on, in the PCM. */
  #leadInOf({ first }: Joint): number {
    return this.#grid.startOf(Math.max(0, first - this.#grid.leadInFrames));
  }

  /** Moves pending PCM to the current encoder and keeps the last of it. */
  send(byteCount: number): void {
    const end = this.#sentBytes + byteCount;
    for (const mark of this.#marks) {
      if (mark.kept !== undefined || mark.sentBytes > end) continue;
      this.#sendPart(mark.sentBytes - this.#sentBytes);
      this.#keepFor(mark);
    }
    this.#sendPart(end - this.#sentBytes);
  }

  #sendPart(byteCount: number): void {
    for (const portion of this.#pending.take(byteCount)) {
      const { pcm } = portion;
      const tail = this.#lastOf(Math.min(this.#sentBytes + pcm.length, this.#grid.jointBytes));
      tail.copyWithin(0, pcm.length);
      pcm.copy(tail, Math.max(0, tail.length - pcm.length), Math.max(0, pcm.length - tail.length));
      this.#sentBytes += pcm.length;
      this.#current.feed(portion);
    }
  }

  /** The last bytes that were sent; what came before the sound is silence. The memory for them grows with a short sound. */
  #lastOf(byteCount: number): Buffer {
    const { length } = this.#tail;
    if (length < byteCount) {
      const tail = Buffer.alloc(Math.max(byteCount, Math.min(4 * length, this.#grid.jointBytes)));
      this.#tail.copy(tail, tail.length - length);
      this.#tail = tail;
    }
    return this.#tail.subarray(this.#tail.length - byteCount);
  }

  /**
   * Makes another encoder the current one. The old one has got all that it needs for the joint, also if the source
   * stalls now. At the joint, the new one is at the same point as the old one, so that its frames have the same lengths
   * as in one pass.
   */
  switchTo(encoder: Encoder): void {
    const { silentFrames, sharedFrames, period } = this.#grid;
    const frameBytes = this.#grid.startOf(1);
    this.send(modulo(-this.#sentBytes, frameBytes));
    if (encoder.fedBytes > 0) feedSilence(encoder, silentFrames * frameBytes);
    const leadIn = encoder.fedBytes / frameBytes;
    const leadInOfMp3 = this.#sentBytes / frameBytes - sharedFrames;
    const shift = modulo(leadIn - leadInOfMp3, period);
    this.send(shift * frameBytes);
    const offset = leadIn - leadInOfMp3 - shift;
    this.#segments.endAt(this.#grid.jointIn(this.#sentBytes));
    this.#segments.start(encoder, offset);
    const kept = this.#lastOf(sharedFrames * frameBytes);
    feedCopy(encoder, kept, this.#blocks);
    this.#current = encoder;
  }

  /** Ends the segment at the end of what was sent. The encoder has got all that it needs, and can be ended. */
  endSegment(): void {
    const partOfSample = modulo(-this.#sentBytes, bytesPerPcmFrame(this.#format));
    if (partOfSample > 0) this.#current.feed({ pcm: Buffer.alloc(partOfSample), release() {} });
    this.#joint = this.#grid.jointIn(this.#sentBytes);
    this.#segments.endAt(this.#joint);
  }

  /**
   * Goes on with a new encoder where the last segment ended. To bring it to the same point as the last encoder, it gets
   * silence, and noise at its end, in place of the sound since the grid's last beginning; then the lead-in and all sound after it,
   * which was kept.
   */
  goOnWith(encoder: Encoder): void {
    const leadIn = Math.max(0, this.#joint.first - this.#grid.leadInFrames);
    const beginning = this.#grid.beginningBefore(leadIn);
    const keptFrom = this.#grid.startOf(leadIn);
    const kept = this.#lastOf(this.#sentBytes - keptFrom);
    const fillBytes = keptFrom - this.#grid.startOf(beginning);
    const noise = noiseLike(kept, this.#format, Math.min(fillBytes, this.#grid.startOf(this.#grid.noisyFrames)));
    feedSilence(encoder, fillBytes - noise.length);
    if (noise.length > 0) encoder.feed({ pcm: noise, release() {} });
    feedCopy(encoder, kept, this.#blocks);
    this.#segments.start(encoder, -beginning);
    this.#current = encoder;
  }

  /**
   * Ends the sound. All of it was sent.
   * @throws {ServiceError} `UPLOAD_INCOMPLETE` if there is no sound
   */
  end(): void {
    const pcmFrameBytes = bytesPerPcmFrame(this.#format);
    if (this.#sentBytes % pcmFrameBytes !== 0) throw new Error("The PCM ends inside a sample.");
    if (this.#sentBytes === 0) throw new ServiceError("UPLOAD_INCOMPLETE", "The file contains no sound.");
    if (this.#mp3.sampleRateHz !== this.#format.sampleRateHz) {
      const silentSamples = Math.ceil((resamplerSilence * this.#format.sampleRateHz) / this.#mp3.sampleRateHz);
      feedSilence(this.#current, silentSamples * pcmFrameBytes);
    }
    this.#segments.endBefore(this.#grid.allFramesOf(this.#sentBytes));
  }

  /** Takes the next frames of the MP3 that are available. */
  takeFrames(): Buffer[] {
    return this.#segments.take(() => this.#grid.jointIn(this.#sentBytes).first, this.#marks[0]?.joint);
  }

  /** Whether all frames were taken, after the end. */
  get framesAreTaken(): boolean {
    return this.#segments.areTaken;
  }
}

/** Number of frames in which the bit reservoir of the next frame can lie. */
function reservoirFrames({ sampleRateHz, channels, bitrateKbps }: Mp3Format): number {
  const mpegVersion = mpegVersionOf(sampleRateHz) ?? 1;
  return Math.ceil(
    mostMainDataBegin({ mpegVersion, channels }) / mainDataSlotBytes(sampleRateHz, channels, bitrateKbps),
  );
}

/** Feeds a copy of PCM, which is going to change. The copy waits in the encoder's queue. */
function feedCopy(encoder: Encoder, pcm: Buffer, blocks: MemoryBlocks): void {
  for (let at = 0; at < pcm.length; at += blocks.blockBytes) {
    const block = blocks.take();
    const byteCount = pcm.copy(block, 0, at);
    encoder.feed({ pcm: block.subarray(0, byteCount), release: () => blocks.giveBack(block) });
  }
}

function feedSilence(encoder: Encoder, byteCount: number): void {
  for (let left = byteCount; left > 0; left -= silence.length) {
    encoder.feed({ pcm: silence.subarray(0, left), release() {} });
  }
}

function modulo(value: number, divisor: number): number {
  return ((value % divisor) + divisor) % divisor;
}
