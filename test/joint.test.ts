import { describe, expect, it } from "@jest/globals";
import { joinFrames, jointFrames } from "../src/audio/encoder/joint.ts";
import type { Mp3FrameHeader } from "../src/audio/mp3/mp3-frame.ts";
import { decodeMp3, readFrames, readReservoir } from "./support/mp3.ts";
import { decodeWithMpg123, encodeMp3 } from "./support/mp3-decoders.ts";

const rateHz = 48_000;
/** Clicks of noise in near silence: the frames between them save bits for the next one. */
const clicks = (first: number) =>
  Int16Array.from({ length: 2 * rateHz }, (_, i) => {
    const since = (i + first) % 11_000;
    return Math.round(9000 * Math.exp(-since / 900) * Math.sin(since * since) + 900 * Math.sin(i / 30));
  });

describe("a joint of two encoders", () => {
  it("is the first frame that finds enough bytes in the reservoir", async () => {
    const [first, second] = await Promise.all([
      encodeMp3(clicks(0), rateHz, 1, 96),
      encodeMp3(clicks(3000), rateHz, 1, 96),
    ]);
    const begins = [readReservoir(first), readReservoir(second)] as const;
    const places: number[] = [];
    for (let at = 20; at < 70; at++) {
      const before = jointFrames([Buffer.from(first)]);
      const after = jointFrames([Buffer.from(second)]);
      const joint = joinFrames(before, after, 0, { first: at, last: at + 20 });
      places.push(joint - at);
      const mp3 = Buffer.concat([...before, ...after].map(({ bytes }) => bytes));
      // Every frame that follows is as its encoder made it.
      expect(readFrames(mp3)).toEqual(readFrames(first));
      expect(readReservoir(mp3)).toEqual([...begins[0].slice(0, joint), ...begins[1].slice(joint)]);
      decodeMp3(mp3);
    }
    expect(Math.min(...places)).toBe(0);
    expect(Math.max(...places)).toBeGreaterThan(0);
  });

  it("leaves nothing between the main data of the two", async () => {
    const first = await encodeMp3(clicks(0), rateHz, 1, 96);
    // What is left lies in one frame. The other encoder has just begun and needs less.
    const at = readReservoir(first).findIndex((begin) => begin > 150 && begin < 250);
    const before = jointFrames([Buffer.from(first)]);
    const after = jointFrames([Buffer.from(first), Buffer.from(first)]).slice(before.length - at + 1);
    const joint = joinFrames(before, after, 0, { first: at, last: at });
    const mp3 = Buffer.concat([...before, ...after].map(({ bytes }) => bytes));
    const [left, begin] = [readReservoir(first)[joint]!, readReservoir(mp3)[joint]!];
    expect(left).toBeGreaterThan(begin + 20);
    const jointStart = before.reduce((total, { bytes }) => total + bytes.length, 0);
    expect(mp3.subarray(jointStart - left, jointStart - begin).every((byte) => byte === 0)).toBe(true);
    const [{ byteLength }] = readFrames(first) as [Mp3FrameHeader];
    expect(mp3.subarray(jointStart - begin, jointStart)).toEqual(first.subarray(byteLength - begin, byteLength));
  });

  it("takes bytes from the last frames if no frame fits, and decoders accept it", async () => {
    const frames = await encodeMp3(clicks(0), rateHz, 1, 96);
    const begins = readReservoir(frames);
    const before = jointFrames([Buffer.from(frames)]);
    const after = jointFrames([Buffer.from(frames)]);
    const full = begins.findIndex((begin) => begin > 400);
    // Behind the third frame, whose reservoir is nearly empty, comes a frame that needs a full one.
    after.splice(0, full - 3);
    expect(joinFrames(before, after, 0, { first: 3, last: 3 })).toBe(3);
    const mp3 = Buffer.concat([...before, ...after].map(({ bytes }) => bytes));
    expect(begins[3]).toBeLessThan(begins[full]! - 200);
    expect(readReservoir(mp3).slice(3)).toEqual(begins.slice(full));
    decodeMp3(mp3);
    await decodeWithMpg123(mp3, 1);
  });
});
