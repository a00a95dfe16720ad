/**
 * A source whose first bytes can be looked at before the source is read, once, from its first byte. Disposing of it
 * ends the source, however much of it has been read.
 */
export class Peekable implements AsyncDisposable {
  readonly #source: AsyncGenerator<Buffer, void, undefined>;
  readonly #start: Buffer[] = [];

  constructor(source: AsyncGenerator<Buffer, void, undefined>) {
    this.#source = source;
  }

  /**
   * Reads the first bytes and keeps them.
   * @returns the number of bytes that are kept: at least `byteCount`, or all bytes of a shorter source
   */
  async peek(byteCount: number): Promise<number> {
    let bytes = 0;
    while (bytes < byteCount) {
      const next = await this.#source.next();
      if (next.done) break;
      bytes += next.value.length;
      this.#start.push(next.value);
    }
    return bytes;
  }

  /** Yields all bytes. */
  async *bytes(): AsyncGenerator<Buffer, void, undefined> {
    // In one piece, because there may be thousands of two bytes each.
    if (this.#start.length > 0) yield Buffer.concat(this.#start.splice(0));
    yield* this.#source;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source.return();
  }
}
