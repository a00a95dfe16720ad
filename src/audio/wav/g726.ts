/**
 * Decodes G.726 ADPCM: ITU-T Recommendation G.726 at 16 to 40 kbit/s, that is 2 to 5 bits a sample, packed from the most
 * significant bit on. 32 kbit/s are G.721, and 24 and 40 kbit/s the G.723 of 1988. Capitals name the blocks of the
 * recommendation. ffmpeg (up to 7.0 at least) encodes a form of its own, which only its own arithmetic decodes exactly.
 */

/** The inverse quantizer by code: its output (dqln), the scale factor's multiplier (W) and the speed control (F). */
interface Quantizer {
  readonly dqln: Int16Array;
  readonly w: Int16Array;
  readonly f: Int16Array;
}

/** For positive codes, in ascending order. Negative codes follow with the same values in reverse order. */
const quantizers: Readonly<Record<number, Quantizer>> = {
  2: quantizer([116, 365], [-704, 14_048], [0, 7]),
  3: quantizer([-2048, 135, 273, 373], [-128, 960, 4384, 18_624], [0, 1, 2, 7]),
  4: quantizer(
    [-2048, 4, 135, 213, 273, 323, 373, 425],
    [-384, 576, 1312, 2048, 3584, 6336, 11_360, 35_904],
    [0, 0, 0, 1, 1, 1, 3, 7],
  ),
  5: quantizer(
    [-2048, -66, 28, 104, 169, 224, 274, 318, 358, 395, 429, 459, 488, 514, 539, 566],
    [448, 448, 768, 1248, 1280, 1312, 1856, 3200, 4512, 5728, 7008, 8960, 11_456, 14_080, 16_928, 22_272],
    [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6],
  ),
};

function quantizer(dqln: readonly number[], w: readonly number[], f: readonly number[]): Quantizer {
  const mirrored = (values: readonly number[]): number[] => [...values, ...values.toReversed()];
  return {
    dqln: Int16Array.from(mirrored(dqln)),
    w: Int16Array.from(mirrored(w).map((value) => value / 32)),
    f: Int16Array.from(mirrored(f).map((value) => value << 9)),
  };
}

/** Whether G.726 is defined for this number of bits per sample. */
export function isG726Depth(bits: number): boolean {
  return bits in quantizers;
}

/** What a decoder remembers. */
interface G726State {
  readonly yu: number;
  readonly yl: number;
  readonly dms: number;
  readonly dml: number;
  readonly ap: number;
  readonly isTone: boolean;
  readonly a1: number;
  readonly a2: number;
  readonly pk1: number;
  readonly pk2: number;
  readonly sr1: number;
  readonly sr2: number;
  readonly b: Int16Array;
  readonly dq: Int16Array;
}

/** Decodes one sound, in order, in pieces of whole codes. */
export class G726Decoder {
  readonly #bits: number;
  readonly #quantizer: Quantizer;
  readonly #isFfmpegs: boolean;
  /** By how many bits the coefficients of the zeros are shifted to fade. */
  readonly #leak: 8 | 9;
  /** Scale factors, fast and slow. */
  #yu = 544;
  #yl = 34_816;
  /** Speed control: averages of F, short and long, and their comparison. */
  #dms = 0;
  #dml = 0;
  #ap = 0;
  /** Whether the signal may be a modem's (`td`). */
  #isTone = false;
  /** Predictor coefficients: two poles and six zeros. */
  #a1 = 0;
  #a2 = 0;
  readonly #b = new Int16Array(6);
  /** Signs of the last two partly reconstructed signals. */
  #pk1 = 0;
  #pk2 = 0;
  /** The last reconstructed signals and differences as floating point: sign, 4 bits of exponent, 6 of mantissa. */
  #sr1 = 32;
  #sr2 = 32;
  readonly #dq = new Int16Array(6).fill(32);

  /** `isFfmpegs` says whether ffmpeg encoded the sound. */
  constructor(bits: number, isFfmpegs = false) {
    this.#bits = bits;
    this.#quantizer = quantizers[bits]!;
    this.#isFfmpegs = isFfmpegs;
    this.#leak = bits === 5 && !isFfmpegs ? 9 : 8;
  }

  decode(bytes: Buffer): Int16Array<ArrayBuffer> {
    const bits = this.#bits;
    const samples = new Int16Array(Math.floor((bytes.length * 8) / bits));
    for (let i = 0, at = 0; i < samples.length; i++, at += bits) {
      const word = (bytes[at >> 3]! << 8) | (bytes[(at >> 3) + 1] ?? 0);
      samples[i] = clip16(this.#decodeCode((word >> (16 - (at & 7) - bits)) & ((1 << bits) - 1)) * 4);
    }
    return samples;
  }

  save(): G726State {
    return {
      yu: this.#yu,
      yl: this.#yl,
      dms: this.#dms,
      dml: this.#dml,
      ap: this.#ap,
      isTone: this.#isTone,
      a1: this.#a1,
      a2: this.#a2,
      pk1: this.#pk1,
      pk2: this.#pk2,
      sr1: this.#sr1,
      sr2: this.#sr2,
      b: this.#b,
      dq: this.#dq,
    };
  }

  restore(state: G726State): void {
    this.#yu = state.yu;
    this.#yl = state.yl;
    this.#dms = state.dms;
    this.#dml = state.dml;
    this.#ap = state.ap;
    this.#isTone = state.isTone;
    this.#a1 = state.a1;
    this.#a2 = state.a2;
    this.#pk1 = state.pk1;
    this.#pk2 = state.pk2;
    this.#sr1 = state.sr1;
    this.#sr2 = state.sr2;
    this.#b.set(state.b);
    this.#dq.set(state.dq);
  }

  #decodeCode(code: number): number {
    const b = this.#b;
    const dq = this.#dq;
    let sezi = 0;
    for (let i = 0; i < 6; i++) sezi += product(b[i]! >> 2, dq[i]!);
    const se = (sezi + product(this.#a1 >> 2, this.#sr1) + product(this.#a2 >> 2, this.#sr2)) >> 1;
    const y = this.#scaleFactor();
    const isNegative = code >> (this.#bits - 1) === 1;
    const magnitude = antilog(this.#quantizer.dqln[code]! + (y >> 2));
    const sr = isNegative ? se - magnitude : se + magnitude;
    const dqsez = sr - se + (sezi >> 1);
    this.#adapt(y, this.#quantizer.w[code]! << 5, this.#quantizer.f[code]!, magnitude, isNegative, sr, dqsez);
    return sr;
  }

  /** MIX: the scale factor, between the fast and the slow one. */
  #scaleFactor(): number {
    if (this.#ap >= 256) return this.#yu;
    const slow = this.#yl >> 6;
    const difference = this.#yu - slow;
    const share = this.#ap >> 2;
    if (this.#isFfmpegs) return (this.#yl + difference * share) >> 6;
    return slow + ((difference * share + (difference < 0 ? 63 : 0)) >> 6);
  }

  #adapt(y: number, w: number, f: number, magnitude: number, isNegative: boolean, sr: number, dqsez: number): void {
    const pk0 = dqsez < 0 ? 1 : 0;
    // TRANS: a sudden change of a tone
    const exponent = this.#yl >> 15;
    const threshold = exponent > 9 ? 31 << 10 : (32 + ((this.#yl >> 10) & 31)) << exponent;
    const isTransition = this.#isTone && magnitude > (threshold + (threshold >> 1)) >> 1;

    this.#yu = clip(y + ((w - y) >> 5), 544, 5120);
    this.#yl += this.#yu + (-this.#yl >> 6);

    if (isTransition) {
      this.#a1 = 0;
      this.#a2 = 0;
      this.#b.fill(0);
    } else {
      this.#adaptPoles(pk0, dqsez);
      for (let i = 0; i < 6; i++) {
        const isSameSign = this.#dq[i]! < 0 === isNegative;
        const gradient = magnitude === 0 ? 0 : isSameSign ? 128 : -128;
        this.#b[i] = this.#b[i]! - (this.#b[i]! >> this.#leak) + gradient;
      }
    }

    this.#dq.copyWithin(1, 0, 5);
    this.#dq[0] = floating(magnitude, isNegative);
    this.#sr2 = this.#sr1;
    this.#sr1 = floating(Math.abs(sr), sr < 0);
    this.#pk2 = this.#pk1;
    this.#pk1 = pk0;
    this.#isTone = !isTransition && this.#a2 < -11_776;

    this.#dms += (f - this.#dms) >> 5;
    this.#dml += (f * 4 - this.#dml) >> 7;
    const isFast = y < 1536 || this.#isTone || Math.abs(this.#dms * 4 - this.#dml) >= this.#dml >> 3;
    this.#ap = isTransition ? 256 : this.#ap + (((isFast ? 512 : 0) - this.#ap) >> 4);
  }

  #adaptPoles(pk0: number, dqsez: number): void {
    const isSameAs1 = pk0 === this.#pk1;
    let a2 = this.#a2 - (this.#a2 >> 7);
    let a1 = this.#a1 - (this.#a1 >> 8);
    if (dqsez !== 0) {
      const fa1 = isSameAs1 ? -this.#a1 : this.#a1;
      a2 += fa1 < -8191 ? -256 : fa1 > 8191 ? 255 : fa1 >> 5;
      a2 = clip(a2 + (pk0 === this.#pk2 ? 128 : -128), -12_288, 12_288);
      a1 += isSameAs1 ? 192 : -192;
    }
    this.#a2 = a2;
    this.#a1 = clip(a1, a2 - 15_360, 15_360 - a2);
  }
}

/** ANTILOG: the difference from its logarithm, in steps of 1/128. */
function antilog(log: number): number {
  return log < 0 ? 0 : ((128 + (log & 127)) << 7) >> (14 - ((log >> 7) & 15));
}

/** FLOATA and FLOATB: a magnitude of 15 bits and its sign. */
function floating(magnitude: number, isNegative: boolean): number {
  const exponent = 32 - Math.clz32(magnitude);
  const mantissa = magnitude === 0 ? 32 : (magnitude << 6) >> exponent;
  return (exponent << 6) + mantissa - (isNegative ? 1024 : 0);
}

/** FMULT: a coefficient times a value in floating point. */
function product(coefficient: number, value: number): number {
  const magnitude = coefficient > 0 ? coefficient : -coefficient & 0x1fff;
  const exponent = 26 - Math.clz32(magnitude);
  const mantissa = magnitude === 0 ? 32 : exponent >= 0 ? magnitude >> exponent : magnitude << -exponent;
  const sum = exponent + ((value >> 6) & 15) - 13;
  const fraction = (mantissa * (value & 63) + 48) >> 4;
  const result = sum >= 0 ? (fraction << sum) & 0x7fff : fraction >> -sum;
  return (coefficient ^ value) < 0 ? -result : result;
}

function clip(value: number, lowest: number, highest: number): number {
  return value < lowest ? lowest : value > highest ? highest : value;
}

function clip16(sample: number): number {
  return clip(sample, -32_768, 32_767);
}
