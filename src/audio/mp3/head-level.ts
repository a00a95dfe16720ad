import { decibels, trackGainName, trackPeakName } from "./id3-tag.ts";
import { gainStepDb } from "./mp3-gain.ts";
import { setInfoLevel } from "./mp3-header.ts";
import { readFrameHeader } from "./mp3-frame.ts";

/**
 * So many bytes at the end of a head hold everything that depends on the level: ReplayGain frames, up to 16 KiB of padding,
 * and the Info frame.
 */
export const headLevelBytes = 2048 + 16 * 1024;

/**
 * Changes the level that the end of an MP3's head states, in place and without changing its length.
 * @param tail the last {@link headLevelBytes} bytes of the head, or all of them
 * @param gainSteps the gain of the frames before and after the change
 */
export function changeHeadLevel(tail: Buffer, gainSteps: { readonly from: number; readonly to: number }): void {
  const frame = infoFrameIn(tail);
  const gain = valueAfter(tail, trackGainName, decibels);
  const peak = valueAfter(tail, trackPeakName, "");
  if (frame === undefined || gain === undefined || peak === undefined) return;
  const addedDb = (gainSteps.to - gainSteps.from) * gainStepDb;
  const replayGainDb = numberIn(gain) - addedDb;
  const samplePeak = numberIn(peak) * 10 ** (addedDb / 20);
  gain.write(fitted(replayGainDb, gain.length), "latin1");
  peak.write(fitted(samplePeak, peak.length), "latin1");
  setInfoLevel(frame, { replayGainDb, peak: samplePeak, gainSteps: gainSteps.to });
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

/** The place of a number in a text of the tag, before its unit. */
function valueAfter(tail: Buffer, name: string, unit: string): Buffer | undefined {
  // The last one: a cover before the texts may contain anything.
  const nameAt = tail.lastIndexOf(`${name}\0`, undefined, "latin1");
  if (nameAt < 0) return undefined;
  const at = nameAt + name.length + 1;
  const number = new RegExp(`^-?\\d+\\.\\d+(?=${unit})`).exec(tail.toString("latin1", at, at + 16))?.[0];
  return number !== undefined ? tail.subarray(at, at + number.length) : undefined;
}

function numberIn(text: Buffer): number {
  return Number(text.toString("latin1"));
}

/** A number with as many decimals as fill the length; zeros in front if it is too short without any. */
function fitted(number: number, length: number): string {
  for (let decimals = length; decimals >= 0; decimals--) {
    const text = number.toFixed(decimals);
    if (text.length === length) return text;
  }
  const digits = Math.abs(number).toFixed(0);
  return number < 0 ? `-${digits.padStart(length - 1, "0")}` : digits.padStart(length, "0");
}
