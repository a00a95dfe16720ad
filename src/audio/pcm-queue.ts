import type { MemoryBlocks } from "../memory-blocks.ts";

/** PCM in a block of its own. */
export interface PcmPortion {
  readonly pcm: Buffer;
  /** To be called when the PCM has been used: the block serves others then. */
  release(): void;
}

/** PCM that waits, first in, first out, in blocks. */
export class PcmQueue {
  readonly #blocks: MemoryBlocks;
  readonly #filled: { readonly block: Buffer; bytes: number }[] = [];
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
      const { block, bytes } = this.#filled.shift()!;
      const taken = Math.min(left, bytes);
      if (taken < bytes) {
        const rest = this.#blocks.take();
        this.#filled.unshift({ block: rest, bytes: block.copy(rest, 0, taken, bytes) });
      }
      this.#bytes -= taken;
      left -= taken;
      yield { pcm: block.subarray(0, taken), release: () => this.#blocks.giveBack(block) };
    }
  }
}
