import { codingIn } from "./hidden-coding.ts";
import { disguised, type WavFormat } from "./wav-format.ts";

/** Number of bytes that are examined, from the first one that is not zero: three seconds of a CD. */
const watchedBytes = 512 * 1024;

/** What a {@link DisguisedSound} knows so far. */
export interface DisguisedSoundState {
  readonly isOver: boolean;
  readonly leadingZeros: number;
}

/**
 * Detects sound that is labelled as PCM but is not: coded sound meant for a receiver, or another type of file. Played
 * as PCM, it would be white noise at full scale. Refusing music would be worse than missing a rare file, so coded sound
 * counts only if several frames follow one another at the distance that they state, or at a constant one.
 */
export class DisguisedSound {
  readonly #format: WavFormat;
  readonly #watched: Buffer[] = [];
  #watchedBytes = 0;
  #leadingZeros = 0;
  #isOver: boolean;

  constructor(format: WavFormat) {
    this.#format = format;
    this.#isOver = format.framesPerBlock > 1;
  }

  /**
   * Adds the next bytes of the sound, as they are in the file.
   * @throws {ServiceError} UNSUPPORTED_MEDIA as soon as it is certain that they are something else
   */
  add(bytes: Buffer): void {
    if (this.#isOver) return;
    let next = bytes;
    if (this.#watchedBytes === 0) {
      const zeros = zerosIn(bytes);
      this.#leadingZeros += zeros;
      if (zeros === bytes.length) return;
      // Keep samples whole: the zero bytes of the first sample are examined too.
      this.#watch(Buffer.alloc(this.#leadingZeros % this.#format.blockAlign));
      next = bytes.subarray(zeros);
    }
    this.#watch(Buffer.from(next.subarray(0, watchedBytes - this.#watchedBytes)));
    if (this.#watchedBytes >= watchedBytes) this.finish();
  }

  /** What it takes to go on with another one; undefined while it keeps sound. */
  save(): DisguisedSoundState | undefined {
    if (!this.#isOver && this.#watchedBytes > 0) return undefined;
    return { isOver: this.#isOver, leadingZeros: this.#leadingZeros };
  }

  /** Goes on where another one of the same sound was saved. */
  restore({ isOver, leadingZeros }: DisguisedSoundState): void {
    this.#isOver = isOver;
    this.#leadingZeros = leadingZeros;
  }

  /**
   * Decides about a sound that was shorter than the examined length.
   * @throws {ServiceError} UNSUPPORTED_MEDIA if it is something else
   */
  finish(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const found = codingIn(Buffer.concat(this.#watched.splice(0)), this.#format);
    if (found !== undefined) throw disguised(found);
  }

  #watch(bytes: Buffer): void {
    this.#watched.push(bytes);
    this.#watchedBytes += bytes.length;
  }
}

const zeros = Buffer.alloc(4096);

/** Number of zero bytes at the beginning. */
function zerosIn(bytes: Buffer): number {
  let at = 0;
  while (at + zeros.length <= bytes.length && bytes.subarray(at, at + zeros.length).equals(zeros)) at += zeros.length;
  const rest = bytes.subarray(at).findIndex((byte) => byte !== 0);
  return rest < 0 ? bytes.length : at + rest;
}
