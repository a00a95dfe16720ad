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
 * Samples that are skipped together if none of them can reach a new peak. Their interpolated values depend on them and
 * on no more than as many samples before them.
 */
const blockSamples = 16;

/**
 * Interpolated values lie between two samples, which have the coefficients number 5 and 6; 4 and 7 are those of the next
 * ones. A phase is the sum, and its reverse the difference, of what the sums and what the differences of two samples at
 * the same distance give. So the larger magnitude of the two phases is the sum of both magnitudes.
 */
const [sum05, sum04, difference05, difference04] = pairsOf(phase0);
const [sum15, sum14, difference15, difference14] = pairsOf(phase1);
/** The most that the eight outer samples can add, as a multiple of the largest of them. */
const mostOfOthers0 = mostOfOthers(phase0);
const mostOfOthers1 = mostOfOthers(phase1);
/** No interpolated value exceeds the largest of the samples around it by more than this factor. */
const mostOvershoot = 2.03;

// Not looked up again for each sample: where a script has a global object of its own, as in a test, that takes longer
// than all the rest.
const { abs, max } = Math;

/** What a {@link TruePeakMeter} has measured so far. */
export interface TruePeakState {
  /** For each channel, the last samples. */
  readonly last: readonly Float64Array[];
  readonly largestBefore: number;
  readonly peak: number;
}

/**
 * Measures the true peak (ITU-R BS.1770-4 annex 2): the largest magnitude of the sound between the samples, at four
 * times their rate. It only interpolates where a new peak is possible, which in music is at a few percent of the
 * samples.
 */
export class TruePeakMeter {
  readonly #channels: number;
  /** Number of samples in a block of all channels. */
  readonly #blockLength: number;
  /** The last block of earlier calls, followed by the samples of the current one. */
  readonly #joined: Float64Array;
  /** No sample of the last call is larger than this. */
  #largestBefore = 0;
  #peak = 0;

  /** `maxFrames` is the maximum number of sample frames in one call of {@link add}. */
  constructor(channels: number, maxFrames: number) {
    this.#channels = channels;
    this.#blockLength = blockSamples * channels;
    this.#joined = new Float64Array(this.#blockLength + maxFrames * channels);
  }

  /**
   * Adds the first `count` interleaved samples, in whole sample frames.
   * @param largest no sample is larger than this
   */
  add(samples: Float64Array, count: number, largest: number): void {
    if (largest > this.#peak) this.#peak = largest;
    const isQuiet = Math.max(largest, this.#largestBefore) * mostOvershoot <= this.#peak;
    this.#largestBefore = count < this.#blockLength ? Math.max(largest, this.#largestBefore) : largest;
    this.#joined.set(count === samples.length ? samples : samples.subarray(0, count), this.#blockLength);
    if (!isQuiet) this.#interpolate(count);
    this.#joined.copyWithin(0, count, count + this.#blockLength);
  }

  /**
   * Interpolates behind the last sample, as if silence followed, and returns the true peak in the unit of the samples.
   */
  finish(): number {
    this.#joined.fill(0, this.#blockLength, 2 * this.#blockLength);
    this.#interpolate(this.#blockLength);
    return this.#peak;
  }

  /** What it takes to go on with another meter. */
  save(): TruePeakState {
    const last = Array.from({ length: this.#channels }, (_, channel) =>
      Float64Array.from({ length: blockSamples }, (_, frame) => this.#joined[frame * this.#channels + channel]!),
    );
    return { last, largestBefore: this.#largestBefore, peak: this.#peak };
  }

  /** Goes on where another meter of the same sound was saved. */
  restore({ last, largestBefore, peak }: TruePeakState): void {
    for (const [channel, samples] of last.entries()) {
      for (const [frame, sample] of samples.entries()) this.#joined[frame * this.#channels + channel] = sample;
    }
    this.#largestBefore = largestBefore;
    this.#peak = peak;
  }

  #interpolate(count: number): void {
    const joined = this.#joined;
    const step = this.#blockLength;
    let before = largestOf(joined, 0, step);
    for (let start = step; start < step + count; start += step) {
      const end = Math.min(step + count, start + step);
      const largest = largestOf(joined, start, end);
      const around = Math.max(before, largest);
      if (around * mostOvershoot > this.#peak) {
        this.#peak = largestBetween(joined, start, end, this.#channels, around, this.#peak);
      }
      before = largest;
    }
  }
}

/** For a phase: the factors of the sum and of the difference of samples 5 and 6, and of samples 4 and 7. */
function pairsOf(phase: readonly number[]): readonly [number, number, number, number] {
  const half = (at: number, sign: 1 | -1) => (phase[at]! + sign * phase[11 - at]!) / 2;
  return [half(5, 1), half(4, 1), half(5, -1), half(4, -1)];
}

/** The magnitudes of the coefficients of the eight outer samples, added up and rounded up. */
function mostOfOthers(phase: readonly number[]): number {
  return phase.toSpliced(4, 4).reduce((sum, coefficient) => sum + Math.abs(coefficient), 1e-9);
}

function largestOf(samples: Float64Array, from: number, to: number): number {
  let highest = 0;
  let lowest = 0;
  for (let i = from; i < to; i++) {
    const sample = samples[i]!;
    if (sample > highest) highest = sample;
    if (sample < lowest) lowest = sample;
  }
  return max(highest, -lowest);
}

/**
 * The peak so far, or else the largest interpolated magnitude for the samples from `start` up to `end`, which have a
 * distance of `stride` in their channel.
 * @param around no sample here or in the block before is larger
 */
function largestBetween(
  joined: Float64Array,
  start: number,
  end: number,
  stride: number,
  around: number,
  peak: number,
): number {
  const others0 = mostOfOthers0 * around;
  const others1 = mostOfOthers1 * around;
  let largest = peak;
  for (let i = start; i < end; i++) {
    const sample4 = joined[i - 4 * stride]!;
    const sample5 = joined[i - 5 * stride]!;
    const sample6 = joined[i - 6 * stride]!;
    const sample7 = joined[i - 7 * stride]!;
    const sum5 = sample5 + sample6;
    const sum4 = sample4 + sample7;
    const difference5 = sample5 - sample6;
    const difference4 = sample4 - sample7;
    const inner0 = abs(sum05 * sum5 + sum04 * sum4) + abs(difference05 * difference5 + difference04 * difference4);
    const inner1 = abs(sum15 * sum5 + sum14 * sum4) + abs(difference15 * difference5 + difference14 * difference4);
    if (inner0 + others0 <= largest && inner1 + others1 <= largest) continue;
    let value0 = 0;
    let value1 = 0;
    let value2 = 0;
    let value3 = 0;
    for (let k = 0; k < coefficientsPerPhase; k++) {
      const sample = joined[i - k * stride]!;
      value0 += coefficients[k]! * sample;
      value1 += coefficients[coefficientsPerPhase + k]! * sample;
      value2 += coefficients[2 * coefficientsPerPhase + k]! * sample;
      value3 += coefficients[3 * coefficientsPerPhase + k]! * sample;
    }
    largest = max(largest, abs(value0), abs(value1), abs(value2), abs(value3));
  }
  return largest;
}
