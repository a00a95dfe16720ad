/** Reads a stream in portions of any size, without copying where a portion lies in one piece. */
export class ByteReader {
  readonly #source: AsyncIterator<Buffer>;
  #piece: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** What is at hand, at most `limit` bytes; undefined at the end. */
  async take(limit: number): Promise<Buffer | undefined> {
    while (this.#piece.length === 0) {
      if (this.#ended) return undefined;
      this.#ended = true; // also where the source throws: there is nothing to close then
      const next = await this.#source.next();
      if (next.done) return undefined;
      this.#ended = false;
      this.#piece = next.value;
    }
    const taken = this.#piece.subarray(0, limit);
    this.#piece = this.#piece.subarray(taken.length);
    return taken;
  }

  /** The next `length` bytes, or fewer at the end. */
  async read(length: number): Promise<Buffer> {
    const first = length === 0 ? undefined : await this.take(length);
    if (first === undefined || first.length === length) return first ?? Buffer.alloc(0);
    const joined = Buffer.allocUnsafe(length);
    let at = first.copy(joined);
    while (at < length) {
      const next = await this.take(length - at);
      if (next === undefined) break;
      at += next.copy(joined, at);
    }
    return joined.subarray(0, at);
  }

  /** Passes over so many bytes; returns how many there were. */
  async skip(length: number): Promise<number> {
    let skipped = 0;
    while (skipped < length) {
      const part = await this.take(length - skipped);
      if (part === undefined) break;
      skipped += part.length;
    }
    return skipped;
  }

  /** The next bytes as Latin-1 text, which stay to be read. */
  async peek(length: number): Promise<string> {
    const ahead = await this.read(length);
    this.unread(ahead);
    return ahead.toString("latin1");
  }

  /** Puts bytes back, to be read next. */
  unread(bytes: Buffer): void {
    this.#piece = this.#piece.length === 0 ? bytes : Buffer.concat([bytes, this.#piece]);
  }

  async close(): Promise<void> {
    this.#piece = Buffer.alloc(0);
    if (this.#ended) return;
    this.#ended = true;
    await this.#source.return?.();
  }
}
