import { IncomingMessage } from "node:http";
import { GatheredBytes, isSmallPiece } from "../memory/gathered-bytes.ts";

/**
 * A request whose body comes in few pieces. Node.js makes a buffer of about 400 bytes for each chunk of the chunked
 * transfer coding (RFC 9112 section 7.1) and for each packet, and bounds the bytes that wait for their reader, not the
 * buffers: 64 KiB in chunks of one byte took more than 20 MB. Here small pieces that arrive in one turn of the event
 * loop become one, except the first, which does not wait; and so do all that arrive while others wait to be read.
 */
export class CoalescedRequest extends IncomingMessage {
  /** Small pieces of this turn of the event loop. After it, they are here only while others wait to be read. */
  readonly #gathered = new GatheredBytes();
  #turn: NodeJS.Immediate | undefined;

  /** Adds a piece of the body, or its end (`null`). Returns whether the socket should be read further. */
  override push(piece: Buffer | null): boolean {
    if (piece === null || !isSmallPiece(piece)) {
      this.#addGathered();
      return super.push(piece);
    }
    if (this.#turn || this.readableLength > 0) {
      this.#gathered.add(piece);
      return this.readableLength + this.#gathered.length < this.readableHighWaterMark;
    }
    this.#turn = setImmediate(() => {
      this.#turn = undefined;
      if (this.readableLength === 0) this.#addGathered();
    });
    return super.push(piece);
  }

  override read(size?: number): unknown {
    // 0 does not read: the stream asks for more bytes in this way.
    if (size !== 0 && this.readableLength > 0) this.#addGathered();
    return super.read(size);
  }

  #addGathered(): void {
    if (this.#gathered.length === 0) return;
    const piece = this.#gathered.take();
    if (!this.destroyed) super.push(piece);
  }
}
