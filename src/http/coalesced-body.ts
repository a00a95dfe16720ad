import { IncomingMessage } from "node:http";
import { GatheredBytes, isSmallPiece } from "../memory/gathered-bytes.ts";

/** After so many small pieces in one turn of the event loop, a connection waits for its turn. */
const manyPieces = 256;

/**
 * A request whose body comes in few pieces. Node.js makes a buffer of about 400 bytes for each chunk of the chunked
 * transfer coding (RFC 9112 section 7.1) and for each packet, and bounds the bytes that wait for their reader, not the
 * buffers: 64 KiB in chunks of one byte took more than 20 MB. Here small pieces that arrive in one turn of the event
 * loop become one, except the first, which does not wait; and so do all that arrive while others wait to be read.
 * Connections that send many small pieces take turns, because parsing takes 1 µs for each: of all these connections, one
 * is read in each turn of the event loop.
 */
export class CoalescedRequest extends IncomingMessage {
  static readonly #waiting: CoalescedRequest[] = [];
  /** Small pieces of this turn of the event loop. After it, they are here only while others wait to be read. */
  readonly #gathered = new GatheredBytes();
  #turn: NodeJS.Immediate | undefined;
  #piecesInTurn = 0;
  #isWaiting = false;
  /** Whether the reader has asked for more while the connection waits. */
  #isAskedFor = false;

  /** Adds a piece of the body, or its end (`null`). Returns whether the socket should be read further. */
  override push(piece: Buffer | null): boolean {
    if (piece === null || !isSmallPiece(piece)) {
      this.#addGathered();
      return super.push(piece);
    }
    const isFirst = !this.#turn;
    this.#turn ??= setImmediate(() => this.#endTurn());
    this.#piecesInTurn += 1;
    if (isFirst && this.readableLength === 0) return super.push(piece);
    this.#gathered.add(piece);
    if (this.#piecesInTurn > manyPieces) this.#waitForTurn();
    return !this.#isWaiting && !this.#isFull;
  }

  override _read(size: number): void {
    if (this.#isWaiting) this.#isAskedFor = true;
    else super._read(size);
  }

  override read(size?: number): unknown {
    // 0 does not read: the stream asks for more bytes in this way.
    if (size !== 0 && this.readableLength > 0) this.#addGathered();
    return super.read(size);
  }

  get #isFull(): boolean {
    return this.readableLength + this.#gathered.length >= this.readableHighWaterMark;
  }

  #endTurn(): void {
    this.#turn = undefined;
    this.#piecesInTurn = 0;
    if (this.readableLength === 0) this.#addGathered();
  }

  #waitForTurn(): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    const waiting = CoalescedRequest.#waiting;
    if (waiting.push(this) === 1) setImmediate(CoalescedRequest.#readNext);
  }

  static #readNext(this: void): void {
    const waiting = CoalescedRequest.#waiting;
    waiting.shift()!.#goOn();
    if (waiting.length > 0) setImmediate(CoalescedRequest.#readNext);
  }

  #goOn(): void {
    this.#isWaiting = false;
    if (this.complete || this.destroyed) return;
    // Until somebody reads the body, `_read` must not be called: node:http would take the body for read.
    if (this.#isAskedFor) super._read(0);
    else if (!this.#isFull) this.socket.resume();
    this.#isAskedFor = false;
  }

  #addGathered(): void {
    if (this.#gathered.length === 0) return;
    const piece = this.#gathered.take();
    if (!this.destroyed) super.push(piece);
  }
}
