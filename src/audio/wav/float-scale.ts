import type { WavFormat } from "./wav-format.ts";
import { floatsOf } from "./wav-to-pcm.ts";

/** Full scale of floats from programs that do not divide integers of 16, 24 or 32 bits by their range. */
const integerScales = [2 ** 15, 2 ** 23, 2 ** 31] as const;

/** Factor by which resampling or a filter may exceed that range. */
const overshoot = 1.5;
const maxPlausible = overshoot * integerScales[2];

/** Values up to this are inaudible at any scale: 120 dB below 1. */
const inaudible = 1e-6;

/** Correctly scaled floats are never this large: 42 dB over full scale. */
const maxHonest = 128;

/**
 * Number of samples that decide about a file that looks correctly scaled: none is far over full scale, and not all are
 * whole numbers.
 */
const honestLook = 128 * 1024;

/**
 * Number of samples that decide about any other file: 5 s of stereo at 48 kHz. They are kept in memory meanwhile (2 or
 * 4 MiB).
 */
const longestLook = 512 * 1024;

/** What a {@link FloatScale} knows so far. */
export interface FloatScaleState {
  readonly fullScale: number;
  readonly isSettled: boolean;
  /** Samples that were absurd while nothing was audible. */
  readonly absurd: number;
  readonly looked: number;
}

/**
 * Determines full scale in a file of floats: 1, or the range of the integers from which they were made. It examines a
 * limited number of samples from the first audible one on; the result applies to the whole file.
 */
export class FloatScale {
  /** Full scale of the blocks that {@link settled} has yielded. */
  fullScale: number;
  readonly #format: WavFormat;
  #looked = 0;
  #audible = 0;
  #peak = 0;
  /** Samples that are only plausible in the range of integers. */
  #large = 0;
  /** Samples that only damage can explain. */
  #absurd = 0;
  #fractions = 0;
  #ones = 0;
  #twos = 0;
  #isShifted = true;
  /** Blocks that wait for the decision; undefined once it is made. */
  #waiting: Buffer[] | undefined = [];

  constructor(format: WavFormat) {
    this.#format = format;
    this.fullScale = format.floatFullScale;
  }

  /** Yields the blocks once {@link fullScale} is known. Inaudible blocks are yielded at once. */
  settled(blocks: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
    return this.#format.codec === "float" && this.#format.floatFullScale === 1 ? this.#held(blocks) : blocks;
  }

  /** What it takes to go on with another one; undefined while it keeps blocks back. */
  save(): FloatScaleState | undefined {
    if (this.#waiting !== undefined && this.#waiting.length > 0) return undefined;
    const isSettled = this.#waiting === undefined;
    return { fullScale: this.fullScale, isSettled, absurd: this.#absurd, looked: this.#looked };
  }

  /** Goes on where another one of the same sound was saved. */
  restore({ fullScale, isSettled, absurd, looked }: FloatScaleState): void {
    this.fullScale = fullScale;
    if (isSettled) this.#waiting = undefined;
    this.#absurd = absurd;
    this.#looked = looked;
  }

  async *#held(blocks: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    for await (const block of blocks) {
      const held = this.#waiting;
      if (held) {
        this.#look(floatsOf(block, this.#format));
        if (this.#audible > 0) held.push(block);
        else yield block;
        if (this.#looked < (this.#looksHonest() ? honestLook : longestLook)) continue;
        this.fullScale = this.#decide();
        this.#waiting = undefined;
        yield* held;
      } else {
        yield block;
      }
    }
    if (!this.#waiting) return;
    this.fullScale = this.#decide();
    yield* this.#waiting;
  }

  #look(numbers: Float32Array | Float64Array): void {
    for (const number of numbers) {
      const magnitude = Math.abs(number);
      if (this.#audible > 0 || magnitude > inaudible) this.#looked++;
      if (Number.isNaN(magnitude) || magnitude <= inaudible) continue;
      if (magnitude > maxPlausible) {
        this.#absurd++;
        continue;
      }
      this.#audible++;
      if (magnitude > this.#peak) this.#peak = magnitude;
      if (magnitude > maxHonest) this.#large++;
      if (!Number.isInteger(magnitude)) this.#fractions++;
      else if (magnitude === 1) this.#ones++;
      else if (magnitude === 2) this.#twos++;
      if (magnitude % 256 !== 0) this.#isShifted = false;
    }
  }

  #looksHonest(): boolean {
    return this.#fractions > 0 && this.#peak <= 2;
  }

  #decide(): number {
    const isLarge = this.#large >= 0.01 * this.#audible && this.#large > 10 * this.#absurd;
    if (this.#audible === 0 || !(isLarge || this.#isWholeNumbers())) return 1;
    const scale = integerScales.find((fullScale) => this.#peak <= overshoot * fullScale)!;
    // 24 bits in the upper part of 32: a quiet beginning would be taken for 24 bits.
    return this.#isShifted && scale > integerScales[0] ? integerScales[2] : scale;
  }

  /**
   * Whether these are integers, even quiet ones: with steps of one, unlike the edges of a square wave or single clicks.
   */
  #isWholeNumbers(): boolean {
    if (this.#fractions > 0 || this.#absurd > 0) return false;
    if (this.#peak > 1) return this.#peak > 16 || (this.#ones > 0 && this.#twos > 0);
    // Dither of one step. It is neither a few clicks nor a wave without zeros.
    const share = this.#audible / this.#looked;
    return this.#looked >= longestLook && share > 0.05 && share < 0.95;
  }
}
