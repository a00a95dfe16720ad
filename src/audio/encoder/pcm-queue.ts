import type { MemoryBlocks } from "../../memory/memory-blocks.ts";

/** PCM in memory of its own. */
export interface PcmPortion {
  readonly pcm: Buffer;
  /** To be called when the PCM has been used: the block serves others then. */
  release(): void;
}

interface FilledBlock {
  readonly block: Buffer;
  bytes: number;
}

/** Portions below this are copied to memory of their own size. */
const smallBytes = 32 * 1024;

/** PCM that waits, first in, first out, in blocks. */
export class PcmQueue {
  readonly #blocks: MemoryBlocks;
  readonly #filled: FilledBlock[] = [];
  #bytes = 0;

  constructor(blocks: MemoryBlocks) {
    this.#blocks = blocks;
  }

  /** PCM that waits. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Copies PCM to the end of the queue. */
  push(pcm: Buffer): void {
    this.#bytes += pcm.length;
    for (let at = 0; at < pcm.length;) {
      let last = this.#filled.at(-1);
      if (last === undefined || last.bytes === this.#blocks.blockBytes) {
        last = { block: this.#blocks.take(), bytes: 0 };
        this.#filled.push(last);
      }
      const copied = pcm.copy(last.block, last.bytes, at);
      last.bytes += copied;
      at += copied;
    }
  }

  /** Takes so many bytes, of those that wait, from the front of the queue. */
  *take(byteCount: number): Generator<PcmPortion, void, undefined> {
    for (let left = byteCount; left > 0;) {
      const first = this.#filled[0]!;
      const taken = Math.min(left, first.bytes);
      this.#bytes -= taken;
      left -= taken;
      yield taken < smallBytes ? this.#copyOf(first, taken) : this.#blockOf(first, taken);
    }
  }

  /** A little of a block, in memory of its own: many a small portion would otherwise keep a whole block busy. */
  #copyOf(first: FilledBlock, byteCount: number): PcmPortion {
    const pcm = Buffer.from(first.block.subarray(0, byteCount));
    first.bytes -= byteCount;
    first.block.copyWithin(0, byteCount, byteCount + first.bytes);
    if (first.bytes === 0) this.#blocks.giveBack(this.#filled.shift()!.block);
    return { pcm, release() {} };
  }

  /** Most of a block; what is left goes to another one. */
  #blockOf({ block, bytes }: FilledBlock, byteCount: number): PcmPortion {
    this.#filled.shift();
    if (byteCount < bytes) {
      const rest = this.#blocks.take();
      this.#filled.unshift({ block: rest, bytes: block.copy(rest, 0, byteCount, bytes) });
    }
    return { pcm: block.subarray(0, byteCount), release: () => this.#blocks.giveBack(block) };
  }
}
