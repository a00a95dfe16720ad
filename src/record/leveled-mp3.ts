import type { ByteInterval } from "../http/byte-range.ts";
import { FrameGain } from "../audio/mp3/frame-gain.ts";
import type { FrameFormat } from "../audio/mp3/frame-positions.ts";
import { changeHeadLevel, headLevelBytes } from "../audio/mp3/head-level.ts";

/** What the level of a stored MP3 depends on. */
interface LeveledMp3 extends Omit<FrameFormat, "channels"> {
  readonly channels: number;
  readonly headBytes: number;
  /** Steps of gain that the head already states, but the stored frames do not have. */
  readonly gainSteps: number;
}

/** Reads a range of the stored MP3. Its pieces may be changed, until the next one is requested. */
type Read = (range: ByteInterval) => AsyncIterable<Buffer>;

/**
 * Reads a range of an MP3 as it is sent: with the gain of its recording, and `addedSteps` more. The bytes do not depend
 * on where the range begins or ends. A piece stays unchanged until the next one is requested.
 */
export async function* readLeveled(
  read: Read,
  mp3: LeveledMp3,
  addedSteps: number,
  range: ByteInterval,
): AsyncGenerator<Buffer, void, undefined> {
  const { headBytes, gainSteps } = mp3;
  const steps = gainSteps + addedSteps;
  if (steps === 0 && addedSteps === 0) {
    yield* read(range);
    return;
  }
  const firstOfFrames = Math.max(range.start, headBytes);
  if (range.start < headBytes) {
    const head = { start: range.start, end: Math.min(range.end, headBytes - 1) };
    if (addedSteps === 0) yield* read(head);
    else yield* readHead(read, headBytes, { from: gainSteps, to: steps }, head);
  }
  if (range.end < headBytes) return;
  const frames = { start: firstOfFrames, end: range.end };
  if (steps === 0) yield* read(frames);
  else
    yield* readFrames(read, headBytes, new FrameGain({ ...mp3, channels: mp3.channels === 1 ? 1 : 2 }, steps), frames);
}

async function* readHead(
  read: Read,
  headBytes: number,
  gainSteps: { readonly from: number; readonly to: number },
  range: ByteInterval,
): AsyncGenerator<Buffer, void, undefined> {
  const tailStart = Math.max(0, headBytes - headLevelBytes);
  if (range.start < tailStart) yield* read({ start: range.start, end: Math.min(range.end, tailStart - 1) });
  if (range.end < tailStart) return;
  const tail = Buffer.alloc(headBytes - tailStart);
  let filled = 0;
  for await (const piece of read({ start: tailStart, end: headBytes - 1 })) filled += piece.copy(tail, filled);
  changeHeadLevel(tail, gainSteps);
  yield tail.subarray(Math.max(0, range.start - tailStart), range.end + 1 - tailStart);
}

/**
 * A field that a piece cuts in two needs both bytes, so the byte before the cut waits for the next piece. At the ends
 * of the range, one byte more is read for the same reason.
 */
async function* readFrames(
  read: Read,
  headBytes: number,
  gain: FrameGain,
  range: ByteInterval,
): AsyncGenerator<Buffer, void, undefined> {
  const start = range.start - headBytes;
  const end = range.end + 1 - headBytes;
  const first = gain.isCutAt(start) ? start - 1 : start;
  const last = gain.isCutAt(end) ? end : end - 1;
  const wanted = (bytes: Buffer, offset: number): Buffer =>
    bytes.subarray(Math.max(0, start - offset), Math.max(0, end - offset));
  let held: number | undefined;
  let offset = first;
  for await (const piece of read({ start: headBytes + first, end: headBytes + last })) {
    if (held !== undefined) {
      const cut = Buffer.of(held, piece[0]!);
      gain.apply(cut, offset - 1);
      piece[0] = cut[1]!;
      const before = wanted(cut.subarray(0, 1), offset - 1);
      if (before.length > 0) yield before;
    }
    gain.apply(piece, offset);
    const isCut = offset + piece.length <= last && gain.isCutAt(offset + piece.length);
    held = isCut ? piece.at(-1) : undefined;
    const whole = wanted(isCut ? piece.subarray(0, -1) : piece, offset);
    if (whole.length > 0) yield whole;
    offset += piece.length;
  }
}
