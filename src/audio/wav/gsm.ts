/**
 * Decodes GSM 6.10 full rate as WAV files contain it (format tag 0x31, Asterisk's `wav49`): each block has two frames
 * of 160 samples, packed from the least significant bit on. ETSI EN 300 961, section 5.3; the names are those of the
 * standard, and the arithmetic is exact to the bit.
 */

export const gsmBlockBytes = 65;
export const gsmBlockFrames = 320;

/** Quantization of the eight log area ratios: bits, smallest value, B, and 1/A. */
const larBits = [6, 6, 5, 5, 4, 4, 3, 3] as const;
const larMinimum = [-32, -32, -16, -16, -8, -8, -4, -4] as const;
const larB = [0, 0, 2048, -2560, 94, -1792, -341, -1144] as const;
const larInverseA = [13_107, 13_107, 13_107, 13_107, 19_223, 17_476, 31_454, 29_708] as const;
/** The long-term predictor's gain, and the mantissa of the largest pulse, by their codes. */
const qlb = [3277, 11_469, 21_299, 32_767] as const;
const fac = [18_431, 20_479, 22_527, 24_575, 26_623, 28_671, 30_719, 32_767] as const;

const frameSamples = 160;
const subFrameSamples = 40;
const longestLag = 120;

/** What a decoder remembers. */
interface GsmState {
  readonly drp: Int16Array;
  readonly lastLar: Int16Array;
  readonly v: Int16Array;
  readonly lag: number;
  readonly emphasis: number;
}

/** Decodes the blocks of one sound, in order. */
export class GsmDecoder {
  /** The reconstructed residual: the longest lag, then the current subframe. */
  readonly #drp = new Int16Array(longestLag + subFrameSamples);
  readonly #residual = new Int16Array(frameSamples);
  readonly #pulses = new Int16Array(subFrameSamples);
  /** Log area ratios of the last frame and of this one, and the reflection coefficients between them. */
  #lastLar = new Int16Array(8);
  #lar = new Int16Array(8);
  readonly #rrp = new Int16Array(8);
  /** Memory of the short-term synthesis filter. */
  readonly #v = new Int16Array(9);
  #lag = subFrameSamples;
  #emphasis = 0;
  #bytes: Buffer = Buffer.alloc(0);
  #bitAt = 0;

  decode(blocks: Buffer): Int16Array<ArrayBuffer> {
    const count = Math.floor(blocks.length / gsmBlockBytes);
    const samples = new Int16Array(count * gsmBlockFrames);
    this.#bytes = blocks;
    for (let block = 0; block < count; block++) {
      this.#bitAt = block * gsmBlockBytes * 8;
      const start = block * gsmBlockFrames;
      this.#decodeFrame(samples.subarray(start, start + frameSamples));
      this.#decodeFrame(samples.subarray(start + frameSamples, start + gsmBlockFrames));
    }
    return samples;
  }

  save(): GsmState {
    const [lag, emphasis] = [this.#lag, this.#emphasis];
    return { drp: this.#drp, lastLar: this.#lastLar, v: this.#v, lag, emphasis };
  }

  restore({ drp, lastLar, v, lag, emphasis }: GsmState): void {
    this.#drp.set(drp);
    this.#lastLar.set(lastLar);
    this.#v.set(v);
    this.#lag = lag;
    this.#emphasis = emphasis;
  }

  #decodeFrame(out: Int16Array): void {
    for (let i = 0; i < 8; i++) {
      const larpp = multiplied(
        larInverseA[i]!,
        clip16(((this.#bits(larBits[i]!) + larMinimum[i]!) << 10) - larB[i]! * 2),
      );
      this.#lar[i] = clip16(larpp * 2);
    }
    for (let subFrame = 0; subFrame < 4; subFrame++) this.#decodeResidual(subFrame * subFrameSamples);
    this.#filter(out, 0, 13, 0.25);
    this.#filter(out, 13, 27, 0.5);
    this.#filter(out, 27, 40, 0.75);
    this.#filter(out, 40, frameSamples, 1);
    [this.#lastLar, this.#lar] = [this.#lar, this.#lastLar];
  }

  /** Reads the next bits, at most 8 of them. */
  #bits(count: number): number {
    const at = this.#bitAt;
    this.#bitAt += count;
    const word = this.#bytes[at >> 3]! | ((this.#bytes[(at >> 3) + 1] ?? 0) << 8);
    return (word >> (at & 7)) & ((1 << count) - 1);
  }

  /** Regular pulse excitation and long-term prediction of one subframe (sections 5.3.1 and 5.3.2). */
  #decodeResidual(start: number): void {
    const lag = this.#bits(7);
    if (lag >= subFrameSamples && lag <= longestLag) this.#lag = lag;
    const gain = qlb[this.#bits(2)]!;
    const grid = this.#bits(2);
    const largest = this.#bits(6);
    let exponent = largest > 15 ? (largest >> 3) - 1 : 0;
    let mantissa = largest - (exponent << 3);
    if (mantissa === 0) {
      exponent = -4;
      mantissa = 7;
    } else {
      for (; mantissa <= 7; exponent--) mantissa = (mantissa << 1) | 1;
      mantissa -= 8;
    }
    const shift = 6 - exponent;
    const rounding = shift > 0 ? 1 << (shift - 1) : 0;
    this.#pulses.fill(0);
    for (let i = 0; i < 13; i++) {
      const pulse = multiplied(fac[mantissa]!, (2 * this.#bits(3) - 7) << 12);
      this.#pulses[grid + 3 * i] = clip16(pulse + rounding) >> shift;
    }
    const drp = this.#drp;
    for (let i = 0, at = longestLag; i < subFrameSamples; i++, at++) {
      drp[at] = clip16(this.#pulses[i]! + multiplied(gain, drp[at - this.#lag]!));
      this.#residual[start + i] = drp[at]!;
    }
    drp.copyWithin(0, subFrameSamples);
  }

  /**
   * Short-term synthesis and deemphasis (sections 5.3.3 and 5.3.4). `share` is that of this frame's log area ratios.
   */
  #filter(out: Int16Array, from: number, to: number, share: 0.25 | 0.5 | 0.75 | 1): void {
    const rrp = this.#rrp;
    const v = this.#v;
    for (let i = 0; i < 8; i++) rrp[i] = reflectionOf(interpolated(this.#lastLar[i]!, this.#lar[i]!, share));
    for (let k = from; k < to; k++) {
      let sri = this.#residual[k]!;
      for (let i = 7; i >= 0; i--) {
        sri = clip16(sri - multiplied(rrp[i]!, v[i]!));
        v[i + 1] = clip16(v[i]! + multiplied(rrp[i]!, sri));
      }
      v[0] = sri;
      this.#emphasis = clip16(sri + multiplied(this.#emphasis, 28_180));
      out[k] = clip16(this.#emphasis * 2) & 0xfff8;
    }
  }
}

function interpolated(last: number, current: number, share: 0.25 | 0.5 | 0.75 | 1): number {
  if (share === 1) return current;
  if (share === 0.5) return (last >> 1) + (current >> 1);
  return (last >> 2) + (current >> 2) + ((share === 0.25 ? last : current) >> 1);
}

function reflectionOf(lar: number): number {
  const magnitude = Math.min(Math.abs(lar), 32_767);
  const reflection =
    magnitude < 11_059
      ? magnitude * 2
      : magnitude < 20_070
        ? magnitude + 11_059
        : Math.min((magnitude >> 2) + 26_112, 32_767);
  return lar < 0 ? -reflection : reflection;
}

/** The rounded product of two fractions of 15 bits. */
function multiplied(a: number, b: number): number {
  return a === -32_768 && b === -32_768 ? 32_767 : (a * b + 16_384) >> 15;
}

function clip16(sample: number): number {
  return sample > 32_767 ? 32_767 : sample < -32_768 ? -32_768 : sample;
}
