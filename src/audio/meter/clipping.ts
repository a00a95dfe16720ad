/**
 * Samples at or above this fraction of full scale count as clipped, if the file's encoding can reach it, as 16 bits
 * can.
 */
const maxClippingLevel = 32_767 / 32_768;

/** This many consecutive samples at full scale with one sign are clipped; fewer are only loud. */
const shortestClippedRun = 3;

/** Floats over full scale by more than this factor were not limited to it: they are loud and whole. */
const overFullScale = 1.001;

/** What a {@link ClippingCounter} has counted so far. */
export interface ClippingState {
  readonly runs: Int32Array;
  readonly clipped: number;
  readonly peak: number;
}

/** Counts samples in runs at full scale. The result does not depend on how the samples are split. */
export class ClippingCounter {
  readonly #channels: number;
  readonly #level: number;
  readonly #fullScale: number;
  readonly #largestSample: number;
  /** For each channel, the length of the current run at full scale; negative for a run at negative full scale. */
  readonly #runs: Int32Array;
  #clipped = 0;
  #peak = 0;

  /**
   * Counts interleaved samples whose full scale (0 dBFS) is `fullScale`. `largestSample` is the largest sample that can
   * occur, relative to full scale.
   */
  constructor(channels: number, fullScale: number, largestSample: number) {
    this.#channels = channels;
    this.#fullScale = fullScale;
    this.#largestSample = largestSample;
    this.#level = Math.min(largestSample, maxClippingLevel) * fullScale;
    this.#runs = new Int32Array(channels);
  }

  /**
   * Adds the first `count` samples.
   * @param largest no sample is larger than this; by default unknown
   */
  add(samples: Float64Array | Float32Array | Int16Array, count = samples.length, largest = Infinity): void {
    // Below this level nothing is clipped, so most sound needs no second loop.
    const peak = largest === Infinity ? largestOf(samples, count) : largest;
    if (peak < this.#level) {
      this.#runs.fill(0);
      return;
    }
    this.#peak = Math.max(this.#peak, peak);
    for (let channel = 0; channel < this.#channels; channel++) this.#count(samples, channel, count);
  }

  /** Samples of all channels so far in runs of three or more at full scale with one sign. */
  get clippedSamples(): number {
    const isWhole = this.#peak > overFullScale * this.#fullScale && this.#peak < this.#largestSample * this.#fullScale;
    return isWhole ? 0 : this.#clipped;
  }

  /** What it takes to go on with another counter. */
  save(): ClippingState {
    return { runs: this.#runs, clipped: this.#clipped, peak: this.#peak };
  }

  /** Goes on where another counter of the same sound was saved. */
  restore({ runs, clipped, peak }: ClippingState): void {
    this.#runs.set(runs);
    this.#clipped = clipped;
    this.#peak = peak;
  }

  #count(samples: Float64Array | Float32Array | Int16Array, channel: number, count: number): void {
    let run = this.#runs[channel]!;
    for (let i = channel; i < count; i += this.#channels) {
      const sample = samples[i]!;
      if (Math.abs(sample) < this.#level) {
        run = 0;
        continue;
      }
      if (sample > 0) run = run > 0 ? run + 1 : 1;
      else run = run < 0 ? run - 1 : -1;
      const length = Math.abs(run);
      if (length >= shortestClippedRun) this.#clipped += length === shortestClippedRun ? shortestClippedRun : 1;
    }
    this.#runs[channel] = run;
  }
}

function largestOf(samples: Float64Array | Float32Array | Int16Array, count: number): number {
  let largest = 0;
  for (let i = 0; i < count; i++) largest = Math.max(largest, Math.abs(samples[i]!));
  return largest;
}
