/** Keeps the last bytes of a stream back, until others have come behind them. */
export class HeldTail {
  readonly #heldBytes: number;
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(heldBytes: number) {
    this.#heldBytes = heldBytes;
  }

  /** What is held back. */
  get pieces(): Buffer[] {
    return this.#pieces;
  }

  /** Takes the next bytes; gives those that have enough others behind them. */
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
    // Of one large piece only the end has to wait.
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
