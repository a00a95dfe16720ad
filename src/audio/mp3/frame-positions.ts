import { mpegVersionOf, samplesPerFrameOf, type Mp3FrameHeader } from "./mp3-frame.ts";

/** The properties that all frames of one MP3 of constant bit rate share. */
export type FrameFormat = Pick<Mp3FrameHeader, "bitrateKbps" | "sampleRateHz" | "channels">;

/**
 * Where the frames of a constant bit rate MP3 begin. If its frames are not a whole number of bytes, LAME makes some of
 * them one byte longer; which ones follows from their numbers (LAME 3.100, `slot_lag` in `encoder.c`).
 */
export class FramePositions {
  /** Bytes of a frame without padding. */
  readonly #frameBytes: number;
  /** The part of a byte that is missing from such a frame, as a fraction. */
  readonly #lagPerFrame: number;
  readonly #sampleRateHz: number;

  constructor({ bitrateKbps, sampleRateHz }: FrameFormat) {
    const bytesPerSecond = samplesPerFrameOf(mpegVersionOf(sampleRateHz) ?? 1) * bitrateKbps * 125;
    this.#sampleRateHz = sampleRateHz;
    this.#frameBytes = Math.floor(bytesPerSecond / sampleRateHz);
    this.#lagPerFrame = bytesPerSecond % sampleRateHz;
  }

  /** Offset of a frame after the first one, in bytes. */
  startOf(frame: number): number {
    const paddingBytes = frame === 0 ? 0 : Math.ceil(((frame - 1) * this.#lagPerFrame) / this.#sampleRateHz);
    return frame * this.#frameBytes + paddingBytes;
  }

  /** The number of the frame that contains this byte. */
  frameAt(offset: number): number {
    let frame = Math.floor(offset / (this.#frameBytes + this.#lagPerFrame / this.#sampleRateHz));
    while (this.startOf(frame) > offset) frame--;
    while (this.startOf(frame + 1) <= offset) frame++;
    return frame;
  }
}
