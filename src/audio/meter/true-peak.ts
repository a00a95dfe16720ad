/**
 * The interpolation filter of ITU-R BS.1770-4 annex 2, in its four phases: each has 12 coefficients, and the last two
 * phases are the first two reversed.
 */
const phase0 = [
  0.001708984375, 0.010986328125, -0.0196533203125, 0.033203125, -0.0594482421875, 0.1373291015625, 0.97216796875,
  -0.102294921875, 0.047607421875, -0.026611328125, 0.014892578125, -0.00830078125,
];
const phase1 = [
  -0.0291748046875, 0.029296875, -0.0517578125, 0.089111328125, -0.16650390625, 0.465087890625, 0.77978515625,
  -0.2003173828125, 0.1015625, -0.0582275390625, 0.0330810546875, -0.0189208984375,
];
const coefficients = Float64Array.from([...phase0, ...phase1, ...phase1.toReversed(), ...phase0.toReversed()]);
const coefficientsPerPhase = phase0.length;

/**
 * Samples that are skipped together if none of them can reach a new peak. Their interpolated values depend on them and on
 * no more than as many samples before them.
 */
const blockSamples = 16;

/**
 * Interpolated values lie between two samples, which have the coefficients number 5 and 6. Their magnitudes add up to at
 * most this, rounded up.
 */
const mostOfNeighbours = 1.25;
/** The same for the ten other coefficients. */
const mostOfOthers = 0.78;
/** No interpolated value exceeds the largest of the samples around it by more than this factor. */
const mostOvershoot = mostOfNeighbours + mostOfOthers;

// Not looked up again for each sample: where a script has a global object of its own, as in a test, that takes longer than
// all the rest.
const { abs, max } = Math;

/**
 * Measures the true peak (ITU-R BS.1770-4 annex 2): the largest magnitude of the sound between the samples, at four times
 * their rate. It only interpolates where a new peak is possible, which in music is at a few percent of the samples.
 */
export class TruePeakMeter {
  readonly #channels: number;
  /** For each channel, the last samples of earlier calls, followed by those of the current one. */
  readonly #joined: readonly Float64Array[];
  /** No sample of the last call is larger than this. */
  #largestBefore = 0;
  #peak = 0;

  /** `maxFrames` is the maximum number of sample frames in one call of {@link add}. */
  constructor(channels: number, maxFrames: number) {
    this.#channels = channels;
    this.#joined = Array.from({ length: channels }, () => new Float64Array(blockSamples + maxFrames));
  }

  /**
   * Adds the first `count` interleaved samples, in whole sample frames.
   * @param largest no sample is larger than this
   */
  add(samples: Float64Array, count: number, largest: number): void {
    const frames = count / this.#channels;
    if (largest > this.#peak) this.#peak = largest;
    const isQuiet = Math.max(largest, this.#largestBefore) * mostOvershoot <= this.#peak;
    this.#largestBefore = frames < blockSamples ? Math.max(largest, this.#largestBefore) : largest;
    for (const [channel, joined] of this.#joined.entries()) {
      const firstFrame = isQuiet ? Math.max(0, frames - blockSamples) : 0;
      let at = blockSamples + firstFrame;
      for (let i = channel + firstFrame * this.#channels; i < count; i += this.#channels) joined[at++] = samples[i]!;
      if (!isQuiet) this.#interpolate(joined, frames);
      joined.copyWithin(0, frames, frames + blockSamples);
    }
  }

  /** Interpolates behind the last sample, as if silence followed, and returns the true peak in the unit of the samples. */
  finish(): number {
    for (const joined of this.#joined) {
      joined.fill(0, blockSamples, 2 * blockSamples);
      this.#interpolate(joined, blockSamples);
    }
    return this.#peak;
  }

  #interpolate(joined: Float64Array, count: number): void {
    let before = largestOf(joined, 0, blockSamples);
    for (let start = blockSamples; start < blockSamples + count; start += blockSamples) {
      const end = Math.min(blockSamples + count, start + blockSamples);
      const largest = largestOf(joined, start, end);
      if (Math.max(before, largest) * mostOvershoot > this.#peak) {
        this.#peak = largestBetween(joined, start, end, mostOfOthers * Math.max(before, largest), this.#peak);
      }
      before = largest;
    }
  }
}

function largestOf(samples: Float64Array, from: number, to: number): number {
  let largest = 0;
  for (let i = from; i < to; i++) {
    const magnitude = abs(samples[i]!);
    if (magnitude > largest) largest = magnitude;
  }
  return largest;
}

/**
 * The peak so far, or else the largest interpolated magnitude for the samples from `start` up to `end`.
 * @param others the most that the ten outer samples can add
 */
function largestBetween(joined: Float64Array, start: number, end: number, others: number, peak: number): number {
  let largest = peak;
  for (let i = start; i < end; i++) {
    const neighbours = max(abs(joined[i - 5]!), abs(joined[i - 6]!));
    if (neighbours * mostOfNeighbours + others <= largest) continue;
    let sum0 = 0;
    let sum1 = 0;
    let sum2 = 0;
    let sum3 = 0;
    for (let k = 0; k < coefficientsPerPhase; k++) {
      const sample = joined[i - k]!;
      sum0 += coefficients[k]! * sample;
      sum1 += coefficients[coefficientsPerPhase + k]! * sample;
      sum2 += coefficients[2 * coefficientsPerPhase + k]! * sample;
      sum3 += coefficients[3 * coefficientsPerPhase + k]! * sample;
    }
    largest = max(largest, abs(sum0), abs(sum1), abs(sum2), abs(sum3));
  }
  return largest;
}
