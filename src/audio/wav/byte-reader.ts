/** Reads a stream in portions of any size. It copies only portions that span several pieces of the source. */
export class ByteReader {
  readonly #source: AsyncIterator<Buffer>;
  /** Pieces that were taken from the source but not read yet, in reverse order. */
  readonly #ahead: Buffer[] = [];
  #position: number;
  #ended = false;

  /** `position` is that of the source's first byte in the file. */
  constructor(source: AsyncIterable<Buffer>, position = 0) {
    this.#source = source[Symbol.asyncIterator]();
    this.#position = position;
  }

  /** Position in the source of the next byte that will be read. */
  get position(): number {
    return this.#position;
  }

  /** The bytes that are available, at most `limit`; undefined at the end. */
  async take(limit: number): Promise<Buffer | undefined> {
    let piece = this.#ahead.pop();
    while (piece === undefined || piece.length === 0) {
      if (this.#ended) return undefined;
      this.#ended = true; // also if the source throws: then there is nothing to close
      const next = await this.#source.next();
      if (next.done) return undefined;
      this.#ended = false;
      piece = next.value;
    }
    if (piece.length > limit) {
      this.#ahead.push(piece.subarray(limit));
      piece = piece.subarray(0, limit);
    }
    this.#position += piece.length;
    return piece;
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

  /** Skips up to `length` bytes and returns how many there were. */
  async skip(length: number): Promise<number> {
    let skipped = 0;
    while (skipped < length) {
      const part = await this.take(length - skipped);
      if (part === undefined) break;
      skipped += part.length;
    }
    return skipped;
  }

  /** Skips bytes with this value and returns how many there were. */
  async skipRun(byte: number): Promise<number> {
    let skipped = 0;
    for (;;) {
      const part = await this.take(Infinity);
      if (part === undefined) return skipped;
      const end = part.findIndex((other) => other !== byte);
      skipped += end < 0 ? part.length : end;
      if (end < 0) continue;
      this.unread(part.subarray(end));
      return skipped;
    }
  }

  /** The next `length` bytes, or fewer at the end, without consuming them. */
  async peek(length: number): Promise<Buffer> {
    const ahead = await this.read(length);
    this.unread(ahead);
    return ahead;
  }

  /** Puts bytes back; they are read next. */
  unread(bytes: Buffer): void {
    this.#position -= bytes.length;
    if (bytes.length > 0) this.#ahead.push(bytes);
  }

  async close(): Promise<void> {
    this.#ahead.length = 0;
    if (this.#ended) return;
    this.#ended = true;
    await this.#source.return?.();
  }
}
