import { absoluteGateLufs, lufsOfPower } from "./k-weighting.ts";

/** Steps of 100 ms in a window of 3 s. */
const stepsPerWindow = 30;

/** Windows that are more than 20 LU quieter than the mean of all do not count. */
const relativeGateLu = 20;

/** The range reaches from the 10th to the 95th percentile. */
const lowPercentile = 0.1;
const highPercentile = 0.95;

/** Resolution of the histogram of windows: 0.05 LU, from -70 to +30 LUFS. */
const binsPerLu = 20;
const binCount = 100 * binsPerLu;

/** What a {@link LoudnessRangeMeter} has measured so far. */
export interface LoudnessRangeState {
  readonly steps: Float64Array;
  readonly windows: Uint32Array;
  readonly stepsDone: number;
  readonly windowCount: number;
  readonly powerSum: number;
}

/**
 * Measures the loudness range (EBU Tech 3342) in constant memory: how much the loudness of windows of 3 s varies,
 * without silence and the loudest twentieth. A window begins every 100 ms.
 */
export class LoudnessRangeMeter {
  readonly #steps = new Float64Array(stepsPerWindow);
  readonly #windows = new Uint32Array(binCount);
  #stepsDone = 0;
  #windowCount = 0;
  #powerSum = 0;

  /** Adds the K-weighted power of the next 100 ms: the mean square at full scale 1, summed over the channels. */
  addStep(power: number): void {
    this.#steps[this.#stepsDone % stepsPerWindow] = power;
    this.#stepsDone++;
    if (this.#stepsDone < stepsPerWindow) return;
    const windowPower = this.#steps.reduce((sum, step) => sum + step, 0) / stepsPerWindow;
    const lufs = lufsOfPower(windowPower);
    if (!(lufs > absoluteGateLufs)) return;
    this.#windows[Math.min(binCount - 1, Math.floor((lufs - absoluteGateLufs) * binsPerLu))]! += 1;
    this.#powerSum += windowPower;
    this.#windowCount++;
  }

  /** What it takes to go on with another meter. */
  save(): LoudnessRangeState {
    const windows = this.#windows.subarray(0, this.#windows.findLastIndex((count) => count > 0) + 1);
    const [stepsDone, windowCount, powerSum] = [this.#stepsDone, this.#windowCount, this.#powerSum];
    return { steps: this.#steps, windows, stepsDone, windowCount, powerSum };
  }

  /** Goes on where another meter of the same sound was saved. */
  restore({ steps, windows, stepsDone, windowCount, powerSum }: LoudnessRangeState): void {
    this.#steps.set(steps);
    this.#windows.set(windows);
    this.#stepsDone = stepsDone;
    this.#windowCount = windowCount;
    this.#powerSum = powerSum;
  }

  /** The loudness range so far, in LU; null if the sound is shorter than 3 s or never louder than -70 LUFS. */
  rangeLu(): number | null {
    if (this.#windowCount === 0) return null;
    const gateLufs = lufsOfPower(this.#powerSum / this.#windowCount) - relativeGateLu;
    const firstBin = Math.max(0, Math.floor((gateLufs - absoluteGateLufs) * binsPerLu));
    const counted = this.#windows.subarray(firstBin);
    const total = counted.reduce((sum, windows) => sum + windows, 0);
    const [low, high] = [lowPercentile, highPercentile].map((share) => binAt(counted, Math.round((total - 1) * share)));
    return (high! - low!) / binsPerLu;
  }
}

/** The bin of the window at this position, in ascending order of loudness. */
function binAt(windows: Uint32Array, position: number): number {
  let before = 0;
  return windows.findIndex((count) => (before += count) > position);
}
