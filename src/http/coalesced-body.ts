import { IncomingMessage } from "node:http";

/** Pieces of at least so many bytes are worth their overhead. */
const smallBytes = 1024;
/** Maximum number of pieces that wait for somebody to begin to read the body. */
const maxWaiting = 256;

/**
 * A request whose body comes in few pieces. Node.js makes a buffer of about 400 bytes for each chunk of the chunked
 * transfer coding (RFC 9112 section 7.1), and bounds the bytes that wait for their reader, not the buffers: 64 KiB in
 * chunks of one byte took more than 20 MB. Here small pieces that arrive in one turn of the event loop become one,
 * except the first, which does not wait.
 */
export class CoalescedRequest extends IncomingMessage {
  /** Small pieces of this turn of the event loop, in the first {@link #gatheredBytes} bytes. */
  #gathered = Buffer.alloc(0);
  #gatheredBytes = 0;
  #turn: NodeJS.Immediate | undefined;
  /** Pieces since the reader had last read everything. */
  #waiting = 0;

  /** Adds a piece of the body, or its end (`null`). Returns whether the socket should be read further. */
  override push(piece: Buffer | null): boolean {
    if (piece === null || piece.length >= smallBytes) {
      this.#addGathered();
      return this.#add(piece);
    }
    if (this.#turn) {
      this.#gather(piece);
      return this.#waiting < maxWaiting && this.readableLength + this.#gatheredBytes < this.readableHighWaterMark;
    }
    this.#turn = setImmediate(() => {
      this.#turn = undefined;
      this.#addGathered();
    });
    return this.#add(piece);
  }

  #gather(piece: Buffer): void {
    const bytes = this.#gatheredBytes + piece.length;
    if (bytes > this.#gathered.length) {
      const larger = Buffer.allocUnsafeSlow(2 * Math.max(bytes, smallBytes));
      this.#gathered.copy(larger, 0, 0, this.#gatheredBytes);
      this.#gathered = larger;
    }
    piece.copy(this.#gathered, this.#gatheredBytes);
    this.#gatheredBytes = bytes;
  }

  #addGathered(): void {
    if (this.#gatheredBytes === 0) return;
    const piece = this.#gathered.subarray(0, this.#gatheredBytes);
    this.#gathered = Buffer.alloc(0);
    this.#gatheredBytes = 0;
    if (!this.destroyed) this.#add(piece);
  }

  #add(piece: Buffer | null): boolean {
    const goOn = super.push(piece);
    this.#waiting = this.readableLength === 0 ? 0 : this.#waiting + 1;
    return goOn && this.#waiting < maxWaiting;
  }
}
