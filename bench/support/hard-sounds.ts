import { seededRandom } from "../../test/support/wav-maker.ts";

const { sin, cos, exp, floor, PI, log, min, max, abs } = Math;

/** The rate of {@link hardSounds}. */
export const hardSoundsRateHz = 44_100;

/** Sounds that are hard to encode, as interleaved samples of two channels (full scale 1) of so many seconds. */
export const hardSounds: Readonly<Record<string, (seconds: number) => Float64Array>> = {
  tone: (seconds) => each(seconds, (t) => [0.5 * sin(2 * PI * 997 * t), 0.5 * sin(2 * PI * 997 * t)]),
  sweep(seconds) {
    const k = log(1000);
    return each(seconds, (t) => {
      const value = 0.5 * sin(((2 * PI * 20 * seconds) / k) * (exp((t / seconds) * k) - 1));
      return [value, value];
    });
  },
  castanets: (seconds) =>
    struck(seconds, 60 / 12, (random) => {
      const decay = 0.002 + 0.006 * random();
      const bright = 0.2 + 0.6 * random();
      let last = 0;
      return { seconds: 0.08, at: (t) => (last = bright * last + noise(random) - last * 0.3) * exp(-t / decay) };
    }),
  glockenspiel: (seconds) =>
    struck(seconds, 3.2, (random) => {
      const hz = 784 * 2 ** (floor(20 * random()) / 12);
      const bars = [
        [1, 1, 1.2],
        [2.756, 0.5, 0.5],
        [5.404, 0.3, 0.25],
        [8.933, 0.15, 0.12],
      ] as const;
      const heard = bars.filter(([ratio]) => hz * ratio < 19_000);
      return {
        seconds: 1.5,
        at: (t) =>
          heard.reduce(
            (sum, [ratio, level, decay]) => sum + level * sin(2 * PI * hz * ratio * t) * exp((-2 * t) / decay),
            0,
          ),
      };
    }),
  "plucked strings": (seconds) =>
    struck(seconds, 7, (random) => {
      const string = Float64Array.from(
        { length: floor(hardSoundsRateHz / (110 * 2 ** (floor(24 * random()) / 12))) },
        () => noise(random),
      );
      let i = 0;
      return {
        seconds: 1.2,
        at() {
          const place = i++ % string.length;
          string[place] = 0.996 * (0.72 * string[place]! + 0.28 * string.at(place - 1)!);
          return string[place];
        },
      };
    }),
  applause: (seconds) =>
    struck(seconds, 330, (random) => {
      const level = random() ** 2;
      let last = 0;
      return { seconds: 0.03, at: (t) => level * (last = 0.6 * last + noise(random)) * exp(-t / 0.004) };
    }),
  noise(seconds) {
    const random = seededRandom(5);
    const poles = [
      [0.997, 0.03],
      [0.96, 0.1],
      [0.6, 0.3],
    ] as const;
    const states = [poles.map(() => 0), poles.map(() => 0)];
    return each(
      seconds,
      () =>
        states.map((state) => {
          const white = noise(random);
          return poles.reduce((sum, [pole, level], i) => sum + (state[i] = pole * state[i]! + level * white), 0);
        }) as [number, number],
    );
  },
  band(seconds) {
    const random = seededRandom(6);
    return each(seconds, (t) => {
      const beat = t % 0.508;
      const drum = 0.5 * sin(2 * PI * (45 * beat + 6 * (1 - exp(-30 * beat)))) * exp(-9 * beat);
      const snare = 0.3 * noise(random) * exp(-18 * ((t + 0.254) % 1.016));
      const hat = 0.2 * noise(random) * exp(-60 * (t % 0.254));
      const root = 55 * 2 ** ([0, 0, 3, 5][floor(t / 2.03) % 4]! / 12);
      let left = drum + snare + 0.6 * hat;
      let right = drum + 1.2 * snare + hat;
      for (let harmonic = 1; harmonic <= 24; harmonic++) {
        const pad = (0.1 / harmonic) * sin(2 * PI * root * 4 * harmonic * t * (1 + 0.0007 * harmonic));
        const lead = (0.15 / harmonic) * sin(2 * PI * root * 12 * harmonic * t) * exp(-6 * ((t + 0.127) % 0.508));
        left += 0.7 * pad + 0.6 * lead;
        right += (harmonic % 2 === 0 ? 0.9 : 0.4) * pad + 0.9 * lead;
      }
      return [left, right];
    });
  },
  voice(seconds) {
    const random = seededRandom(7);
    const formantsHz = [
      [730, 1090, 2440],
      [270, 2290, 3010],
      [530, 1840, 2480],
      [300, 870, 2240],
    ] as const;
    const states = formantsHz[0].map(() => [0, 0] as [number, number]);
    let phase = 0;
    return each(seconds, (t) => {
      const syllable = t % 0.22;
      phase += (110 + 25 * sin(2 * PI * 0.4 * t)) / hardSoundsRateHz;
      const pulse = phase >= 1 ? 1 : 0;
      phase %= 1;
      const hiss = syllable < 0.06 && floor(t / 0.22) % 3 === 0 ? 0.4 * noise(random) : 0;
      const excitation = pulse * min(1, syllable * 20) * max(0, 1 - syllable * 4) + 0.002 * noise(random);
      let value = 0.3 * hiss;
      for (const [i, hz] of formantsHz[floor(t / 0.22) % 4]!.entries()) {
        const radius = exp((-PI * (60 + 40 * i)) / hardSoundsRateHz);
        const [last, older] = states[i]!;
        const next = excitation + 2 * radius * cos((2 * PI * hz) / hardSoundsRateHz) * last - radius ** 2 * older;
        states[i] = [next, last];
        value += (next - older) / (i + 1);
      }
      return [value, value];
    });
  },
};

type Random = ReturnType<typeof seededRandom>;

/** A sound that begins, and its samples in order. */
interface Strike {
  readonly seconds: number;
  readonly at: (seconds: number) => number;
}

function noise(random: Random): number {
  return 2 * random() - 1;
}

/** Sounds that are struck at random, so many times a second, each at its own place between left and right. */
function struck(seconds: number, perSecond: number, strike: (random: Random) => Strike): Float64Array {
  const random = seededRandom(4);
  const frames = floor(seconds * hardSoundsRateHz);
  const sound = new Float64Array(2 * frames).map(() => 0.0003 * noise(random));
  for (let count = 0; count < seconds * perSecond; count++) {
    const start = floor(random() * frames);
    const { seconds: length, at } = strike(random);
    const side = (random() * PI) / 2;
    const level = 0.3 + 0.6 * random();
    for (let i = 0; i < length * hardSoundsRateHz && start + i < frames; i++) {
      const value = level * at(i / hardSoundsRateHz);
      sound[2 * (start + i)]! += value * cos(side);
      sound[2 * (start + i) + 1]! += value * sin(side);
    }
  }
  return normalised(sound);
}

function each(seconds: number, at: (t: number) => readonly [number, number]): Float64Array {
  const frames = floor(seconds * hardSoundsRateHz);
  const sound = new Float64Array(2 * frames);
  for (let i = 0; i < frames; i++) sound.set(at(i / hardSoundsRateHz), 2 * i);
  return normalised(sound);
}

function normalised(sound: Float64Array): Float64Array {
  const peak = sound.reduce((most, value) => max(most, abs(value)), 0);
  return sound.map((value) => (0.8 * value) / peak);
}
