import { conversionFailed, type Encoder } from "./encoder.ts";
import { joinFrames, jointFrames, type Joint, type JointFrame } from "./joint.ts";

/** A part of the MP3 and the encoder that makes it. */
interface Segment {
  readonly encoder: Encoder;
  /** A frame's number in the encoder minus its number in the MP3. */
  readonly offset: number;
  /** Its frames around the joint with the segment before, as far as they were taken. */
  readonly atJoint: JointFrame[];
  /** Where the next segment may begin; absent while its encoder gets PCM. */
  joint?: Joint;
  /** The number of frames of the MP3, if it is the last segment. */
  endFrame?: number;
}

/** The segments of one MP3. Takes the frames of each segment from its encoder and joins them. */
export class Segments {
  readonly #segments: Segment[] = [];
  /** Frames before a joint in which main data of frames behind it may lie. */
  readonly #reservoirFrames: number;
  #takenFrames = 0;
  /** Frames of the first segment that come next; a joint may still change them. */
  #held: JointFrame[] = [];
  /** Where the first segment begins. */
  #firstFrame = 0;

  constructor(reservoirFrames: number) {
    this.#reservoirFrames = reservoirFrames;
  }

  /** Whether the frames of all segments were taken. */
  get areTaken(): boolean {
    return this.#segments.length === 0;
  }

  /** Whether frames of this encoder are still to be taken. */
  includes(encoder: Encoder): boolean {
    return this.#segments.some((segment) => segment.encoder === encoder);
  }

  /** Starts a segment at the last one's joint. */
  start(encoder: Encoder, offset: number): void {
    this.#segments.push({ encoder, offset, atJoint: [] });
  }

  /** Ends the last segment: the next one begins somewhere in `joint`. */
  endAt(joint: Joint): void {
    this.#segments.at(-1)!.joint = joint;
  }

  /** Ends the last segment and the MP3 before this frame. */
  endBefore(frame: number): void {
    this.#segments.at(-1)!.endFrame = frame;
  }

  /**
   * Takes the next frames that are available. From a segment without an end, takes those before which no joint can
   * come any more: `earliestJoint` is the earliest one.
   * @throws {ServiceError} `CONVERSION_FAILED` if an encoder returned too few frames
   */
  take(earliestJoint: () => number): Buffer[] {
    for (;;) {
      const [segment, next] = this.#segments;
      if (!segment) return [];
      const { encoder, joint, endFrame } = segment;
      const taken = this.#takeBefore(segment, endFrame ?? (joint?.first ?? earliestJoint()) - this.#reservoirFrames);
      if (this.#takenFrames === endFrame) this.#segments.shift();
      if (taken.length > 0) return taken;
      if (this.#takenFrames === endFrame) continue;
      if (joint && this.#join(segment, joint, next)) continue;
      const due = endFrame ?? joint?.last ?? Infinity;
      if (encoder.ended && encoder.frames - segment.offset < due)
        throw conversionFailed(`only ${encoder.frames} frames`);
      return [];
    }
  }

  #takeBefore({ encoder, offset }: Segment, frame: number): Buffer[] {
    const held = this.#held.splice(0, Math.max(0, frame - this.#takenFrames)).map(({ bytes }) => bytes);
    this.#takenFrames += held.length;
    if (this.#held.length > 0) return held;
    const taken = encoder.take(this.#takenFrames + offset, frame + offset);
    this.#takenFrames = Math.max(this.#takenFrames, Math.min(encoder.frames - offset, frame));
    return [...held, ...taken];
  }

  /** Joins the first two segments, if their frames around the joint have been made. */
  #join(segment: Segment, joint: Joint, next: Segment | undefined): boolean {
    const firstFrame = this.#takenFrames;
    if (firstFrame < joint.first - this.#reservoirFrames) return false;
    const before = this.#held;
    before.push(...takeFrames(segment, firstFrame + before.length, joint.last));
    if (!next) return false;
    const after = next.atJoint;
    after.push(...takeFrames(next, firstFrame + after.length, joint.last + 1));
    if (before.length < joint.last - firstFrame || after.length <= joint.last - firstFrame) return false;
    const possible = { first: Math.max(joint.first, this.#firstFrame), last: joint.last };
    this.#firstFrame = joinFrames(before, after, firstFrame, possible);
    before.push(...after.splice(0));
    this.#segments.shift();
    return true;
  }
}

function takeFrames({ encoder, offset }: Segment, from: number, to: number): JointFrame[] {
  return jointFrames(encoder.take(from + offset, to + offset));
}
