import { replayGainFrames } from "./id3-tag.ts";
import { gainStepDb } from "./mp3-gain.ts";
import { setInfoLevel } from "./mp3-header.ts";
import { readFrameHeader } from "./mp3-frame.ts";

/** So many bytes at the end of a head hold everything that depends on the level: ReplayGain frames and the Info frame. */
export const headLevelBytes = 2048;

const gainName = "REPLAYGAIN_TRACK_GAIN\0";
const peakName = "REPLAYGAIN_TRACK_PEAK\0";
/** From a frame of the ID3 tag to its name: the header of the frame, and the encoding. */
const bytesBeforeName = 11;

/**
 * Changes the level that the end of an MP3's head states, in place and without changing its length.
 * @param tail the last {@link headLevelBytes} bytes of the head, or all of them
 * @param gainSteps the gain of the frames before and after the change
 */
export function changeHeadLevel(tail: Buffer, gainSteps: { readonly from: number; readonly to: number }): void {
  const frame = infoFrameIn(tail);
  const replayGainAt = tail.indexOf(gainName, 0, "latin1") - bytesBeforeName;
  if (frame === undefined || replayGainAt < 0) return;
  const addedDb = (gainSteps.to - gainSteps.from) * gainStepDb;
  const level = {
    replayGainDb: numberAfter(tail, gainName) - addedDb,
    peak: numberAfter(tail, peakName) * 10 ** (addedDb / 20),
  };
  setInfoLevel(frame, { ...level, gainSteps: gainSteps.to });

  // New heads have padding here. Those of earlier releases have none, so a value with one more digit loses a decimal.
  const place = tail.subarray(replayGainAt, frame.byteOffset - tail.byteOffset);
  const fitting = [2, 1, 0]
    .map((decimals) => replayGainFrames(level, decimals))
    .find((frames) => frames.length <= place.length);
  if (fitting) place.fill(0).set(fitting);
}

/** The Info frame, with which every head ends. */
function infoFrameIn(tail: Buffer): Buffer | undefined {
  const at = tail.lastIndexOf("Info", undefined, "latin1");
  for (const sideInfoBytes of [9, 17, 32]) {
    const start = at - sideInfoBytes - 4;
    if (start >= 0 && readFrameHeader(tail, start)?.sideInfoBytes === sideInfoBytes) return tail.subarray(start);
  }
  return undefined;
}

/** The number in a text of the tag; 0 if there is none. */
function numberAfter(tail: Buffer, name: string): number {
  const at = tail.indexOf(name, 0, "latin1");
  const text = at < 0 ? "" : tail.toString("latin1", at + name.length, at + name.length + 16);
  return Number(/^-?[\d.]+/.exec(text)?.[0] ?? 0);
}
