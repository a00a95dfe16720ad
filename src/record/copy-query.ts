import type { Connection, Submittable } from "pg";
import { PostgresSocket } from "../database/postgres-socket.ts";

const messageHeaderBytes = 5;
const copyOutResponse = 0x48; // "H"
const copyData = 0x64; // "d"

/** Size of the PGCOPY signature, flags and extension length, and of the field count and field length of the one row. */
const copyPreambleBytes = 19 + 2 + 4;
const copyTrailerBytes = 2;

/**
 * One `COPY (select <one bytea>) TO STDOUT (FORMAT binary)`, the only way to get unconverted bytes from node-postgres:
 * its other results are hex text. While the result arrives, this class reads the connection's socket itself, mostly
 * straight into the target. It passes all messages other than copied bytes on to node-postgres. (PostgreSQL manual,
 * "Message Formats" and "COPY, Binary Format".)
 */
export class CopyQuery implements Submittable {
  /** Set by node-postgres if a query timeout is configured, and called to stop its timer. */
  callback?: (error: Error | null) => void;
  readonly #text: string;
  readonly #target: Buffer;
  readonly #settled = Promise.withResolvers<boolean>();
  readonly #header = Buffer.alloc(messageHeaderBytes);
  #headerFilled = 0;
  #messageLeft = 0;
  #isCopyData = false;
  #received = 0;
  #filled = 0;

  /** `text` must return at most one row, with one field of exactly as many bytes as `target` has. */
  constructor(text: string, target: Buffer) {
    this.#text = text;
    this.#target = target;
  }

  /**
   * Whether there is such a row. If so, its bytes are in the target. Settles when the connection is free again.
   * @throws {Error} if the statement or the connection fails, or the field has another length
   */
  get found(): Promise<boolean> {
    return this.#settled.promise;
  }

  submit(connection: Connection): void {
    const { stream } = connection;
    const parser = stream.listeners("data").find(isListener);
    if (parser === undefined) throw new Error("The connection has no parser to stand in for");
    const onBytes = (bytes: Buffer): void => {
      const rest = this.#read(bytes);
      if (rest === undefined) return;
      if (isDirect) stream.destination = undefined;
      stream.off("data", onBytes);
      stream.on("data", parser);
      parser(rest);
    };
    const isDirect = stream instanceof PostgresSocket;
    if (isDirect) stream.destination = () => this.#destination();
    stream.off("data", parser);
    stream.on("data", onBytes);
    // SQL as text: a binary COPY.
    connection.query(this.#text);
  }

  /** The place for the next bytes, in the middle of the field. */
  #destination(): Buffer | undefined {
    const isInField = this.#isCopyData && this.#messageLeft > 0 && this.#filled < this.#target.length;
    return isInField && this.#received >= copyPreambleBytes ? this.#target.subarray(this.#filled) : undefined;
  }

  /** Takes the copied bytes from what the socket received. Returns a copy of the rest when another message begins. */
  #read(bytes: Buffer): Buffer | undefined {
    let offset = 0;
    while (offset < bytes.length) {
      if (this.#messageLeft > 0) {
        const end = Math.min(bytes.length, offset + this.#messageLeft);
        if (this.#isCopyData) this.#keep(bytes.subarray(offset, end));
        this.#messageLeft -= end - offset;
        offset = end;
        continue;
      }
      const copied = bytes.copy(this.#header, this.#headerFilled, offset);
      this.#headerFilled += copied;
      if (this.#headerFilled < messageHeaderBytes) return undefined;
      const code = this.#header[0];
      if (code !== copyData && code !== copyOutResponse) {
        return Buffer.concat([this.#header, bytes.subarray(offset + copied)]);
      }
      offset += copied;
      this.#headerFilled = 0;
      this.#isCopyData = code === copyData;
      this.#messageLeft = this.#header.readUInt32BE(1) - 4;
    }
    return undefined;
  }

  /** Keeps the bytes of the field, without the preamble and the trailer. */
  #keep(bytes: Buffer): void {
    const fieldStart = copyPreambleBytes - this.#received;
    this.#received += bytes.length;
    const piece = bytes.subarray(Math.max(0, fieldStart), Math.max(0, fieldStart + this.#target.length));
    const isInPlace =
      piece.buffer === this.#target.buffer && piece.byteOffset === this.#target.byteOffset + this.#filled;
    if (!isInPlace) piece.copy(this.#target, this.#filled);
    this.#filled += piece.length;
  }

  /**
   * Called by node-postgres for bytes that arrive after it has taken the connection back, for example after a notice.
   */
  handleCopyData(message: { readonly chunk: Buffer }): void {
    this.#keep(message.chunk);
  }

  handleCommandComplete(): void {
    // The row is complete only when the connection is free; see handleReadyForQuery.
  }

  handleError(error: Error): void {
    this.callback?.(error);
    this.#settled.reject(error);
  }

  handleReadyForQuery(): void {
    this.callback?.(null);
    const emptyBytes = copyPreambleBytes - 6 + copyTrailerBytes;
    const wantedBytes = this.#target.length;
    if (this.#received === copyPreambleBytes + wantedBytes + copyTrailerBytes) this.#settled.resolve(true);
    else if (this.#received === emptyBytes) this.#settled.resolve(false);
    else this.#settled.reject(new Error(`A field of ${wantedBytes} bytes came in a COPY of ${this.#received}`));
  }
}

function isListener(listener: unknown): listener is (bytes: Buffer) => void {
  return typeof listener === "function";
}
