import { absoluteGateLufs, kWeighting, lufsOfPower, type KWeighting } from "./k-weighting.ts";
import { LoudnessRangeMeter, type LoudnessRangeState } from "./loudness-range.ts";

/** Loudness of a digital full-scale reference in ReplayGain 2.0, in LUFS. */
const replayGainReferenceLufs = -18;

/**
 * A block counts if its power exceeds this fraction (-10 LU) of the mean power of the blocks above the absolute gate.
 */
const relativeGate = 0.1;

/** A gating block of 400 ms has four steps. Blocks overlap by 75 %, so each step ends one. */
const stepsPerBlock = 4;

/** Resolution and range of the histogram of blocks: -70 to +30 LUFS. Louder blocks are counted in the last bin. */
const binsPerLu = 100;
const binCount = 100 * binsPerLu;

/**
 * Filter states below this are rounded to zero. After the sound ends, they would decay into denormals, which are slow.
 */
const tiniestState = 1e-20;

/** What a {@link LoudnessMeter} has measured so far. */
export interface LoudnessState {
  readonly states: readonly Float64Array[];
  readonly steps: Float64Array;
  /** The bins of the histogram that are not empty: their numbers, blocks and power. */
  readonly bins: Uint16Array;
  readonly blocks: Uint32Array;
  readonly power: Float64Array;
  readonly framesLeftInStep: number;
  readonly stepsDone: number;
  readonly range: LoudnessRangeState;
}

/**
 * Measures the integrated loudness of EBU R 128 (ITU-R BS.1770-4) and the loudness range of streamed samples in
 * constant memory. Blocks are counted in a histogram with their exact power; only their comparison with the relative
 * gate is rounded, to 0.01 LU. Mono counts as one channel, 3 LU below the same sound on two channels.
 */
export class LoudnessMeter {
  readonly #channels: 1 | 2;
  readonly #weighting: KWeighting;
  readonly #framesPerStep: number;
  /** Converts a step's sum of squares to its mean square at full scale 1. */
  readonly #powerOfSum: number;
  /** For each channel: two delays for each filter, and the sum of squares of the current step. */
  readonly #states: readonly Float64Array[];
  readonly #steps = new Float64Array(stepsPerBlock);
  /** The histogram; undefined before its first block, because many sounds are shorter than one. */
  #bins: { readonly power: Float64Array; readonly blocks: Uint32Array } | undefined;
  readonly #range = new LoudnessRangeMeter();
  #framesLeftInStep: number;
  #stepsDone = 0;

  /** Creates a meter for samples whose full scale (0 dBFS) is `fullScale`. */
  constructor(sampleRateHz: number, channels: 1 | 2, fullScale: number) {
    this.#channels = channels;
    this.#weighting = kWeighting(sampleRateHz);
    this.#framesPerStep = Math.round(sampleRateHz / 10);
    this.#framesLeftInStep = this.#framesPerStep;
    this.#powerOfSum = this.#weighting.powerGain / (this.#framesPerStep * fullScale ** 2);
    this.#states = Array.from({ length: channels }, () => new Float64Array(5));
  }

  /**
   * Adds interleaved samples from index `start` up to `end`, in whole sample frames, and updates `extremes`, a minimum
   * and a maximum. The comparisons are nearly free here, because the filters wait for their own results.
   */
  add(samples: Float64Array, start: number, end: number, extremes: Float64Array): void {
    let from = start;
    while (from < end) {
      const to = Math.min(end, from + this.#framesLeftInStep * this.#channels);
      for (let channel = 0; channel < this.#channels; channel++) {
        weigh(samples, from + channel, to, this.#channels, this.#weighting, this.#states[channel]!, extremes);
      }
      this.#framesLeftInStep -= (to - from) / this.#channels;
      if (this.#framesLeftInStep === 0) this.#endStep();
      from = to;
    }
  }

  /** The loudness so far, in LUFS; null if the sound is shorter than 400 ms or never louder than -70 LUFS. */
  integratedLufs(): number | null {
    const ungated = this.#meanPowerOfBinsAbove(0);
    if (ungated === 0) return null;
    return lufsOfPower(this.#meanPowerOfBinsAbove(ungated * relativeGate));
  }

  /** The loudness range so far, in LU; null if the sound is shorter than 3 s or never louder than -70 LUFS. */
  loudnessRangeLu(): number | null {
    return this.#range.rangeLu();
  }

  /** What it takes to go on with another meter. */
  save(): LoudnessState {
    const used: number[] = [];
    const { blocks, power } = this.#histogram();
    for (let bin = 0; bin < binCount; bin++) if (blocks[bin]! > 0) used.push(bin);
    return {
      states: this.#states,
      steps: this.#steps,
      bins: Uint16Array.from(used),
      blocks: Uint32Array.from(used, (bin) => blocks[bin]!),
      power: Float64Array.from(used, (bin) => power[bin]!),
      framesLeftInStep: this.#framesLeftInStep,
      stepsDone: this.#stepsDone,
      range: this.#range.save(),
    };
  }

  /** Goes on where another meter of the same sound was saved. */
  restore({ states, steps, bins, blocks, power, framesLeftInStep, stepsDone, range }: LoudnessState): void {
    for (const [channel, state] of states.entries()) this.#states[channel]!.set(state);
    this.#steps.set(steps);
    const histogram = this.#histogram();
    for (const [at, bin] of bins.entries()) {
      histogram.blocks[bin] = blocks[at]!;
      histogram.power[bin] = power[at]!;
    }
    this.#framesLeftInStep = framesLeftInStep;
    this.#stepsDone = stepsDone;
    this.#range.restore(range);
  }

  /** Steps and the rounding to zero happen at fixed frames, so the result does not depend on how the input is split. */
  #endStep(): void {
    let sum = 0;
    for (const state of this.#states) {
      sum += state[4]!;
      state[4] = 0;
      for (let i = 0; i < 4; i++) if (Math.abs(state[i]!) < tiniestState) state[i] = 0;
    }
    const power = sum * this.#powerOfSum;
    this.#range.addStep(power);
    this.#steps[this.#stepsDone % stepsPerBlock] = power;
    this.#stepsDone++;
    this.#framesLeftInStep = this.#framesPerStep;
    if (this.#stepsDone >= stepsPerBlock) this.#countBlock();
  }

  #countBlock(): void {
    const power = this.#steps.reduce((total, step) => total + step, 0) / stepsPerBlock;
    const lufs = lufsOfPower(power);
    if (!(lufs > absoluteGateLufs)) return;
    const bin = Math.min(binCount - 1, Math.floor((lufs - absoluteGateLufs) * binsPerLu));
    const bins = this.#histogram();
    bins.power[bin]! += power;
    bins.blocks[bin]! += 1;
  }

  #histogram() {
    return (this.#bins ??= { power: new Float64Array(binCount), blocks: new Uint32Array(binCount) });
  }

  /** Mean power of the bins above a gate; 0 if there are none. */
  #meanPowerOfBinsAbove(gate: number): number {
    if (!this.#bins) return 0;
    let power = 0;
    let blocks = 0;
    for (let bin = 0; bin < binCount; bin++) {
      if (this.#bins.power[bin]! > gate * this.#bins.blocks[bin]!) {
        power += this.#bins.power[bin]!;
        blocks += this.#bins.blocks[bin]!;
      }
    }
    return blocks === 0 ? 0 : power / blocks;
  }
}

/** The gain, in dB, from this loudness to the reference level of ReplayGain 2.0, -18 LUFS. */
export function replayGainDb(integratedLufs: number): number {
  return replayGainReferenceLufs - integratedLufs;
}

/**
 * Filters one channel, adds the squares to `state[4]` and updates `extremes`. This loop is nearly the whole cost of the
 * meter, so it uses direct form II, which has the fewest multiplications.
 */
function weigh(
  samples: Float64Array,
  from: number,
  to: number,
  stride: number,
  { a1, a2, b1, b2, c1, c2 }: KWeighting,
  state: Float64Array,
  extremes: Float64Array,
): void {
  let w1 = state[0]!;
  let w2 = state[1]!;
  let v1 = state[2]!;
  let v2 = state[3]!;
  let sum = state[4]!;
  let minimum = extremes[0]!;
  let maximum = extremes[1]!;
  for (let i = from; i < to; i += stride) {
    const sample = samples[i]!;
    if (sample < minimum) minimum = sample;
    if (sample > maximum) maximum = sample;
    const w = sample - a2 * w2 - a1 * w1;
    const shelved = w + b1 * w1 + b2 * w2;
    w2 = w1;
    w1 = w;
    const v = shelved - c2 * v2 - c1 * v1;
    const weighted = v - v1 - v1 + v2;
    v2 = v1;
    v1 = v;
    sum += weighted * weighted;
  }
  state[0] = w1;
  state[1] = w2;
  state[2] = v1;
  state[3] = v2;
  state[4] = sum;
  extremes[0] = minimum;
  extremes[1] = maximum;
}
