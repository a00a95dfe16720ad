import { beforeAll, describe, expect, it } from "@jest/globals";
import { FrameGain } from "../src/audio/mp3/frame-gain.ts";
import { FramePositions } from "../src/audio/mp3/frame-positions.ts";
import { gainStepDb, stepsToLoudness } from "../src/audio/mp3/mp3-gain.ts";
import { readLeveled } from "../src/record/leveled-mp3.ts";
import { readFrameHeader } from "../src/audio/mp3/mp3-frame.ts";
import { decodeWithFfmpeg, decodeWithMpg123, encodeMp3 } from "./support/mp3-decoders.ts";
import { seededRandom } from "./support/wav-maker.ts";

describe("the positions of frames", () => {
  it.each([
    [44_100, 2, 192],
    [44_100, 1, 48],
    [44_100, 2, 320],
    [48_000, 2, 192],
    [22_050, 2, 160],
    [11_025, 1, 48],
    [8000, 1, 64],
  ] as const)(
    "are those of an MP3 of %d Hz, %d channels and %d kbit/s",
    async (sampleRateHz, channels, bitrateKbps) => {
      const mp3 = await encodeMp3(noise(3 * sampleRateHz * channels), sampleRateHz, channels, bitrateKbps);
      const positions = new FramePositions({ sampleRateHz, channels, bitrateKbps });
      let frame = 0;
      for (let start = 0; start < mp3.length; start += readFrameHeader(mp3, start)!.byteLength) {
        expect([positions.startOf(frame), positions.frameAt(start)]).toEqual([start, frame]);
        expect(positions.frameAt(Math.max(0, start - 1))).toBe(Math.max(0, frame - 1));
        frame++;
      }
      expect(frame).toBeGreaterThan(40);
    },
  );
});

describe.each([
  [44_100, 2, 128],
  [48_000, 1, 96],
  [22_050, 1, 64],
  [16_000, 2, 96],
] as const)("gain without decoding, at %d Hz with %d channels", (sampleRateHz, channels, bitrateKbps) => {
  const head = Buffer.from("a head that is not changed");
  const format = { sampleRateHz, channels, bitrateKbps };
  let frames: Buffer;

  beforeAll(async () => {
    frames = await encodeMp3(noise(sampleRateHz * channels), sampleRateHz, channels, bitrateKbps);
  });

  it.each([-6, 4])("of %d steps changes the level and nothing else, in two decoders", async (steps) => {
    const changed = Buffer.from(frames);
    new FrameGain(format, steps).apply(changed, 0);
    const factor = 10 ** ((steps * gainStepDb) / 20);
    for (const decode of [decodeWithFfmpeg, async (mp3: Buffer) => await decodeWithMpg123(mp3, channels)]) {
      const [before, after] = [await decode(frames), await decode(changed)];
      expect(after.length).toBe(before.length);
      const error = before.reduce((most, sample, at) => Math.max(most, Math.abs(sample * factor - after[at]!)), 0);
      expect(error).toBeLessThan(1e-5);
    }
  });

  it("gives the same bytes whatever range is read, in whatever pieces", async () => {
    const whole = await read({ start: 0, end: head.length + frames.length - 1 }, 1 << 20);
    expect(whole.subarray(0, head.length).equals(head)).toBe(true);
    expect(whole.subarray(head.length).equals(frames)).toBe(false);
    const random = seededRandom(7);
    for (let start = head.length - 2; start < head.length + 500; start++) {
      const end = Math.min(whole.length, start + 1 + Math.floor(random() ** 4 * 3000));
      const pieceBytes = 1 + Math.floor(random() ** 4 * 2000);
      const range = await read({ start, end: end - 1 }, pieceBytes);
      expect([start, end, pieceBytes, range.equals(whole.subarray(start, end))]).toEqual([
        start,
        end,
        pieceBytes,
        true,
      ]);
    }
  });

  it("stops at the ends of the scale and leaves silent granules alone", () => {
    const changed = Buffer.from(frames);
    new FrameGain(format, -300).apply(changed, 0);
    const lowest = Buffer.from(changed);
    new FrameGain(format, -1).apply(lowest, 0);
    expect(lowest.equals(changed)).toBe(true);
    new FrameGain(format, 300).apply(changed, 0);
    const highest = Buffer.from(changed);
    new FrameGain(format, 1).apply(highest, 0);
    expect(highest.equals(changed)).toBe(true);
  });

  it("is not applied to bytes that are not frames", () => {
    expect(() => new FrameGain(format, 1).apply(Buffer.alloc(5000), 0)).toThrow("does not begin where it should");
  });

  async function read(range: { start: number; end: number }, pieceBytes: number): Promise<Buffer> {
    const stored = Buffer.concat([head, frames]);
    async function* pieces({ start, end }: typeof range): AsyncGenerator<Buffer> {
      const memory = Buffer.alloc(pieceBytes);
      for (let at = start; at <= end; at += pieceBytes) {
        memory.fill(0xaa); // what was yielded before is gone
        yield memory.subarray(0, stored.copy(memory, 0, at, Math.min(end + 1, at + pieceBytes)));
      }
    }
    const read: Buffer[] = [];
    const mp3 = { ...format, headBytes: head.length, gainSteps: -3 };
    for await (const piece of readLeveled(pieces, mp3, 0, range)) read.push(Buffer.from(piece));
    return Buffer.concat(read);
  }
});

describe("the steps to a loudness", () => {
  const stored = { bitrateKbps: 320, gainSteps: 0, integratedLufs: -23, samplePeakDbfs: -12, truePeakDbtp: -11 };
  it.each([
    ["the nearest", stored, -16, 5],
    ["the nearest, down", stored, -30, -5],
    ["none, if it is met", stored, -23.5, 0],
    ["as many as the true peak allows", { ...stored, truePeakDbtp: -5 }, -16, 2],
    ["none up, if the true peak is too high already", { ...stored, truePeakDbtp: 0 }, -16, 0],
    ["down, however high the true peak is", { ...stored, truePeakDbtp: 3 }, -30, -5],
    ["fewer, with LAME's gain and the recording's own", { ...stored, bitrateKbps: 192, gainSteps: 2 }, -16, 3],
    ["careful, if the true peak was not measured", { ...stored, samplePeakDbfs: -9, truePeakDbtp: null }, -16, 3],
    ["none without a loudness", { ...stored, integratedLufs: null }, -16, 0],
  ])("are %s", (_, level, wantedLufs, steps) => {
    expect(stepsToLoudness(level, wantedLufs)).toBeCloseTo(steps);
  });
});

/** Noise at a third of full scale. */
function noise(length: number): Int16Array {
  const random = seededRandom(5);
  const samples = new Int16Array(length);
  for (let i = 0; i < length; i++) samples[i] = (random() - 0.5) * 20_000;
  return samples;
}
