import type { MemoryBlocks } from "../../memory/memory-blocks.ts";

/** PCM that was copied from the source. */
export interface PcmPortion {
  readonly pcm: Buffer;
  /** Returns the memory for reuse. Call it when the PCM has been used. */
  release(): void;
}

interface FilledBlock {
  readonly block: Buffer;
  bytes: number;
}

/** Portions smaller than this are copied to a buffer of their own size. */
const smallBytes = 32 * 1024;

/** A first-in, first-out queue of PCM, kept in blocks. */
export class PcmQueue {
  readonly #blocks: MemoryBlocks;
  readonly #filled: FilledBlock[] = [];
  #bytes = 0;

  constructor(blocks: MemoryBlocks) {
    this.#blocks = blocks;
  }

  /** Number of PCM bytes in the queue. */
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

  /** Removes `byteCount` bytes from the front of the queue. */
  *take(byteCount: number): Generator<PcmPortion, void, undefined> {
    for (let left = byteCount; left > 0;) {
      const first = this.#filled[0]!;
      const taken = Math.min(left, first.bytes);
      this.#bytes -= taken;
      left -= taken;
      yield taken < smallBytes ? this.#copyOf(first, taken) : this.#blockOf(first, taken);
    }
  }

  /** Copies a small part of a block, so that a small portion does not keep a whole block in use. */
  #copyOf(first: FilledBlock, byteCount: number): PcmPortion {
    const pcm = Buffer.from(first.block.subarray(0, byteCount));
    first.bytes -= byteCount;
    first.block.copyWithin(0, byteCount, byteCount + first.bytes);
    if (first.bytes === 0) this.#blocks.giveBack(this.#filled.shift()!.block);
    return { pcm, release() {} };
  }

  /** Hands out most of a block; the rest is moved to another block. */
  #blockOf({ block, bytes }: FilledBlock, byteCount: number): PcmPortion {
    this.#filled.shift();
    if (byteCount < bytes) {
      const rest = this.#blocks.take();
      this.#filled.unshift({ block: rest, bytes: block.copy(rest, 0, byteCount, bytes) });
    }
    return { pcm: block.subarray(0, byteCount), release: () => this.#blocks.giveBack(block) };
  }
}
