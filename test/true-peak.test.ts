import { describe, expect, it } from "@jest/globals";
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { SoundMeter } from "../src/audio/meter/sound-meter.ts";

// In Jest's sandbox each look-up of a global is slow, and these stand in loops over samples.
const { min, sin, PI } = Math;

const rateHz = 48_000;

describe("EBU Tech 3341 cases of the true peak", () => {
  const cases: [samplesPerPeriod: number, degrees: number, amplitude: number, dbtp: number][] = [
    [4, 0, 0.5, -6],
    [4, 45, 0.5, -6],
    [6, 60, 0.5, -6],
    [8, 67.5, 0.5, -6],
    [4, 45, 1.41, 3],
  ];
  it.each(cases)(
    "reads a sine of %d samples a period that begins at %d degrees, with an amplitude of %d, as %d dBTP",
    (samplesPerPeriod, degrees, amplitude, dbtp) => {
      const sound = sine(samplesPerPeriod, degrees, amplitude);
      for (const channels of [1, 2] as const) {
        const measured = measure(channels, channels === 1 ? [sound] : [sound.map((sample) => sample / 4), sound])!;
        expect(measured - dbtp).toBeLessThanOrEqual(0.2);
        expect(measured - dbtp).toBeGreaterThanOrEqual(-0.4);
      }
    },
  );
});

describe("the true peak", () => {
  it("is at least the sample peak", () => {
    const impulse = new Float64Array(100);
    impulse[50] = 0.5;
    expect(measure(1, [impulse])).toBeCloseTo(20 * Math.log10(0.5), 3);
  });

  it("is seen between the last sample and silence, and between two slices of sound", () => {
    const length = 3 * 4096;
    for (const place of [1, 4095, 4096, 4097, length - 2]) {
      const sound = new Float64Array(length);
      // Between two equal samples, the wave is higher.
      sound[place] = 0.5;
      sound[place + 1] = 0.5;
      expect([place, measure(1, [sound])! > -4.6]).toEqual([place, true]);
    }
  });

  it("is seen in a quiet place after a loud one, if it is higher there", () => {
    const loud = sine(100, 0, 0.6);
    const quiet = sine(4, 45, 0.8).map((sample) => sample * 0.9);
    const sound = Float64Array.from([...loud, ...new Float64Array(10_000), ...quiet]);
    expect(measure(1, [sound])! - 20 * Math.log10(0.72)).toBeGreaterThan(-0.4);
  });
});

function measure(channels: 1 | 2, sounds: readonly Float64Array[]): number | null {
  const format: PcmFormat = { sampleFormat: "f32le", channels, sampleRateHz: rateHz };
  const meter = new SoundMeter(format);
  const pcm = Float32Array.from(
    { length: sounds[0]!.length * channels },
    (_, i) => sounds[i % channels]![Math.floor(i / channels)]!,
  );
  meter.add(Buffer.from(pcm.buffer));
  return meter.finish().truePeakDbtp;
}

/** A second of a sine that fades in and out within 10 ms. */
function sine(samplesPerPeriod: number, degrees: number, amplitude: number): Float64Array {
  return Float64Array.from({ length: rateHz }, (_, i) => {
    const fade = min(1, i / 480, (rateHz - i) / 480);
    return fade * amplitude * sin((2 * PI * i) / samplesPerPeriod + (degrees * PI) / 180);
  });
}
