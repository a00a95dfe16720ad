import type { Connection, Submittable } from "pg";

const messageHeaderBytes = 5;
const copyOutResponse = 0x48; // "H"
const copyData = 0x64; // "d"

/** PGCOPY signature, flags and extension length, then the field count and field length of the one row. */
const copyPreambleBytes = 19 + 2 + 4;
const copyTrailerBytes = 2;

/**
 * One `COPY (select <one bytea>) TO STDOUT (FORMAT binary)`, the only way node-postgres lets bytes through as they are:
 * its other results are hex text. While the answer comes, this reads the connection's socket itself, so that a byte is
 * never copied; any message but copied bytes goes back to node-postgres. (PostgreSQL manual, "Message Formats" and
 * "COPY, Binary Format".)
 */
export class CopyQuery implements Submittable {
  /** Set by node-postgres when a query timeout is configured, and called to stop its clock. */
  callback?: (error: Error | null) => void;
  readonly #text: string;
  readonly #byteLength: number;
  readonly #settled = Promise.withResolvers<Buffer[] | undefined>();
  readonly #pieces: Buffer[] = [];
  readonly #header = Buffer.alloc(messageHeaderBytes);
  #headerFilled = 0;
  #messageLeft = 0;
  #isCopyData = false;
  #received = 0;

  /** `text` must answer at most one row with one field of exactly `byteLength` bytes. */
  constructor(text: string, byteLength: number) {
    this.#text = text;
    this.#byteLength = byteLength;
  }

  /**
   * The bytes, as the pieces in which they arrived, or undefined if there is no such row. Settles when the connection is
   * free again.
   * @throws {Error} when the statement or the connection fails, or the field has another length
   */
  get bytes(): Promise<Buffer[] | undefined> {
    return this.#settled.promise;
  }

  submit(connection: Connection): void {
    const { stream } = connection;
    const parser = stream.listeners("data").find(isListener);
    if (parser === undefined) throw new Error("The connection has no parser to stand in for");
    const onBytes = (bytes: Buffer): void => {
      const rest = this.#read(bytes);
      if (rest === undefined) return;
      stream.off("data", onBytes);
      stream.on("data", parser);
      parser(rest);
    };
    stream.off("data", parser);
    stream.on("data", onBytes);
    connection.query(this.#text);
  }

  /** Takes the copied bytes out of what the socket received; returns the rest once another message begins. */
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

  /** Keeps what belongs to the field: not the preamble in front of it, not the trailer behind it. */
  #keep(bytes: Buffer): void {
    const fieldStart = copyPreambleBytes - this.#received;
    this.#received += bytes.length;
    const piece = bytes.subarray(Math.max(0, fieldStart), Math.max(0, fieldStart + this.#byteLength));
    if (piece.length > 0) this.#pieces.push(piece);
  }

  /** Called by node-postgres for bytes that come after it has taken the connection back, for instance after a notice. */
  handleCopyData(message: { readonly chunk: Buffer }): void {
    this.#keep(message.chunk);
  }

  handleCommandComplete(): void {
    // The row is complete only when the connection is free: see handleReadyForQuery.
  }

  handleError(error: Error): void {
    this.callback?.(error);
    this.#settled.reject(error);
  }

  handleReadyForQuery(): void {
    this.callback?.(null);
    const emptyBytes = copyPreambleBytes - 6 + copyTrailerBytes;
    if (this.#received === copyPreambleBytes + this.#byteLength + copyTrailerBytes) this.#settled.resolve(this.#pieces);
    else if (this.#received === emptyBytes) this.#settled.resolve(undefined);
    else this.#settled.reject(new Error(`A field of ${this.#byteLength} bytes came in a COPY of ${this.#received}`));
  }
}

function isListener(listener: unknown): listener is (bytes: Buffer) => void {
  return typeof listener === "function";
}
