import type { MemoryBlocks } from "./memory-blocks.ts";

/** Bytes that are kept in blocks of memory, as many as they need. */
export class HeldBytes {
  byteLength = 0;
  readonly #memory: MemoryBlocks;
  readonly #maxBytes: number;
  readonly #blocks: Buffer[] = [];

  constructor(memory: MemoryBlocks, maxBytes: number) {
    this.#memory = memory;
    this.#maxBytes = maxBytes;
  }

  /** Copies as much of a piece as there is room for, and returns how much that is. */
  add(piece: Buffer): number {
    let offset = 0;
    while (offset < piece.length && this.byteLength < this.#maxBytes) {
      const at = this.byteLength % this.#memory.blockBytes;
      if (at === 0) this.#blocks.push(this.#memory.take());
      const end = Math.min(piece.length, offset + this.#maxBytes - this.byteLength);
      const copied = piece.copy(this.#blocks.at(-1)!, at, offset, end);
      offset += copied;
      this.byteLength += copied;
    }
    return offset;
  }

  /** Copies the bytes to the target, and gives the memory back. */
  giveBackTo(target: Buffer): void {
    let offset = 0;
    for (const block of this.blocks()) offset += block.copy(target, offset);
    this.giveBack();
  }

  blocks(): Buffer[] {
    const { blockBytes } = this.#memory;
    return this.#blocks.map((block, index) =>
      block.subarray(0, Math.min(blockBytes, this.byteLength - index * blockBytes)),
    );
  }

  giveBack(): void {
    for (const block of this.#blocks.splice(0)) this.#memory.giveBack(block);
  }
}
