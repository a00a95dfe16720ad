import { Upload, type FileUpload } from "graphql-upload-minimal";
import { Readable } from "node:stream";
import { ServiceError } from "../errors/errors.ts";
import { GatheredBytes, isSmallPiece } from "../memory/gathered-bytes.ts";
import type { PartHead } from "../multipart/part-head.ts";
import { refuseText } from "./multipart-refusals.ts";

/** Number of file bytes that are buffered. When the buffer is full, the body is not read. */
const bufferBytes = 64 * 1024;

/** Text that was sent instead of a file is shorter than this and is examined completely. */
const maxTextBytes = 256;

/** The package's declaration omits the methods that settle an Upload. */
class PendingUpload extends Upload {
  declare resolve: (file: Omit<FileUpload, "createReadStream"> & { createReadStream(): Readable }) => void;
  declare reject: (error: Error) => void;
}

/** The stream of a file. Small pieces that arrive while others wait to be read become one: each has its overhead. */
class FileStream extends Readable {
  readonly #gathered = new GatheredBytes();

  get waitingBytes(): number {
    return this.readableLength + this.#gathered.length;
  }

  /** Adds bytes, or the end (`null`). */
  override push(bytes: Buffer | null): boolean {
    if (bytes !== null && isSmallPiece(bytes) && this.readableLength > 0) {
      this.#gathered.add(bytes);
      return true;
    }
    this.#addGathered();
    return super.push(bytes);
  }

  override read(size?: number): unknown {
    if (size !== 0) this.#addGathered();
    return super.read(size);
  }

  #addGathered(): void {
    if (this.#gathered.length > 0) super.push(this.#gathered.take());
  }
}

/** The file of a multipart request: the part of the body on one side, the stream that a resolver reads on the other. */
export class MultipartFile {
  /**
   * The value of the `Upload` argument. It is settled when the file begins, or with the error of the body before it.
   */
  readonly upload = new PendingUpload();
  /** Bytes of the file that have arrived. */
  receivedBytes = 0;
  readonly #maxBytes: number;
  readonly #onRead: () => void;
  readonly #onClose: () => void;
  #stream: FileStream | undefined;
  #head: PartHead | undefined;
  /**
   * The beginning of a file without a name, until it is certain that it is not text that was sent instead of a file.
   */
  #held: Buffer | undefined;

  /**
   * @param maxBytes of the file
   * @param onRead is called whenever the reader of the stream wants more bytes
   * @param onClose is called when the stream has ended, or its reader has given it up
   */
  constructor(maxBytes: number, onRead: () => void, onClose: () => void) {
    this.#maxBytes = maxBytes;
    this.#onRead = onRead;
    this.#onClose = onClose;
  }

  /** Whether the part of the file has begun. */
  get begun(): boolean {
    return this.#stream !== undefined;
  }

  get isFull(): boolean {
    return (this.#stream?.waitingBytes ?? 0) >= bufferBytes;
  }

  /** Begins the file; from now on a resolver can read it. */
  begin(head: PartHead, fieldName: string): void {
    this.#head = head;
    if (!head.fileName) this.#held = Buffer.alloc(0);
    const stream = new FileStream({ highWaterMark: bufferBytes, read: this.#onRead });
    this.#stream = stream;
    stream.on("error", () => {}); // it may not be read yet
    stream.once("close", this.#onClose);
    let taken = false;
    this.upload.resolve({
      fieldName,
      filename: head.fileName ?? "",
      mimetype: head.type,
      encoding: head.transferEncoding,
      createReadStream: () => {
        if (taken) throw new ServiceError("BAD_REQUEST", "An uploaded file can be used only once.");
        taken = true;
        return stream;
      },
    });
  }

  /** @throws {ServiceError} UPLOAD_TOO_LARGE with `maxBytes` */
  take(bytes: Buffer): void {
    this.receivedBytes += bytes.length;
    if (this.receivedBytes > this.#maxBytes) throw tooLarge(this.#maxBytes);
    if (this.#held === undefined) return void this.#stream?.push(bytes);
    this.#held = Buffer.concat([this.#held, bytes]);
    if (this.#held.length > maxTextBytes) this.#release(this.#held);
  }

  /**
   * The part has ended. The stream ends only with {@link finish}, when the rest of the body is known to be well-formed.
   *
   * @throws {ServiceError} BAD_REQUEST if it is text that was sent instead of a file
   */
  endPart(): void {
    if (this.#held === undefined) return;
    refuseText(this.#held, this.#head);
    this.#release(this.#held);
  }

  finish(): void {
    this.#stream?.push(null);
  }

  /** Fails the `Upload`, or the stream if the file has begun. */
  fail(error: Error): void {
    this.upload.reject(error);
    this.#stream?.destroy(error);
  }

  #release(held: Buffer): void {
    this.#held = undefined;
    if (held.length > 0) this.#stream?.push(held);
  }
}

/** The error for a file of more than `maxBytes` bytes. */
export function tooLarge(maxBytes: number): ServiceError {
  return new ServiceError("UPLOAD_TOO_LARGE", `The file has more than ${maxBytes} bytes.`, { maxBytes });
}
