import { readFrameHeader } from "../mp3/mp3-frame.ts";
import {
  clearGranule,
  mainDataBytes,
  mostMainDataBegin,
  readMainDataBegin,
  sideInformationLayout,
  type SideInformationKind,
  writeMainDataBegin,
} from "../mp3/side-information.ts";
import { conversionFailed } from "./encoder.ts";

/** The frames before which one encoder may take over from another; both have made frames for all of them. */
export interface Joint {
  readonly first: number;
  readonly last: number;
}

/**
 * A frame of an encoder. Its main data may begin in the frames before it: in the bit reservoir. What the last frame
 * left of its own bytes is the reservoir for the next ones (ISO 11172-3 section 2.4.3.1).
 */
export interface JointFrame {
  readonly bytes: Buffer;
  readonly kind: SideInformationKind;
  /** Bytes for main data: those behind the header and the side information. */
  readonly slotBytes: number;
}

/** Cuts buffers of whole frames into single frames. */
export function jointFrames(buffers: readonly Buffer[]): JointFrame[] {
  const frames: JointFrame[] = [];
  for (const buffer of buffers) {
    for (let at = 0; at < buffer.length;) {
      const header = readFrameHeader(buffer, at);
      if (!header) throw conversionFailed("no frame at a joint");
      const bytes = buffer.subarray(at, at + header.byteLength);
      frames.push({ bytes, kind: header, slotBytes: header.byteLength - 4 - header.sideInfoBytes });
      at += header.byteLength;
    }
  }
  return frames;
}

/**
 * Joins the frames of two encoders and returns the number of the last one's first frame. That is the first at which
 * this encoder needs no more of the bit reservoir than the other one has left. Frames keep their lengths, and whatever
 * lies between the main data of the two encoders becomes stuffing.
 *
 * Both lists begin with frame number `firstListed`, and have one frame for each number before `joint.last`; `after` has
 * one more. Afterwards `before` has the frames up to the joint and `after` those from it on. If no frame is suitable,
 * the last granules before the joint lose their sound.
 * @throws {ServiceError} `CONVERSION_FAILED` if the frames of the two have different lengths
 */
export function joinFrames(before: JointFrame[], after: JointFrame[], firstListed: number, joint: Joint): number {
  let best = { at: joint.first, missing: Infinity };
  for (let at = joint.first; at <= joint.last && best.missing > 0; at++) {
    const index = at - firstListed;
    const missing = Math.max(0, neededBy(after[index]!) - leftAfter(before, index));
    if (missing < best.missing) best = { at, missing };
  }
  const index = best.at - firstListed;
  before.length = index;
  if (best.missing > 0) muteFor(before, neededBy(after[index]!));
  moveMainData(before, after, leftAfter(before, index), neededBy(after[index]!));
  after.splice(0, index);
  return best.at;
}

/**
 * The joint without the frames that an encoder behind it hardly needs: it begins at the last one before which half of the reservoir
 * is left, with two more. All of them may be needed where the sound leaves the reservoir full, and in MPEG-2, whose small one is soon
 * full: there the new encoder has a full one, too. `frames` are those of the encoder before it, up to the joint's last one; the
 * first has the number `firstListed`.
 */
export function shortenedJoint(frames: readonly JointFrame[], firstListed: number, joint: Joint): Joint {
  const { first, last } = joint;
  const [frame] = frames;
  if (frame?.kind.mpegVersion !== 1) return joint;
  const mostBytes = mostMainDataBegin(frame.kind);
  const leftBefore = Array.from({ length: last - first }, (_, at) => leftAfter(frames, first + at - firstListed));
  if (leftBefore.every((left) => left >= 0.75 * mostBytes)) return joint;
  const from = leftBefore.slice(0, -1).findLastIndex((left) => left >= mostBytes / 2);
  return { first: first + Math.max(0, from), last };
}

/** Bytes that a frame takes out of the reservoir. */
function neededBy({ bytes, kind }: JointFrame): number {
  return readMainDataBegin(bytes, 0, kind);
}

/** Bytes that the first `count` frames leave for the next ones. */
function leftAfter(frames: readonly JointFrame[], count: number): number {
  let emptyBytes = 0;
  for (let index = count - 1; index >= 0; index--) {
    const { bytes, kind, slotBytes } = frames[index]!;
    const usedBytes = mainDataBytes(bytes, 0, kind);
    if (usedBytes > 0) return emptyBytes + readMainDataBegin(bytes, 0, kind) + slotBytes - usedBytes;
    emptyBytes += slotBytes;
  }
  return emptyBytes;
}

/** Clears granules, the last one first, until so many bytes are left. */
function muteFor(frames: readonly JointFrame[], neededBytes: number): void {
  for (const { bytes, kind } of frames.toReversed()) {
    for (const granule of [...sideInformationLayout(kind).part23Lengths.keys()].toReversed()) {
      if (leftAfter(frames, frames.length) >= neededBytes) return;
      clearGranule(bytes, 0, kind, granule);
    }
  }
}

/**
 * Copies the last `neededBytes` of main data of `after` that lie before the joint into the frames of `before`, and
 * clears the rest of the bytes that those have left.
 */
function moveMainData(
  before: readonly JointFrame[],
  after: readonly JointFrame[],
  leftBytes: number,
  neededBytes: number,
): void {
  let copied = 0;
  for (let index = before.length - 1, passed = 0; index >= 0 && passed < leftBytes; index--) {
    const { bytes, kind, slotBytes } = before[index]!;
    const from = after[index]!.bytes;
    if (from.length !== bytes.length) throw conversionFailed("two encoders made frames of different lengths");
    const free = Math.min(slotBytes, leftBytes - passed);
    const moved = Math.min(free, neededBytes - copied);
    bytes.fill(0, bytes.length - free, bytes.length - moved);
    from.copy(bytes, bytes.length - moved, from.length - moved);
    copied += moved;
    // Some decoders keep only what a frame refers to, so a frame without sound refers to what comes later.
    if (mainDataBytes(bytes, 0, kind) === 0) writeMainDataBegin(bytes, 0, kind, neededBytes - copied);
    passed += free;
  }
  if (copied < neededBytes) throw conversionFailed(`a joint needs ${neededBytes} bytes and has ${copied}`);
}
