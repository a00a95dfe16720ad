/** Reads a stream in portions of any size, without copying where a portion lies in one piece. */
export class ByteReader {
  readonly #source: AsyncIterator<Buffer>;
  /** What was taken from the source and is still to be read; the last one comes first. */
  readonly #ahead: Buffer[] = [];
  #position = 0;
  #ended = false;

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** How many bytes of the source lie before what is read next. */
  get position(): number {
    return this.#position;
  }

  /** What is at hand, at most `limit` bytes; undefined at the end. */
  async take(limit: number): Promise<Buffer | undefined> {
    let piece = this.#ahead.pop();
    while (piece === undefined || piece.length === 0) {
      if (this.#ended) return undefined;
      this.#ended = true; // also where the source throws: there is nothing to close then
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

  /** Passes over bytes of this value; returns how many there were. */
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

  /** The next `length` bytes, or fewer at the end; they stay to be read. */
  async peek(length: number): Promise<Buffer> {
    const ahead = await this.read(length);
    this.unread(ahead);
    return ahead;
  }

  /** Puts bytes back, to be read next. */
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
