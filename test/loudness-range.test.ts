import { describe, expect, it } from "@jest/globals";
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { SoundMeter } from "../src/audio/meter/sound-meter.ts";

// In Jest's sandbox each look-up of a global is slow, and these stand in loops over samples.
const { round, sin, PI } = Math;

const rateHz = 8000;
const format: PcmFormat = { sampleFormat: "f32le", channels: 1, sampleRateHz: rateHz };

describe("EBU Tech 3342 cases", () => {
  const cases: [dbfs: number[], rangeLu: number][] = [
    [[-20, -30], 10],
    [[-20, -15], 5],
    [[-40, -20], 20],
    [[-50, -35, -20, -35, -50], 15],
  ];
  it.each(cases)("reads a sine of 1 kHz with 20 s each at %j dBFS as a range of %d LU", (dbfs, rangeLu) => {
    const measured = rangeOf(dbfs.map((level) => [level, 20]))!;
    expect(Math.abs(measured - rangeLu)).toBeLessThan(0.2);
  });
});

describe("the loudness range", () => {
  it("is known from 3 s on, and 0 for a steady sound", () => {
    expect(rangeOf([[-20, 3]])).toBe(0);
    expect(rangeOf([[-20, 2.99]])).toBeNull();
  });

  it("is null for silence, and leaves out silence", () => {
    expect(rangeOf([[-Infinity, 5]])).toBeNull();
    // Windows that are partly silent lie between the loudness of the sound and the gate, 20 LU below.
    expect(rangeOf([[-20, 60], [-Infinity, 60]])).toBeLessThan(1); // prettier-ignore
  });
});

function rangeOf(levels: readonly (readonly [dbfs: number, seconds: number])[]): number | null {
  const meter = new SoundMeter(format);
  for (const [dbfs, seconds] of levels) {
    const samples = new Float32Array(round(seconds * rateHz));
    for (let i = 0; i < samples.length; i++) samples[i] = 10 ** (dbfs / 20) * sin((2 * PI * 1000 * i) / rateHz);
    meter.add(Buffer.from(samples.buffer));
  }
  return meter.finish().loudnessRangeLu;
}
