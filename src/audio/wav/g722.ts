/**
 * Decodes G.722, the wideband codec of digital telephones: ITU-T Recommendation G.722 at 64 kbit/s. A byte has 2 bits
 * of the upper and 6 bits of the lower half of the spectrum, and becomes two samples.
 */

/**
 * Output of the inverse quantizers, by code: the lower band's with all 6 and with the 4 upper bits, the upper band's.
 */
const lowQuantizer6 = Int16Array.from([
  -17, -17, -17, -17, -3101, -2738, -2376, -2088, -1873, -1689, -1535, -1399, -1279, -1170, -1072, -982, -899, -822,
  -750, -682, -618, -558, -501, -447, -396, -347, -300, -254, -211, -170, -130, -91, 3101, 2738, 2376, 2088, 1873, 1689,
  1535, 1399, 1279, 1170, 1072, 982, 899, 822, 750, 682, 618, 558, 501, 447, 396, 347, 300, 254, 211, 170, 130, 91, 54,
  17, -54, -17,
]);
const lowQuantizer4 = Int16Array.from([
  0, -2557, -1612, -1121, -786, -530, -323, -150, 2557, 1612, 1121, 786, 530, 323, 150, 0,
]);
const highQuantizer = Int16Array.from([-926, -202, 926, 202]);
/** How a code moves the logarithm of the scale factor. */
const lowSteps = Int16Array.from([-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60]);
const highSteps = Int16Array.from([798, -214, 798, -214]);
/** Powers of two from 1 to almost 2, times 2048. */
const powers = Int16Array.from({ length: 32 }, (_, i) => Math.floor(2048 * 2 ** (i / 32) + 0.5));
/** Coefficients of the filter that joins both bands (table 11). */
const synthesis = Int16Array.from([3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11]);

/** What a decoder remembers. */
interface G722State {
  readonly sums: Int32Array;
  readonly differences: Int32Array;
  readonly low: BandState;
  readonly high: BandState;
}

/** Decodes one sound, in order. */
export class G722Decoder {
  readonly #low = new Band(lowQuantizer4, lowSteps, 18_432, 8);
  readonly #high = new Band(highQuantizer, highSteps, 22_528, 10);
  /** The last 12 sums and differences of both bands, the oldest first. */
  readonly #sums = new Int32Array(12);
  readonly #differences = new Int32Array(12);

  decode(bytes: Buffer): Int16Array<ArrayBuffer> {
    const [low, high, sums, differences] = [this.#low, this.#high, this.#sums, this.#differences];
    const samples = new Int16Array(2 * bytes.length);
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i]!;
      const lowSignal = clip(((low.scale * lowQuantizer6[byte & 63]!) >> 10) + low.prediction, 16_383);
      low.adapt((byte & 63) >> 2);
      const highSignal = clip(((high.scale * highQuantizer[byte >> 6]!) >> 10) + high.prediction, 16_383);
      high.adapt(byte >> 6);
      sums.copyWithin(0, 1);
      differences.copyWithin(0, 1);
      sums[11] = lowSignal + highSignal;
      differences[11] = lowSignal - highSignal;
      let first = 0;
      let second = 0;
      for (let tap = 0; tap < 12; tap++) {
        first += differences[tap]! * synthesis[11 - tap]!;
        second += sums[tap]! * synthesis[tap]!;
      }
      samples[2 * i] = clip(first >> 11, 32_767);
      samples[2 * i + 1] = clip(second >> 11, 32_767);
    }
    return samples;
  }

  save(): G722State {
    return { sums: this.#sums, differences: this.#differences, low: this.#low.save(), high: this.#high.save() };
  }

  restore({ sums, differences, low, high }: G722State): void {
    this.#sums.set(sums);
    this.#differences.set(differences);
    this.#low.restore(low);
    this.#high.restore(high);
  }
}

/** What a band remembers. */
interface BandState {
  readonly scale: number;
  readonly prediction: number;
  readonly log: number;
  readonly pole1: number;
  readonly pole2: number;
  readonly zeros: Int32Array;
  readonly differences: Int32Array;
  readonly zeroPart: number;
  readonly lastSignal: number;
  readonly wasNegative1: boolean;
  readonly wasNegative2: boolean;
}

/** The adaptive predictor and quantizer of one band. */
class Band {
  /** Scale factor of the quantizer. */
  scale: number;
  /** The predicted signal. */
  prediction = 0;
  readonly #quantizer: Int16Array;
  readonly #steps: Int16Array;
  readonly #maxLog: number;
  readonly #shift: number;
  #log = 0;
  #pole1 = 0;
  #pole2 = 0;
  readonly #zeros = new Int32Array(6);
  readonly #differences = new Int32Array(6);
  #zeroPart = 0;
  #lastSignal = 0;
  #wasNegative1 = false;
  #wasNegative2 = false;

  constructor(quantizer: Int16Array, steps: Int16Array, maxLog: number, shift: number) {
    this.#quantizer = quantizer;
    this.#steps = steps;
    this.#maxLog = maxLog;
    this.#shift = shift;
    this.scale = 2048 >> shift;
  }

  save(): BandState {
    return {
      scale: this.scale,
      prediction: this.prediction,
      log: this.#log,
      pole1: this.#pole1,
      pole2: this.#pole2,
      zeros: this.#zeros,
      differences: this.#differences,
      zeroPart: this.#zeroPart,
      lastSignal: this.#lastSignal,
      wasNegative1: this.#wasNegative1,
      wasNegative2: this.#wasNegative2,
    };
  }

  restore(state: BandState): void {
    this.scale = state.scale;
    this.prediction = state.prediction;
    this.#log = state.log;
    this.#pole1 = state.pole1;
    this.#pole2 = state.pole2;
    this.#zeros.set(state.zeros);
    this.#differences.set(state.differences);
    this.#zeroPart = state.zeroPart;
    this.#lastSignal = state.lastSignal;
    this.#wasNegative1 = state.wasNegative1;
    this.#wasNegative2 = state.wasNegative2;
  }

  adapt(code: number): void {
    this.#predict((this.scale * this.#quantizer[code]!) >> 10);
    this.#log = Math.min(Math.max(((this.#log * 127) >> 7) + this.#steps[code]!, 0), this.#maxLog);
    const shift = (this.#log >> 11) - this.#shift;
    const power = powers[(this.#log >> 6) & 31]!;
    this.scale = shift < 0 ? power >> -shift : power << shift;
  }

  #predict(difference: number): void {
    const isNegative = this.#zeroPart + difference < 0;
    const sign1 = isNegative === this.#wasNegative1 ? -1 : 1;
    const sign2 = isNegative === this.#wasNegative2 ? 1 : -1;
    this.#wasNegative2 = this.#wasNegative1;
    this.#wasNegative1 = isNegative;
    const leaked2 = (this.#pole2 * 127) >> 7;
    this.#pole2 = clip(((sign1 * clip(this.#pole1, 8191)) >> 5) + sign2 * 128 + leaked2, 12_288);
    const leaked1 = (this.#pole1 * 255) >> 8;
    const limit = 15_360 - this.#pole2;
    this.#pole1 = Math.min(Math.max(leaked1 - 192 * sign1, -limit), limit);

    const zeros = this.#zeros;
    const differences = this.#differences;
    for (let i = 0; i < 6; i++) {
      const gradient = difference === 0 ? 0 : (differences[i]! ^ difference) < 0 ? -128 : 128;
      zeros[i] = ((zeros[i]! * 255) >> 8) + gradient;
    }
    differences.copyWithin(1, 0, 5);
    differences[0] = difference * 2;
    this.#zeroPart = 0;
    for (let i = 0; i < 6; i++) this.#zeroPart += (differences[i]! * zeros[i]!) >> 15;

    const signal = clip((this.prediction + difference) * 2, 32_767);
    const polePart = ((this.#pole1 * signal) >> 15) + ((this.#pole2 * this.#lastSignal) >> 15);
    this.prediction = clip(this.#zeroPart + polePart, 32_767);
    this.#lastSignal = signal;
  }
}

/** Limits to `-limit - 1` and `limit` if the limit is that of a signal, else to `-limit` and `limit`. */
function clip(value: number, limit: number): number {
  const lowest = limit === 32_767 || limit === 16_383 ? -limit - 1 : -limit;
  return value < lowest ? lowest : value > limit ? limit : value;
}
