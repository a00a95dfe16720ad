import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { ServiceError } from "../errors/errors.ts";
import { readContentType } from "../multipart/content-type.ts";
import { MultipartScanner, type MultipartEvent } from "../multipart/multipart-scanner.ts";
import { readPartHead, type PartHead } from "../multipart/part-head.ts";
import type { HeldBytes, UnvouchedBytes } from "../memory/unvouched-bytes.ts";
import { jsonSize } from "./bounded-json.ts";
import { FieldBuffer } from "./field-buffer.ts";
import { MultipartFile, tooLarge } from "./multipart-file.ts";
import {
  maxJsonValues,
  parseMap,
  parseOperations,
  readFieldText,
  replaceNull,
  type GraphQLRequestBody,
} from "./multipart-fields.ts";
import { endsTooEarly, missingPart, places, refuseEncoded, unexpectedPart } from "./multipart-refusals.ts";

/** Limits of a multipart request. */
export interface MultipartLimits {
  readonly maxFileBytes: number;
  readonly maxOperationsBytes: number;
  readonly maxMapBytes: number;
  /** Maximum wait for the next byte of the file while it is being read, and for everything before the file. */
  readonly stallSeconds: number;
  /** The memory that all requests share until their sender is authenticated; unlimited if absent. */
  readonly unvouched?: UnvouchedBytes;
}

/** Bytes allowed for boundaries, part headers (up to 16 KiB each), a preamble and an epilogue. */
const framingBytes = 64 * 1024;

/** Approximate memory of a value of parsed JSON. */
const valueBytes = 64;

/**
 * Refuses a body whose `Content-Length` is too large for an allowed file.
 *
 * @throws {ServiceError} UPLOAD_TOO_LARGE with `maxBytes`, the maximum size of a file.
 */
export function refuseByLength(headers: IncomingHttpHeaders, limits: MultipartLimits): void {
  if (Number(headers["content-length"] ?? 0) > limits.maxFileBytes + maxOverheadBytes(limits))
    throw tooLarge(limits.maxFileBytes);
}

/**
 * Reads a GraphQL multipart request (jaydenseric/graphql-multipart-request-spec, draft 3; one operation, one file, one
 * path). Resolves when `map` has been read and `authorize` has succeeded, or without that, when the file begins: until then, what
 * was read counts as nobody's. The file continues to arrive while the
 * resolver runs, as fast as it is read. It ends only after the whole body was found to be well-formed. After the
 * response, nothing more is read here; `closeAfterEarlyAnswer` handles the rest of the body.
 *
 * The `Upload` and its stream fail with a ServiceError too: BAD_REQUEST for a malformed body, UPLOAD_TOO_LARGE,
 * UPLOAD_STALLED, UPLOAD_INCOMPLETE if the body ends inside the file, CLIENT_CLOSED_REQUEST.
 *
 * @param authorize is called with `operations` before the file is read; what it throws refuses the request.
 * @throws {ServiceError} with the same codes, for errors before that.
 */
export async function readMultipartRequest(
  request: IncomingMessage,
  response: ServerResponse,
  limits: MultipartLimits,
  authorize?: (operations: GraphQLRequestBody) => Promise<void>,
): Promise<GraphQLRequestBody> {
  return await new MultipartReader(request, response, limits, authorize).body;
}

class MultipartReader {
  readonly body: Promise<GraphQLRequestBody>;
  readonly #settle: PromiseWithResolvers<GraphQLRequestBody>;
  readonly #request: IncomingMessage;
  readonly #limits: MultipartLimits;
  readonly #authorize: ((operations: GraphQLRequestBody) => Promise<void>) | undefined;
  readonly #scanner: MultipartScanner;
  /** Charset of names that are not UTF-8, if the request states one. */
  readonly #charset: string | undefined;
  readonly #stallTimer: NodeJS.Timeout;
  readonly #onData = (chunk: Buffer) => this.#take(chunk);
  readonly #field: FieldBuffer;
  readonly #file: MultipartFile;
  /** Number of parts that have begun. */
  #parts = 0;
  #partHead: PartHead | undefined;
  readonly #memory: HeldBytes | undefined;
  #operations: GraphQLRequestBody = {};
  #authorized: Promise<void> = Promise.resolve();
  readonly #fileBegun = Promise.withResolvers<void>();
  #fileField = "";
  #insideFile = false;
  /** Whether the body is left unread until the reader of the file wants more bytes. */
  #waitsForRoom = false;
  #receivedBytes = 0;
  #stopped = false;

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    limits: MultipartLimits,
    authorize: ((operations: GraphQLRequestBody) => Promise<void>) | undefined,
  ) {
    this.#request = request;
    this.#limits = limits;
    this.#authorize = authorize;
    this.#settle = Promise.withResolvers();
    this.body = this.#settle.promise;
    const { boundary, charset } = readContentType(request.headers["content-type"] ?? "");
    this.#memory = limits.unvouched?.hold((busy) => this.#fail(busy));
    this.#scanner = new MultipartScanner(boundary);
    this.#charset = charset;
    this.#field = new FieldBuffer(this.#memory);
    this.#file = new MultipartFile(
      limits.maxFileBytes,
      () => this.#makeRoom(),
      () => this.#stop(),
    );

    this.#stallTimer = setTimeout(() => {
      const receivedBytes = this.#receivedBytes;
      // After a busy turn of the event loop, bytes may be waiting. They are read before this is called.
      setImmediate(() => this.#failAsStalled(receivedBytes));
    }, limits.stallSeconds * 1000);
    request.on("data", this.#onData);
    request.once("end", () => this.#guard(() => this.#finish()));
    request.on("error", () => this.#failAsGone());
    request.once("close", () => {
      if (!request.readableEnded) this.#failAsGone();
    });
    // Runs before node:http's own listener, which would read the rest of the body.
    response.prependOnceListener("finish", () => this.#failAsGone());
    response.once("close", () => this.#failAsGone());
    if (request.destroyed) this.#failAsGone();
  }

  #take(chunk: Buffer): void {
    if (this.#receivedBytes - this.#file.receivedBytes > maxOverheadBytes(this.#limits)) {
      return this.#fail(badRequest("The multipart body has too many bytes besides the file."));
    }
    this.#receivedBytes += chunk.length;
    this.#request.pause();
    this.#guard(() => {
      for (const event of this.#scanner.scan(chunk)) this.#takeEvent(event);
    });
    if (this.#stopped) return;
    // A function made here would keep the chunk in memory until the next one: long enough to outlive the nursery.
    if (this.#file.isFull) this.#waitsForRoom = true;
    else this.#goOn();
  }

  /** The reader of the file wants more bytes. */
  #makeRoom(): void {
    if (!this.#waitsForRoom) return;
    this.#waitsForRoom = false;
    this.#stallTimer.refresh();
    this.#goOn();
  }

  /** Processes the next chunk after the last one. */
  #goOn(): void {
    if (this.#stopped) return;
    // The bytes around the file are few: all of them together must arrive within one such wait.
    if (this.#insideFile) this.#stallTimer.refresh();
    // Let other requests have a turn of the event loop: the bytes of a fast client arrive in up to 32 reads at a time.
    setImmediate(() => this.#stopped || this.#request.resume());
  }

  #takeEvent(event: MultipartEvent): void {
    if (this.#stopped) return;
    if (event.kind === "head") this.#beginPart(readPartHead(event.bytes, this.#charset));
    else if (event.kind === "part end") this.#endPart();
    else if (this.#insideFile) this.#file.take(event.bytes);
    else this.#takeFieldBytes(event.bytes);
  }

  #beginPart(head: PartHead): void {
    const place = places[this.#parts++];
    const name = place === "file" ? this.#fileField : place;
    if (name === undefined || head.name !== name) throw unexpectedPart(head, place, name);
    refuseEncoded(head);
    this.#partHead = head;
    if (place !== "file") return;
    this.#insideFile = true;
    this.#file.begin(head, this.#fileField);
    this.#fileBegun.resolve();
  }

  #takeFieldBytes(bytes: Buffer): void {
    const { maxOperationsBytes, maxMapBytes } = this.#limits;
    const maxBytes = this.#parts === 1 ? maxOperationsBytes : maxMapBytes;
    this.#field.take(bytes, this.#partHead?.name ?? "", maxBytes);
  }

  #endPart(): void {
    if (this.#insideFile) return this.#endFile();
    const { name = "", charset } = this.#partHead ?? {};
    const text = readFieldText(name, this.#field.end(), charset);
    if (this.#parts === 1) {
      this.#operations = parseOperations(text);
      this.#memory?.add(valueBytes * jsonSize(text, maxJsonValues).values);
      this.#authorized = this.#authorize?.(this.#operations) ?? this.#fileBegun.promise;
      this.#authorized.catch((error: unknown) => this.#fail(toError(error)));
    } else {
      const { fileField, path } = parseMap(text);
      replaceNull(this.#operations, path, this.#file.upload);
      this.#fileField = fileField;
      // Without an owner, it makes room for others until its file begins.
      if (this.#authorize) this.#memory?.arrived();
      const operations = this.#operations;
      this.#operations = {}; // The file may take hours; the caller decides what to keep of them.
      this.#authorized.then(() => {
        this.#memory?.release();
        return this.#settle.resolve(operations);
      }, this.#settle.reject);
    }
  }

  #endFile(): void {
    this.#file.endPart();
    this.#insideFile = false;
    this.#stallTimer.refresh();
  }

  #finish(): void {
    if (!this.#scanner.closed) {
      if (this.#file.begun) {
        throw new ServiceError(
          "UPLOAD_INCOMPLETE",
          "The request body ended before the file did. Send the complete file.",
        );
      }
      throw endsTooEarly(this.#scanner.begun, this.#receivedBytes);
    }
    if (this.#parts < places.length) throw missingPart(this.#parts, this.#fileField);
    this.#file.finish();
    this.#stop();
  }

  #failAsStalled(receivedBytes: number): void {
    if (this.#stopped) return;
    // The file is not being read, which is not the client's fault.
    if (this.#waitsForRoom) return void this.#stallTimer.refresh();
    if (this.#insideFile && this.#receivedBytes > receivedBytes) return;
    this.#fail(new ServiceError("UPLOAD_STALLED", "The upload stopped. Send the file again."));
  }

  #failAsGone(): void {
    this.#fail(new ServiceError("CLIENT_CLOSED_REQUEST", "The client closed the connection before the file was read."));
  }

  #guard(step: () => void): void {
    if (this.#stopped) return;
    try {
      step();
    } catch (error) {
      this.#fail(toError(error));
    }
  }

  #fail(error: Error): void {
    if (this.#stopped) return;
    this.#stop();
    this.#settle.reject(error);
    this.#file.fail(error);
  }

  #stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#memory?.release();
    clearTimeout(this.#stallTimer);
    this.#request.off("data", this.#onData);
    this.#request.pause();
  }
}

function maxOverheadBytes(limits: MultipartLimits): number {
  return limits.maxOperationsBytes + limits.maxMapBytes + framingBytes;
}

function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error("Not an error was thrown.", { cause: thrown });
}

function badRequest(sentence: string): ServiceError {
  return new ServiceError("BAD_REQUEST", sentence);
}
