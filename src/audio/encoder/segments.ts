import { conversionFailed, type Encoder } from "./encoder.ts";

/** A part of the MP3 and the encoder that makes it. */
interface Segment {
  readonly encoder: Encoder;
  /** Its first frame: the number in the MP3 and the number in the encoder. */
  readonly firstFrame: number;
  readonly firstEncoderFrame: number;
  /** The frame after its last one; absent while its encoder gets PCM. */
  endFrame?: number;
}

/** The segments of one MP3. Takes the frames of each segment from its encoder and joins them. */
export class Segments {
  readonly #segments: Segment[] = [];
  #takenFrames = 0;

  /** Whether the frames of all segments were taken. */
  get areTaken(): boolean {
    return this.#segments.length === 0;
  }

  /** Whether frames of this encoder are still to be taken. */
  includes(encoder: Encoder): boolean {
    return this.#segments.some((segment) => segment.encoder === encoder);
  }

  /** Starts a segment where the last one ends. */
  start(encoder: Encoder, firstFrame: number, firstEncoderFrame: number): void {
    this.#segments.push({ encoder, firstFrame, firstEncoderFrame });
  }

  /** Ends the last segment before this frame. */
  endBefore(frame: number): void {
    this.#segments.at(-1)!.endFrame = frame;
  }

  /**
   * Takes the next frames that are available. From a segment without an end, takes those before `finalFrames`.
   * @throws {ServiceError} `CONVERSION_FAILED` if an encoder returned too few frames
   */
  take(finalFrames: () => number): Buffer[] {
    for (let segment = this.#segments[0]; segment; segment = this.#segments[0]) {
      const { encoder, firstFrame, firstEncoderFrame, endFrame } = segment;
      const offset = firstEncoderFrame - firstFrame;
      const taken = encoder.take(firstEncoderFrame, (endFrame ?? finalFrames()) + offset);
      this.#takenFrames = Math.max(this.#takenFrames, encoder.frames - offset);
      if (this.#takenFrames === endFrame) this.#segments.shift();
      else if (encoder.ended && taken.length === 0) throw conversionFailed(`only ${encoder.frames} frames`);
      else return taken;
      if (taken.length > 0) return taken;
    }
    return [];
  }
}
