import { conversionFailed, type Encoder } from "./encoder.ts";
import { joinFrames, jointFrames, shortenedJoint, type Joint, type JointFrame } from "./joint.ts";

/** A part of the MP3 and the encoder that makes it. */
interface Segment {
  /** Undefined if it was made before the segments were restored; then its last frames are held. */
  readonly encoder: Encoder | undefined;
  /** A frame's number in the encoder minus its number in the MP3. */
  readonly offset: number;
  /** Its frames around the joint with the segment before, as far as they were taken. */
  readonly atJoint: JointFrame[];
  /** Where the next segment may begin; absent while its encoder gets PCM. */
  joint?: Joint;
  /** The number of frames of the MP3, if it is the last segment. */
  endFrame?: number;
}

/** The end of a segment, whose frames were all made. */
export interface SegmentEnd {
  /** Where the next segment may begin. */
  readonly joint: Joint;
  /** The number of frames before those in `frames`. */
  readonly takenFrames: number;
  /** The frames that the joint may change, up to its last one. */
  readonly frames: Buffer;
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

  /** `from` is the end of a segment with which to go on. */
  constructor(reservoirFrames: number, from?: SegmentEnd) {
    this.#reservoirFrames = reservoirFrames;
    if (!from) return;
    this.#segments.push({ encoder: undefined, offset: 0, atJoint: [], joint: from.joint });
    this.#takenFrames = from.takenFrames;
    this.#firstFrame = from.takenFrames;
    this.#held = jointFrames([from.frames]);
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
   * come any more: `earliestJoint` is the earliest one. Takes no frames that a segment which ends in `mark` would hold.
   * @throws {ServiceError} `CONVERSION_FAILED` if an encoder returned too few frames
   */
  take(earliestJoint: () => number, mark?: Joint): Buffer[] {
    const end = mark ? this.#heldFrom(mark) : Infinity;
    for (;;) {
      const [segment, next] = this.#segments;
      if (!segment) return [];
      const { encoder, joint, endFrame } = segment;
      const first = endFrame ?? (joint?.first ?? earliestJoint()) - this.#reservoirFrames;
      const taken = this.#takeBefore(segment, Math.min(first, end));
      if (this.#takenFrames === endFrame) this.#segments.shift();
      if (taken.length > 0 || this.#takenFrames === end) return taken;
      if (this.#takenFrames === endFrame) continue;
      if (joint && this.#join(segment, joint, next)) continue;
      const due = endFrame ?? joint?.last ?? Infinity;
      if (encoder?.ended && encoder.frames - segment.offset < due)
        throw conversionFailed(`only ${encoder.frames} frames`);
      return [];
    }
  }

  /**
   * The end of a segment at this joint, as if no encoder went on behind it: undefined while its frames are being made, and
   * "never" if other frames than those of one encoder belong there.
   */
  endIn(joint: Joint): SegmentEnd | "never" | undefined {
    const takenFrames = this.#heldFrom(joint);
    const [segment] = this.#segments;
    if (!segment || takenFrames < this.#takenFrames) return "never";
    const { first, last } = segment.joint ?? { first: Infinity, last: Infinity };
    const isOfSeveral = takenFrames < last && first < joint.last;
    if (isOfSeveral || (segment.endFrame ?? Infinity) < joint.last) return "never";
    if (takenFrames > this.#takenFrames || takenFrames >= last) return undefined;
    this.#held.push(...takeFrames(segment, takenFrames + this.#held.length, joint.last));
    const count = joint.last - takenFrames;
    if (this.#held.length < count) return undefined;
    const held = this.#held.slice(0, count);
    const frames = Buffer.concat(held.map(({ bytes }) => bytes));
    return { joint: shortenedJoint(held, takenFrames, joint), takenFrames, frames };
  }

  /** The first frame that a joint may change. */
  #heldFrom(joint: Joint): number {
    return Math.max(0, joint.first - this.#reservoirFrames);
  }

  #takeBefore({ encoder, offset }: Segment, frame: number): Buffer[] {
    const held = this.#held.splice(0, Math.max(0, frame - this.#takenFrames)).map(({ bytes }) => bytes);
    this.#takenFrames += held.length;
    if (this.#held.length > 0 || !encoder) return held;
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
  return encoder ? jointFrames(encoder.take(from + offset, to + offset)) : [];
}
