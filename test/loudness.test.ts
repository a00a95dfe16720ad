import { spawnSync } from "node:child_process";
import { describe, expect, it } from "@jest/globals";
import type { PcmFormat } from "../src/audio/pcm-format.ts";
import { SoundMeter } from "../src/audio/meter/sound-meter.ts";
import { replayGainDb } from "../src/audio/meter/loudness.ts";
import { ffmpeg } from "./support/ffmpeg.ts";

// Looking up a global is slow in Jest's sandbox, and these are used in loops over samples.
const { imul, round, sin } = Math;

const stereo48k: PcmFormat = { sampleFormat: "s16le", channels: 2, sampleRateHz: 48_000 };

/** One channel, samples from -1 to 1. */
type Sound = Float64Array;

describe("EBU Tech 3341 cases", () => {
  const cases: [levels: [dbfs: number, seconds: number][], lufs: number][] = [
    [[[-23, 20]], -23],
    [[[-33, 20]], -33],
    [[[-36, 10], [-23, 60], [-36, 10]], -23], // prettier-ignore
    [[[-72, 10], [-36, 10], [-23, 60], [-36, 10], [-72, 10]], -23], // prettier-ignore
    [[[-26, 20], [-20, 20.1], [-26, 20]], -23], // prettier-ignore
  ];
  it.each(cases)("reads a stereo sine of 1 kHz at %j dBFS and seconds as %d LUFS", (levels, lufs) => {
    const sound = join(levels.map(([dbfs, seconds]) => sine(48_000, seconds, 1000, dbfs)));
    expect(Math.abs(integratedLufs(stereo48k, [sound, sound])! - lufs)).toBeLessThan(0.1);
  });
});

describe("against ffmpeg's ebur128", () => {
  const rates = [8000, 22_050, 44_100, 48_000, 96_000, 192_000, 384_000];
  const formats = rates.flatMap((sampleRateHz): PcmFormat[] => [
    { sampleFormat: "s16le", channels: 2, sampleRateHz },
    { sampleFormat: "f32le", channels: 1, sampleRateHz },
  ]);
  it.each(formats)("agrees on noise with pauses in $sampleFormat, $channels ch, $sampleRateHz Hz", (format) => {
    const rate = format.sampleRateHz;
    const left = join([pinkNoise(rate, 1.53, -10), pinkNoise(rate, 1, -60), pinkNoise(rate, 1.25, -19)]);
    const right = join([pinkNoise(rate, 2, -20), pinkNoise(rate, 1.78, -17)]);
    expect(differenceFromFfmpeg(format, format.channels === 2 ? [left, right] : [left])).toBeLessThan(0.02);
  });

  const sines: [hz: number, dbfs: number][] = [[30, -6], [100, 0], [440, -23], [1000, -40], [3000, -60], [15_000, -12]]; // prettier-ignore
  it.each(sines)("agrees on a sine of %d Hz at %d dBFS in mono and stereo", (hz, dbfs) => {
    const sound = sine(44_100, 2.05, hz, dbfs);
    expect(differenceFromFfmpeg({ sampleFormat: "s16le", channels: 1, sampleRateHz: 44_100 }, [sound])).toBeLessThan(
      0.02,
    );
    expect(
      differenceFromFfmpeg({ sampleFormat: "f32le", channels: 2, sampleRateHz: 44_100 }, [sound, sound]),
    ).toBeLessThan(0.02);
  });

  it("agrees on sound in one channel only", () => {
    const sound = pinkNoise(48_000, 2, -14);
    expect(differenceFromFfmpeg(stereo48k, [sound, new Float64Array(sound.length)])).toBeLessThan(0.02);
    expect(differenceFromFfmpeg(stereo48k, [new Float64Array(sound.length), sound])).toBeLessThan(0.02);
  });

  it("agrees where 100 ms are no whole number of samples", () => {
    // The sound is steady, because ffmpeg leaves out the first block at such rates.
    const sound = sine(11_025, 3, 700, -20);
    expect(differenceFromFfmpeg({ sampleFormat: "s16le", channels: 1, sampleRateHz: 11_025 }, [sound])).toBeLessThan(
      0.02,
    );
  });

  it("agrees on a burst between long silences", () => {
    const sound = join([new Float64Array(441_000), pinkNoise(44_100, 0.7, -9), new Float64Array(441_000)]);
    expect(
      differenceFromFfmpeg({ sampleFormat: "s16le", channels: 2, sampleRateHz: 44_100 }, [sound, sound]),
    ).toBeLessThan(0.02);
  });

  it("agrees on floating-point sound above full scale", () => {
    const sound = pinkNoise(48_000, 2, 12);
    expect(
      differenceFromFfmpeg({ sampleFormat: "f32le", channels: 2, sampleRateHz: 48_000 }, [sound, sound]),
    ).toBeLessThan(0.02);
  });
});

describe("integrated loudness", () => {
  it("is known from 400 ms on", () => {
    const sound = sine(48_000, 0.4, 1000, -23);
    expect(integratedLufs(stereo48k, [sound, sound])).toBeCloseTo(-23, 1);
    const shorter = sound.subarray(1);
    expect(integratedLufs(stereo48k, [shorter, shorter])).toBeNull();
  });

  it("is null for silence and for sound below the absolute gate", () => {
    const silence = new Float64Array(96_000);
    expect(integratedLufs(stereo48k, [silence, silence])).toBeNull();
    const faint = sine(48_000, 2, 1000, -71);
    expect(integratedLufs({ ...stereo48k, sampleFormat: "f32le" }, [faint, faint])).toBeNull();
    const audible = sine(48_000, 2, 1000, -69.9);
    expect(integratedLufs({ ...stereo48k, sampleFormat: "f32le" }, [audible, audible])).toBeCloseTo(-69.9, 1);
  });

  it.each([2000, 3000, 3363, 3364, 3400, 4000])(
    "is correct at %d Hz, where the shelf reaches half the rate",
    (rate) => {
      const sound = sine(rate, 3, 400, -20);
      const lufs = integratedLufs({ sampleFormat: "f32le", channels: 1, sampleRateHz: rate }, [sound])!;
      expect(lufs).toBeGreaterThan(-24.5);
      expect(lufs).toBeLessThan(-22.5);
    },
  );

  it("ignores a constant offset", () => {
    const sound = sine(48_000, 30, 1000, -23);
    const lifted = sound.map((sample) => sample + 0.5);
    const lufs = integratedLufs({ ...stereo48k, sampleFormat: "f32le" }, [lifted, lifted])!;
    expect(Math.abs(lufs + 23)).toBeLessThan(0.1);
  });
});

describe("replayGainDb", () => {
  it("is the gain to -18 LUFS", () => {
    expect(replayGainDb(-9.5)).toBe(-8.5);
    expect(replayGainDb(-23)).toBe(5);
  });
});

function differenceFromFfmpeg(format: PcmFormat, channels: Sound[]): number {
  return Math.abs(integratedLufs(format, channels)! - ffmpegLufs(format, toPcm(format, channels)));
}

function integratedLufs(format: PcmFormat, channels: Sound[]): number | null {
  const meter = new SoundMeter(format);
  meter.add(toPcm(format, channels));
  return meter.finish().integratedLufs;
}

/** The last value of the running integrated loudness, which ffmpeg prints with three decimals. */
function ffmpegLufs({ sampleFormat, channels, sampleRateHz }: PcmFormat, pcm: Buffer): number {
  const filter = "ebur128=metadata=1:framelog=quiet,ametadata=mode=print:key=lavfi.r128.I:file=-";
  const input = ["-f", sampleFormat, "-ar", `${sampleRateHz}`, "-ac", `${channels}`, "-i", "pipe:0"];
  const { stdout } = spawnSync(ffmpeg.path, ["-v", "error", ...input, "-af", filter, "-f", "null", "-"], {
    input: pcm,
  });
  return Number(stdout.toString().trim().split("=").at(-1));
}

function toPcm({ sampleFormat }: PcmFormat, channels: Sound[]): Buffer {
  const interleaved = new Float32Array(channels[0]!.length * channels.length);
  for (const [channel, sound] of channels.entries()) {
    for (let i = 0; i < sound.length; i++) interleaved[i * channels.length + channel] = sound[i]!;
  }
  if (sampleFormat === "f32le") return Buffer.from(interleaved.buffer);
  const integers = new Int16Array(interleaved.length);
  for (let i = 0; i < integers.length; i++) integers[i] = round(interleaved[i]! * 32_767);
  return Buffer.from(integers.buffer);
}

function sine(rateHz: number, seconds: number, hz: number, dbfs: number): Sound {
  const sound = new Float64Array(round(rateHz * seconds));
  const amplitude = 10 ** (dbfs / 20);
  const step = (2 * Math.PI * hz) / rateHz;
  for (let i = 0; i < sound.length; i++) sound[i] = amplitude * sin(step * i);
  return sound;
}

/** White noise through two leaky integrators, which raise the low frequencies; its peak is about `dbfs`. */
function pinkNoise(rateHz: number, seconds: number, dbfs: number): Sound {
  const sound = new Float64Array(round(rateHz * seconds));
  const amplitude = 0.6 * 10 ** (dbfs / 20);
  let seed = 1;
  let slow = 0;
  let fast = 0;
  for (let i = 0; i < sound.length; i++) {
    seed = (imul(seed, 1_664_525) + 1_013_904_223) | 0;
    const white = seed / 2 ** 31;
    slow += (white - slow) / 64;
    fast += (white - fast) / 8;
    sound[i] = amplitude * (0.2 * white + 0.8 * fast + 2 * slow);
  }
  return sound;
}

function join(sounds: Sound[]): Sound {
  const joined = new Float64Array(sounds.reduce((total, sound) => total + sound.length, 0));
  let offset = 0;
  for (const sound of sounds) {
    joined.set(sound, offset);
    offset += sound.length;
  }
  return joined;
}
