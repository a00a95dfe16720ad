import { Readable } from "node:stream";

/** The body of a large answer. It is one stream, so that no step has to take all of it at once. */
export class AnswerInPieces extends Readable {
  readonly byteLength: number;
  readonly #pieces: Buffer[];

  /** @param pieces that the stream lets go of as it is read */
  constructor(pieces: Buffer[]) {
    super();
    this.byteLength = pieces.reduce((sum, { length }) => sum + length, 0);
    this.#pieces = pieces;
  }

  override _read(): void {
    this.push(this.#pieces.shift() ?? null);
  }
}
