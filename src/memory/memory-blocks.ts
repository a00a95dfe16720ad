/**
 * Blocks of memory of one size that are used again and again. Bytes that wait for something slower, an encoder or a
 * client, outlast V8's nursery: in fresh buffers each time they would be freed by collections of the whole heap only.
 */
export class MemoryBlocks {
  /** Size of one block. */
  readonly blockBytes: number;
  readonly #maxSpare: number;
  readonly #spare: Buffer[] = [];

  /** Keeps up to `maxSpare` blocks that nobody uses; others go back to the system. */
  constructor(blockBytes: number, maxSpare: number) {
    this.blockBytes = blockBytes;
    this.#maxSpare = maxSpare;
  }

  /** A block with anything in it. */
  take(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(this.blockBytes);
  }

  /**
   * Takes a block back that nobody uses any more.
   * @throws {Error} when it is here already: two streams would write into it
   */
  giveBack(block: Buffer): void {
    if (this.#spare.includes(block)) throw new Error("A block of memory was given back twice.");
    if (this.#spare.length < this.#maxSpare) this.#spare.push(block);
  }
}
