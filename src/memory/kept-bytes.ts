import type { MemoryBlocks } from "./memory-blocks.ts";

interface FilledBlock {
  readonly block: Buffer;
  /** Place of its first byte. */
  readonly start: number;
  bytes: number;
}

/** The last bytes of a stream, by their place in it. They are copied to reusable memory, because they outlive V8's nursery. */
export class KeptBytes {
  readonly #blocks: MemoryBlocks;
  readonly #filled: FilledBlock[] = [];
  #end: number;

  /** `start` is the place of the first byte that will be pushed. */
  constructor(blocks: MemoryBlocks, start: number) {
    this.#blocks = blocks;
    this.#end = start;
  }

  /** The place behind the last byte. */
  get end(): number {
    return this.#end;
  }

  /** Copies bytes to the end. */
  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      let last = this.#filled.at(-1);
      if (last === undefined || last.bytes === this.#blocks.blockBytes) {
        last = { block: this.#blocks.take(), start: this.#end, bytes: 0 };
        this.#filled.push(last);
      }
      const copied = bytes.copy(last.block, last.bytes, at);
      last.bytes += copied;
      this.#end += copied;
      at += copied;
    }
  }

  /**
   * A copy of the bytes from one place up to another.
   * @throws {Error} if some of them were forgotten, or have not come: the copy would have bytes of others
   */
  between(from: number, to: number): Buffer {
    if (from < (this.#filled[0]?.start ?? this.#end) || to > this.#end) throw new Error("These bytes are not kept.");
    const copy = Buffer.allocUnsafeSlow(to - from);
    for (const { block, start, bytes } of this.#filled) {
      if (start + bytes <= from || start >= to) continue;
      block.copy(copy, Math.max(0, start - from), Math.max(0, from - start), Math.min(bytes, to - start));
    }
    return copy;
  }

  /** Gives memory back of which all bytes lie before this place. */
  forgetBefore(place: number): void {
    for (let first = this.#filled[0]; first && first.start + first.bytes <= place; first = this.#filled[0]) {
      this.#blocks.giveBack(first.block);
      this.#filled.shift();
    }
  }
}
