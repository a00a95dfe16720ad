/** Pieces up to this size are copied: one that outlives the next one costs a full garbage collection in the end. */
const copiedBytes = 16 * 1024;

/** Holds back the last bytes of a stream until more bytes follow. */
export class HeldTail {
  #pieces: Buffer[];
  #bytes: number;

  /** `held` are the bytes that it holds back from the beginning. */
  constructor(held: Buffer = Buffer.alloc(0)) {
    this.#pieces = held.length > 0 ? [held] : [];
    this.#bytes = held.length;
  }

  /** The bytes that are held back. */
  get pieces(): Buffer[] {
    return this.#pieces;
  }

  /** Adds bytes and returns those that are followed by `heldBytes` others or more. */
  add(bytes: Buffer, heldBytes: number): readonly Buffer[] {
    if (bytes.length === 0) return [];
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
    if (this.#pieces.length > 256) this.#pieces = [Buffer.concat(this.#pieces)];
    const free: Buffer[] = [];
    for (let first = this.#pieces[0]!; this.#bytes - first.length >= heldBytes; first = this.#pieces[0]!) {
      free.push(first);
      this.#pieces.shift();
      this.#bytes -= first.length;
    }
    // Only the end of a large piece must be held back.
    const [first] = this.#pieces;
    const surplus = this.#bytes - heldBytes;
    if (first !== undefined && surplus > heldBytes) {
      free.push(first.subarray(0, surplus));
      const held = first.subarray(surplus);
      this.#pieces[0] = held.length <= copiedBytes ? Buffer.from(held) : held;
      this.#bytes -= surplus;
    }
    return free;
  }
}
