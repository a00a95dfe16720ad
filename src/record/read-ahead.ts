import type { MemoryBlocks } from "../memory/memory-blocks.ts";

/** How to read a range in pieces. */
export interface Reading<Part> {
  /** The pieces, in order. */
  readonly parts: Iterator<Part, undefined>;
  /** Size of the largest piece. */
  readonly pieceBytes: number;
  /** Memory for large pieces. */
  readonly blocks: MemoryBlocks;
  /** Reads a piece into memory, and returns this memory. */
  readonly read: (part: Part, target: Buffer) => Promise<Buffer>;
}

/**
 * Yields pieces, and reads the next one while the consumer uses this one: two are in memory. A piece stays unchanged
 * until the next one is requested; then its memory is reused.
 * @throws the signal's reason, as soon as it is aborted
 */
export async function* readAhead<Part extends { readonly byteLength: number }>(
  { parts, pieceBytes, blocks, read }: Reading<Part>,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(ignore);
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  const isOwn = pieceBytes <= blocks.blockBytes / 2 || pieceBytes > blocks.blockBytes;
  const takeMemory = (): Buffer => (isOwn ? Buffer.allocUnsafeSlow(pieceBytes) : blocks.take());
  let [memory, other]: (Buffer | undefined)[] = [];
  try {
    const startNext = (): Promise<Buffer> | undefined => {
      const { value: part } = parts.next();
      if (part === undefined) return undefined;
      [memory, other] = [other ?? takeMemory(), memory];
      const reading = read(part, memory.subarray(0, part.byteLength));
      reading.catch(ignore); // an error is kept until the result is awaited
      return reading;
    };
    let reading = startNext();
    while (reading !== undefined) {
      const ahead = startNext();
      yield await Promise.race([reading, aborted.promise]);
      signal.throwIfAborted();
      reading = ahead;
    }
    // Otherwise the last piece may still be in use, or a piece may still be read.
    for (const block of [memory, other]) if (block && !isOwn) blocks.giveBack(block);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function ignore(): void {
  // Prevents that the rejection counts as unhandled.
}
