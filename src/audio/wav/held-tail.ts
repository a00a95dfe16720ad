/** Holds back the last bytes of a stream until more bytes follow. */
export class HeldTail {
  readonly #heldBytes: number;
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(heldBytes: number) {
    this.#heldBytes = heldBytes;
  }

  /** The bytes that are held back. */
  get pieces(): Buffer[] {
    return this.#pieces;
  }

  /** Adds bytes and returns those that are followed by enough others. */
  add(bytes: Buffer): readonly Buffer[] {
    if (bytes.length === 0) return [];
    this.#pieces.push(bytes);
    this.#bytes += bytes.length;
    if (this.#pieces.length > 256) this.#pieces = [Buffer.concat(this.#pieces)];
    const free: Buffer[] = [];
    for (let first = this.#pieces[0]!; this.#bytes - first.length >= this.#heldBytes; first = this.#pieces[0]!) {
      free.push(first);
      this.#pieces.shift();
      this.#bytes -= first.length;
    }
    // Only the end of a large piece must be held back.
    const [first] = this.#pieces;
    const surplus = this.#bytes - this.#heldBytes;
    if (first !== undefined && surplus > this.#heldBytes) {
      free.push(first.subarray(0, surplus));
      this.#pieces[0] = first.subarray(surplus);
      this.#bytes -= surplus;
    }
    return free;
  }
}
