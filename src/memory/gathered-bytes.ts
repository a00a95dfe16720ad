/** Pieces of at least so many bytes are worth their overhead. */
const smallBytes = 1024;

/** Whether a piece is so small that most of its memory is overhead. */
export function isSmallPiece({ length }: Buffer): boolean {
  return length < smallBytes;
}

/** Small pieces that become one. */
export class GatheredBytes {
  #buffer = Buffer.alloc(0);
  #length = 0;

  /** Number of bytes. */
  get length(): number {
    return this.#length;
  }

  /** Copies a piece to the end. */
  add(piece: Buffer): void {
    const length = this.#length + piece.length;
    if (length > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(2 * Math.max(length, smallBytes));
      this.#buffer.copy(larger, 0, 0, this.#length);
      this.#buffer = larger;
    }
    piece.copy(this.#buffer, this.#length);
    this.#length = length;
  }

  /** Removes and returns all bytes. */
  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#length);
    const isMostlyUnused = 2 * taken.length < this.#buffer.length;
    this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    return isMostlyUnused ? Buffer.from(taken) : taken;
  }
}
