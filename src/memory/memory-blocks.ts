/**
 * A pool of reusable memory blocks of one size. Bytes that wait for an encoder or a client outlive V8's nursery: in new
 * buffers, only a collection of the whole heap would free them.
 */
export class MemoryBlocks {
  /** Size of one block. */
  readonly blockBytes: number;
  readonly #maxSpare: number;
  readonly #spare: Buffer[] = [];

  /** Keeps up to `maxSpare` unused blocks and frees the others. */
  constructor(blockBytes: number, maxSpare: number) {
    this.blockBytes = blockBytes;
    this.#maxSpare = maxSpare;
  }

  /** Returns an uninitialised block. */
  take(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(this.blockBytes);
  }

  /**
   * Returns a block to the pool. The caller must not use it afterwards.
   * @throws {Error} if the block is already in the pool: two streams would write into it
   */
  giveBack(block: Buffer): void {
    if (this.#spare.includes(block)) throw new Error("A block of memory was given back twice.");
    if (this.#spare.length < this.#maxSpare) this.#spare.push(block);
  }
}
