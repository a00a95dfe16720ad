import { ServiceError } from "../errors/errors.ts";

/** The next finding of the scanner in a multipart body. */
export type MultipartEvent =
  | { readonly kind: "head"; readonly bytes: Buffer }
  | { readonly kind: "content"; readonly bytes: Buffer }
  | { readonly kind: "part end" };

/** Maximum size of the rest of the boundary line and the header lines of one part. */
const maxHeadBytes = 16 * 1024;

const lineFeed = 0x0a;
const carriageReturn = 0x0d;

/** What may follow a boundary on its line; RFC 2046 calls it transport padding. */
const padding = /^[ \t]{0,100}$/;
const beginningOfBoundaryEnd = /^(?:-|[ \t]{0,100}\r?)$/;

/**
 * Splits a multipart body into its parts (RFC 2046 section 5.1.1), in one pass and while it arrives, without
 * interpreting them. Content is passed on as views of the given chunks, a head as a view that the next head overwrites.
 * At most one head and the beginning of a boundary are kept.
 *
 * Lines end with CRLF. If the first boundary ends with LF alone, the whole body is read with LF.
 */
export class MultipartScanner {
  readonly #boundary: string;
  /** The delimiter that ends a part's content. The line end before the first boundary does not matter. */
  #delimiter: Buffer;
  #state: "preamble" | "head" | "content" | "epilogue" = "preamble";
  /** The end of the last chunk, where a delimiter may have begun. The first delimiter may be at the very beginning. */
  #begun: Buffer = Buffer.from("\n");
  /** Number of bytes of `#begun` that end the head. Before empty content, they also begin the delimiter. */
  #headEndBytes = 0;
  readonly #head = Buffer.allocUnsafe(maxHeadBytes);
  #headBytes = 0;
  /** Offsets of the incomplete line and of the first header line. */
  #lineStart = 0;
  #headStart = 0;
  #knowsLineEnds = false;

  /** @param boundary one character per byte (latin1) */
  constructor(boundary: string) {
    this.#boundary = boundary;
    this.#delimiter = Buffer.from(`\n--${boundary}`, "latin1");
  }

  /** Whether a boundary has been found. */
  get begun(): boolean {
    return this.#state !== "preamble";
  }

  /** Whether the last boundary, which ends with `--`, has been found. */
  get closed(): boolean {
    return this.#state === "epilogue";
  }

  /**
   * Scans the next chunk.
   * @throws {ServiceError} BAD_REQUEST for a boundary that is not alone on its line, or a head that is too large
   */
  *scan(chunk: Buffer): Generator<MultipartEvent, void, undefined> {
    let rest = chunk;
    while (rest.length > 0 && this.#state !== "epilogue") {
      rest = this.#state === "head" ? yield* this.#scanHead(rest) : yield* this.#scanContent(rest);
    }
  }

  /** Looks for the delimiter and returns what follows it. */
  *#scanContent(chunk: Buffer): Generator<MultipartEvent, Buffer, undefined> {
    const bytes = this.#begun.length > 0 ? Buffer.concat([this.#begun, chunk]) : chunk;
    const found = bytes.indexOf(this.#delimiter);
    const end = found >= 0 ? found : this.#beginningOfDelimiter(bytes);
    const isContent = this.#state === "content";
    if (isContent && end > this.#headEndBytes) {
      yield { kind: "content", bytes: bytes.subarray(this.#headEndBytes, end) };
    }
    if (end > 0) this.#headEndBytes = 0;
    if (found < 0) {
      this.#begun = Buffer.from(bytes.subarray(end));
      return Buffer.alloc(0);
    }
    this.#begun = Buffer.alloc(0);
    this.#state = "head";
    this.#headBytes = this.#lineStart = this.#headStart = 0;
    if (isContent) yield { kind: "part end" };
    return bytes.subarray(found + this.#delimiter.length);
  }

  /** Offset of the longest end of these bytes that may begin a delimiter; often their length. */
  #beginningOfDelimiter(bytes: Buffer): number {
    const [first] = this.#delimiter;
    const start = Math.max(0, bytes.length - this.#delimiter.length + 1);
    for (let at = bytes.indexOf(first!, start); at >= 0; at = bytes.indexOf(first!, at + 1)) {
      if (this.#delimiter.subarray(0, bytes.length - at).equals(bytes.subarray(at))) return at;
    }
    return bytes.length;
  }

  /** Collects the rest of the boundary line and the header lines up to an empty one, and returns what follows. */
  *#scanHead(chunk: Buffer): Generator<MultipartEvent, Buffer, undefined> {
    const head = this.#head;
    const before = this.#headBytes;
    this.#headBytes += chunk.copy(head, before);
    const bytes = head.subarray(0, this.#headBytes);
    if (this.#headStart === 0 && bytes.length >= 2 && bytes.toString("latin1", 0, 2) === "--") {
      this.#state = "epilogue";
      return Buffer.alloc(0);
    }
    for (let at = bytes.indexOf(lineFeed, before); at >= 0; at = bytes.indexOf(lineFeed, at + 1)) {
      const lineEnd = at > this.#lineStart && bytes[at - 1] === carriageReturn ? at - 1 : at;
      const line = bytes.subarray(this.#lineStart, lineEnd);
      this.#lineStart = at + 1;
      if (this.#headStart === 0) {
        if (!padding.test(line.toString("latin1"))) throw badBoundary();
        this.#headStart = at + 1;
        if (!this.#knowsLineEnds && lineEnd < at) this.#delimiter = Buffer.from(`\r\n--${this.#boundary}`, "latin1");
        this.#knowsLineEnds = true;
      } else if (line.length === 0) {
        yield { kind: "head", bytes: bytes.subarray(this.#headStart, at + 1) };
        this.#state = "content";
        this.#headEndBytes = this.#delimiter[0] === carriageReturn ? 2 : 1;
        this.#begun = this.#delimiter.subarray(0, this.#headEndBytes);
        return chunk.subarray(at + 1 - before);
      }
    }
    if (this.#headStart === 0 && !beginningOfBoundaryEnd.test(bytes.toString("latin1"))) throw badBoundary();
    if (this.#headBytes === maxHeadBytes) {
      throw new ServiceError("BAD_REQUEST", `The headers of a part have more than ${maxHeadBytes} bytes.`);
    }
    return Buffer.alloc(0);
  }
}

function badBoundary(): ServiceError {
  const message =
    "A boundary in the multipart body is not alone on its line. Choose a boundary that does not occur in the file.";
  return new ServiceError("BAD_REQUEST", message);
}
