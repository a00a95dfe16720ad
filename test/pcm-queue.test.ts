import { describe, expect, it } from "@jest/globals";
import { randomBytes } from "node:crypto";
import { PcmQueue } from "../src/audio/encoder/pcm-queue.ts";
import { MemoryBlocks } from "../src/memory/memory-blocks.ts";

const blockBytes = 50_000;

describe("the queue of PCM", () => {
  it("returns what was added, however it is cut", () => {
    const queue = new PcmQueue(new MemoryBlocks(blockBytes, 2));
    const pcm = randomBytes(5 * blockBytes);
    const taken: Buffer[] = [];
    let pushed = 0;
    for (let size = 1; pushed < pcm.length; size = (size * 7 + 3) % 90_000) {
      queue.push(pcm.subarray(pushed, pushed + size));
      pushed = Math.min(pushed + size, pcm.length);
      for (const portion of queue.take(Math.floor(queue.bytes * 0.7))) {
        taken.push(Buffer.from(portion.pcm));
        portion.release();
      }
    }
    for (const { pcm } of queue.take(queue.bytes)) taken.push(Buffer.from(pcm));
    expect(queue.bytes).toBe(0);
    expect(Buffer.concat(taken).equals(pcm)).toBe(true);
  });

  it("does not keep a whole block in use for a small portion", () => {
    const blocks = new MemoryBlocks(blockBytes, 1);
    const queue = new PcmQueue(blocks);
    const portions = Array.from({ length: 1000 }, (_, i) => {
      queue.push(Buffer.alloc(100, i));
      return [...queue.take(100)][0]!.pcm;
    });
    const memories = [...new Set(portions.map(({ buffer }) => buffer))];
    expect(memories.reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThan(20 * blockBytes);
    expect(portions.every((pcm, i) => pcm.equals(Buffer.alloc(100, i)))).toBe(true);
  });

  it("reuses a block when it was released, and not before", () => {
    const queue = new PcmQueue(new MemoryBlocks(blockBytes, 2));
    const block = Buffer.alloc(blockBytes);
    const memoryOfNext = () => {
      queue.push(block);
      return [...queue.take(blockBytes)][0]!;
    };
    const first = memoryOfNext();
    const second = memoryOfNext();
    expect(second.pcm.buffer).not.toBe(first.pcm.buffer);
    first.release();
    expect(memoryOfNext().pcm.buffer).toBe(first.pcm.buffer);
  });
});
