import { ServiceError } from "../../errors/errors.ts";
import type { FfmpegEnd, FfmpegProcess } from "./ffmpeg-starter.ts";
import type { Mp3FrameHeader } from "../mp3/mp3-frame.ts";
import { mpegVersionOf, readFrameHeader, samplesPerFrameOf } from "../mp3/mp3-frame.ts";
import { KeptBytes } from "../../memory/kept-bytes.ts";
import type { MemoryBlocks } from "../../memory/memory-blocks.ts";
import type { PcmPortion } from "./pcm-queue.ts";

/** Properties that all frames of one MP3 share. */
export type Mp3Format = Pick<Mp3FrameHeader, "sampleRateHz" | "channels" | "bitrateKbps">;

/** Maximum written to the child at once; several times the size of its pipe. */
const writeBytes = 256 * 1024;

/** Maximum of MP3 kept in memory; beyond it, the child has to wait. */
const maxReceivedBytes = 512 * 1024;

/** MP3 is taken in copies of at most this size. */
const takenBytes = 64 * 1024;

/**
 * An ffmpeg process that takes PCM and returns MP3 frames, numbered from 0. Neither side blocks the other. Disposing of
 * it kills the process.
 */
export class Encoder implements AsyncDisposable {
  /** PCM bytes given to the child so far. */
  fedBytes = 0;
  /** Bytes at the beginning of the PCM that the child has already got. */
  #givenBytes: number;
  /** The bytes of it that the child has not read yet. */
  backlogBytes = 0;
  /** Number of MP3 frames read so far, which is the number of the next one. */
  frames = 0;
  /** How the child ended; undefined while it runs. */
  ended: FfmpegEnd | undefined;
  /** Whether the child was told that no more PCM comes. */
  ending = false;
  readonly #child: FfmpegProcess;
  readonly #format: Mp3Format;
  readonly #onChange: (end?: FfmpegEnd) => void;
  readonly #queue: PcmPortion[] = [];
  /** What the child returned. Most of it waits, because the frames of another encoder come first. */
  readonly #received: KeptBytes;
  /** The bytes of it that were taken. */
  #takenBytes = 0;
  readonly #mostFrameBytes: number;
  #writing = false;
  /** Whether the child never has to wait for the reader of its MP3. */
  #readsAll = false;
  #hurried = false;
  /** Number of looks in a row at which the child had work and had made no progress. */
  #quietLooks = 0;

  /**
   * The child has already got the first `givenBytes` of the PCM. MP3 is kept in `memory` until it is taken. `onChange` is
   * called when the child has read PCM, returned MP3, or ended. The last call has how it ended.
   */
  constructor(
    child: FfmpegProcess,
    givenBytes: number,
    format: Mp3Format,
    memory: MemoryBlocks,
    onChange: (end?: FfmpegEnd) => void,
  ) {
    this.#child = child;
    this.#givenBytes = givenBytes;
    this.#format = format;
    this.#received = new KeptBytes(memory, 0);
    this.#mostFrameBytes = mostFrameBytes(format);
    this.#onChange = onChange;
    child.stdout.on("data", (bytes: Buffer) => {
      this.#quietLooks = 0;
      this.#received.push(bytes);
      if (this.#receivedBytes >= maxReceivedBytes && !this.#readsAll) child.stdout.pause();
      onChange();
    });
    void this.#awaitEnd();
  }

  /**
   * Looks whether the child makes progress. While the service itself stands still, nobody looks, and so that time does not
   * count.
   * @returns how many looks in a row have found work and no progress, this one included
   */
  look(): number {
    const idle = this.ended || this.#child.stdout.isPaused() || (this.backlogBytes === 0 && !this.ending);
    this.#quietLooks = idle ? 0 : this.#quietLooks + 1;
    return this.#quietLooks;
  }

  /** Moves the child out of the background, once. */
  hurry(): void {
    if (!this.#hurried) this.#child.hurry();
    this.#hurried = true;
  }

  /** Whether the child has reported an error. How it ends tells which. */
  get hasComplained(): boolean {
    return this.#child.hasComplained;
  }

  /** Whether the child makes no progress because other processes use every core. */
  get isStarved(): boolean {
    return this.#child.isStarved();
  }

  /** Queues PCM for the child. The portion is released when the child has read it. */
  feed(portion: PcmPortion): void {
    if (this.backlogBytes === 0) this.#quietLooks = 0;
    this.fedBytes += portion.pcm.length;
    const givenBytes = Math.min(this.#givenBytes, portion.pcm.length);
    this.#givenBytes -= givenBytes;
    const left = givenBytes === 0 ? portion : withoutFirst(givenBytes, portion);
    if (left.pcm.length === 0) return left.release();
    this.#queue.push(left);
    this.backlogBytes += left.pcm.length;
    this.#write();
  }

  /** Reads all of the output from now on, even if it is not taken. To be called when little PCM is left. */
  readAll(): void {
    if (this.#child.stdout.isPaused()) this.#quietLooks = 0;
    this.#readsAll = true;
    this.#child.stdout.resume();
  }

  /** Lets the child finish what it was fed. Its last output is read even if it is not taken. */
  end(): void {
    if (!this.ending) this.#quietLooks = 0;
    this.ending = true;
    this.readAll();
    this.#write();
  }

  /**
   * Takes the available frames from number `from` up to, but not including, `to`, and drops earlier ones.
   * @returns copies of them
   * @throws {ServiceError} `CONVERSION_FAILED` if the output is not a frame of the MP3 format
   */
  take(from: number, to: number): Buffer[] {
    const taken: Buffer[] = [];
    while (this.frames < to && this.#receivedBytes > 0) {
      const most = Math.min(this.#receivedBytes, takenBytes, (to - this.frames) * this.#mostFrameBytes);
      const bytes = this.#received.between(this.#takenBytes, this.#takenBytes + most);
      let start = 0;
      let end = 0;
      while (this.frames < to && bytes.length - end >= 4) {
        const frameBytes = this.#frameBytes(bytes, end);
        if (end + frameBytes > bytes.length) break;
        end += frameBytes;
        this.frames += 1;
        if (this.frames <= from) start = end;
      }
      if (end === 0) break;
      if (end > start) taken.push(bytes.subarray(start, end));
      this.#takenBytes += end;
      this.#received.forgetBefore(this.#takenBytes);
    }
    if (this.#receivedBytes < maxReceivedBytes && this.#child.stdout.isPaused()) {
      this.#quietLooks = 0;
      this.#child.stdout.resume();
    }
    return taken;
  }

  /** Reads what is left, and returns whether the output ends with a whole frame. */
  finish(): boolean {
    this.take(Infinity, Infinity);
    return this.#receivedBytes === 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
    this.#received.forgetBefore(this.#received.end);
  }

  get #receivedBytes(): number {
    return this.#received.end - this.#takenBytes;
  }

  async #awaitEnd(): Promise<void> {
    this.ended = await this.#child.ended;
    this.#onChange(this.ended);
  }

  #frameBytes(bytes: Buffer, offset: number): number {
    const header = readFrameHeader(bytes, offset);
    const { sampleRateHz, channels, bitrateKbps } = this.#format;
    if (header?.sampleRateHz !== sampleRateHz || header.channels !== channels || header.bitrateKbps !== bitrateKbps) {
      throw conversionFailed(
        `frame ${this.frames} is not MP3 of ${bitrateKbps} kbit/s, ${sampleRateHz} Hz, ${channels} ch.`,
      );
    }
    return header.byteLength;
  }

  /** Writes many chunks at once, one write at a time, so that the backlog is known and there are few system calls. */
  #write(): void {
    if (this.#writing) return;
    const { stdin } = this.#child;
    const batch: PcmPortion[] = [];
    let batchBytes = 0;
    while (batchBytes < writeBytes && this.#queue.length > 0) {
      const portion = this.#queue.shift()!;
      batchBytes += portion.pcm.length;
      batch.push(portion);
    }
    const last = batch.at(-1);
    if (last === undefined) {
      if (this.ending) stdin.end();
      return;
    }
    this.#writing = true;
    stdin.cork();
    for (const { pcm } of batch.slice(0, -1)) stdin.write(pcm);
    stdin.write(last.pcm, (error) => {
      if (error) return; // the child is gone, and how it ended says why
      for (const portion of batch) portion.release();
      this.#writing = false;
      this.backlogBytes -= batchBytes;
      this.#quietLooks = 0;
      this.#write();
      this.#onChange();
    });
    stdin.uncork();
  }
}

function withoutFirst(bytes: number, portion: PcmPortion): PcmPortion {
  return { pcm: portion.pcm.subarray(bytes), release: () => portion.release() };
}

function mostFrameBytes({ sampleRateHz, bitrateKbps }: Mp3Format): number {
  const withoutPadding = (samplesPerFrameOf(mpegVersionOf(sampleRateHz) ?? 1) * bitrateKbps * 125) / sampleRateHz;
  return Math.floor(withoutPadding) + 1;
}

/** The error for a failed encoder. The reason is only logged. */
export function conversionFailed(reason: string): ServiceError {
  return new ServiceError(
    "CONVERSION_FAILED",
    "The sound could not be encoded. Send the file again.",
    {},
    { cause: new Error(reason) },
  );
}
