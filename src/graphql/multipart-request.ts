import busboy from "busboy";
import { Upload, type FileUpload } from "graphql-upload-minimal";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { ServiceError } from "../errors.ts";

/** What one multipart request may hold, and how long the service waits for its next byte. */
export interface MultipartLimits {
  readonly maxFileBytes: number;
  readonly maxOperationsBytes: number;
  readonly maxMapBytes: number;
  /** Longest wait for the next byte of the file while somebody reads it; also for everything before the file. */
  readonly stallSeconds: number;
}

/** The GraphQL request inside a multipart body, as GraphQL over HTTP section 5.2 names its parts. */
export interface GraphQLRequestBody {
  readonly query?: string | undefined;
  readonly operationName?: string | null | undefined;
  readonly variables?: Record<string, unknown> | null | undefined;
  readonly extensions?: Record<string, unknown> | null | undefined;
}

/** Room for the boundaries, the headers of the parts (busboy allows each 16 kB), a preamble and an epilogue. */
const framingBytes = 64 * 1024;

/** Nesting of `operations` and `map`; far more than any argument of a schema needs. */
const maxJsonDepth = 64;

/** Bytes of the file that wait for their reader; when they are there, the body is left unread. */
const fileBufferBytes = 64 * 1024;

const expectations = {
  operations: "The first part of the multipart body must be the field `operations`, without a file name.",
  map: "The second part of the multipart body must be the field `map`, without a file name.",
  file: "The third part of the multipart body must be the file that `map` names, with its file name.",
  nothing: "One request carries one file, and nothing may follow it.",
} as const;

/**
 * Refuses a multipart request that a foreign web page could make a browser send without asking first (CSRF).
 *
 * @throws {ServiceError} BAD_REQUEST when neither header that needs a CORS preflight is there.
 */
export function requirePreflightHeader(headers: IncomingHttpHeaders): void {
  if (headers["apollo-require-preflight"] || headers["x-apollo-operation-name"]) return;
  throw badRequest("Multipart requests need a non-empty `apollo-require-preflight` header.");
}

/**
 * Refuses by `Content-Length` a body that cannot hold an allowed file.
 *
 * @throws {ServiceError} UPLOAD_TOO_LARGE with `maxBytes`, the bytes that a file may have.
 */
export function refuseByLength(headers: IncomingHttpHeaders, limits: MultipartLimits): void {
  if (Number(headers["content-length"] ?? 0) > limits.maxFileBytes + maxOverheadBytes(limits)) throw tooLarge(limits);
}

/**
 * Reads a GraphQL multipart request (jaydenseric/graphql-multipart-request-spec, draft 3; one operation, one file,
 * one path). Settles when `map` is read and `authorize` is content: the file keeps arriving while the resolver runs,
 * as fast as it is read, and ends only after the whole body has been found well-formed. Once the request is answered
 * nothing more is read here; `closeAfterEarlyAnswer` sees to the rest of the body.
 *
 * The `Upload` and its stream fail with a ServiceError too: BAD_REQUEST for a malformed body, UPLOAD_TOO_LARGE,
 * UPLOAD_STALLED, UPLOAD_INCOMPLETE when the body ends within the file, CLIENT_CLOSED_REQUEST.
 *
 * @param authorize sees `operations` as soon as they are read, before the file; what it throws refuses the request.
 * @throws {ServiceError} the same codes, for what goes wrong before that.
 */
export async function readMultipartRequest(
  request: IncomingMessage,
  response: ServerResponse,
  limits: MultipartLimits,
  authorize: (operations: GraphQLRequestBody) => Promise<void> = async () => {},
): Promise<GraphQLRequestBody> {
  return await new MultipartReader(request, response, limits, authorize).body;
}

/** The package's own declaration omits what settles an Upload. */
class PendingUpload extends Upload {
  declare resolve: (file: Omit<FileUpload, "createReadStream"> & { createReadStream(): Readable }) => void;
  declare reject: (error: Error) => void;
}

class MultipartReader {
  readonly body: Promise<GraphQLRequestBody>;
  readonly #settle: PromiseWithResolvers<GraphQLRequestBody>;
  readonly #request: IncomingMessage;
  readonly #limits: MultipartLimits;
  readonly #authorize: (operations: GraphQLRequestBody) => Promise<void>;
  readonly #parser: busboy.Busboy;
  readonly #delimiters: DelimiterCheck;
  readonly #stallTimer: NodeJS.Timeout;
  readonly #onData = (chunk: Buffer) => this.#take(chunk);
  readonly #upload = new PendingUpload();
  #expected: keyof typeof expectations = "operations";
  #operations: GraphQLRequestBody = {};
  #authorized: Promise<void> = Promise.resolve();
  #fileField = "";
  /** The file as the parser gives it, and as its reader gets it. */
  #part: Readable | undefined;
  #file: Readable | undefined;
  /** Called when the file's reader wants more than there is. */
  #onRoom: (() => void) | undefined;
  #insideFile = false;
  #receivedBytes = 0;
  #fileBytes = 0;
  #stopped = false;

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    limits: MultipartLimits,
    authorize: (operations: GraphQLRequestBody) => Promise<void>,
  ) {
    this.#request = request;
    this.#limits = limits;
    this.#authorize = authorize;
    this.#settle = Promise.withResolvers();
    this.body = this.#settle.promise;
    const boundary = readBoundary(request.headers);
    this.#delimiters = new DelimiterCheck(boundary);
    const parser = openParser(request.headers, limits);
    this.#parser = parser;

    parser.on("field", (name, value, info) => {
      this.#guard(() => this.#readField(name, info.valueTruncated ? undefined : value));
    });
    parser.on("file", (name, part, info) => {
      part.on("error", () => {}); // the parser's own error tells the same
      this.#guard(() => this.#openFile(name, part, info));
    });
    // Stays for good: busboy 1.6 reports a malformed header any number of times, and once more when destroyed.
    parser.on("error", () => this.#failAsMalformed());
    parser.once("finish", () => this.#finish());

    this.#stallTimer = setTimeout(() => {
      const receivedBytes = this.#receivedBytes;
      // A busy event loop may have left bytes lying: they are taken in before this is called.
      setImmediate(() => this.#failAsStalled(receivedBytes));
    }, limits.stallSeconds * 1000);
    request.on("data", this.#onData);
    request.once("end", () => parser.end());
    request.on("error", () => this.#failAsGone());
    request.once("close", () => {
      if (!request.readableEnded) this.#failAsGone();
    });
    // Before node:http's own listener, which would read the rest of the body into the parser.
    response.prependOnceListener("finish", () => this.#failAsGone());
    response.once("close", () => this.#failAsGone());
    if (request.destroyed) this.#failAsGone();
  }

  #take(chunk: Buffer): void {
    // Exact: every earlier chunk has gone through the parser, and its part of the file has been counted.
    if (this.#receivedBytes - this.#fileBytes > maxOverheadBytes(this.#limits)) {
      return this.#fail(badRequest("The multipart body holds too much beside the file."));
    }
    this.#receivedBytes += chunk.length;
    this.#request.pause();
    // The parser would search the file byte by byte, and make new buffers of it: it is spared while it holds nothing back.
    const part = this.#insideFile ? this.#part : undefined;
    if (part?.readableLength === 0 && !part.isPaused() && this.#delimiters.isOutside(chunk)) {
      return this.#takeFileBytes(chunk, () => this.#goOn());
    }
    this.#parser.write(chunk, () => this.#goOn());
    // Second, for the parser's sentences say more; still before anybody is told that the file has ended.
    this.#guard(() => this.#delimiters.check(chunk));
  }

  /** Takes the next chunk, when the last one has been. */
  #goOn(): void {
    if (this.#stopped) return;
    // What stands around the file is small: it has to arrive within one such wait altogether.
    if (this.#insideFile) this.#stallTimer.refresh();
    // Other requests get a turn of the event loop: a fast client's bytes would come 32 reads at a time.
    setImmediate(() => this.#stopped || this.#request.resume());
  }

  /** Passes bytes of the file on; `taken` is called when there is room for more. */
  #takeFileBytes(bytes: Buffer, taken: () => void): void {
    this.#fileBytes += bytes.length;
    if (this.#fileBytes > this.#limits.maxFileBytes) this.#fail(tooLarge(this.#limits));
    else if (this.#file!.push(bytes)) taken();
    else this.#onRoom = taken;
  }

  #readField(name: string | undefined, value: string | undefined): void {
    const expected = this.#expected;
    if (name !== expected || (expected !== "operations" && expected !== "map")) {
      throw badRequest(expectations[expected]);
    }
    const maxBytes = expected === "operations" ? this.#limits.maxOperationsBytes : this.#limits.maxMapBytes;
    if (value === undefined || Buffer.byteLength(value) > maxBytes) {
      throw new ServiceError("BAD_REQUEST", `The field \`${name}\` must be UTF-8 of at most ${maxBytes} bytes.`, {
        maxBytes,
      });
    }
    if (expected === "operations") {
      this.#operations = parseOperations(value);
      this.#authorized = this.#authorize(this.#operations);
      this.#authorized.catch((error: unknown) => this.#fail(toError(error)));
      this.#expected = "map";
    } else {
      const { fileField, path } = parseMap(value);
      replaceNull(this.#operations, path, this.#upload);
      this.#fileField = fileField;
      this.#expected = "file";
      this.#authorized.then(() => this.#settle.resolve(this.#operations), this.#settle.reject);
    }
  }

  #openFile(name: string | undefined, part: Readable, info: busboy.FileInfo): void {
    if (this.#expected !== "file" || name !== this.#fileField) throw badRequest(expectations[this.#expected]);
    this.#expected = "nothing";
    this.#insideFile = true;
    this.#part = part;
    const read = () => {
      const onRoom = this.#onRoom;
      this.#onRoom = undefined;
      onRoom?.();
    };
    const file = new Readable({ highWaterMark: fileBufferBytes, read });
    this.#file = file;
    file.on("error", () => {}); // nobody may be reading yet
    file.once("close", () => this.#stop());
    part.on("data", (chunk: Buffer) => {
      part.pause();
      this.#takeFileBytes(chunk, () => part.resume());
    });
    part.once("end", () => {
      this.#insideFile = false;
      this.#stallTimer.refresh();
    });
    let taken = false;
    this.#upload.resolve({
      fieldName: name,
      filename: info.filename ?? "",
      mimetype: info.mimeType,
      encoding: info.encoding,
      createReadStream: () => {
        if (taken) throw badRequest("An uploaded file can be used once.");
        taken = true;
        return file;
      },
    });
  }

  #finish(): void {
    if (this.#expected !== "nothing") return this.#fail(badRequest(expectations[this.#expected]));
    this.#file?.push(null);
    this.#stop();
  }

  #failAsMalformed(): void {
    if (!this.#request.readableEnded) this.#fail(badRequest("A part of the multipart body has a malformed header."));
    else if (this.#file) this.#fail(new ServiceError("UPLOAD_INCOMPLETE", "The body ended before the file did."));
    else this.#fail(badRequest("The multipart body ended before its last boundary."));
  }

  #failAsStalled(receivedBytes: number): void {
    const nobodyReads = this.#request.isPaused();
    if (nobodyReads || (this.#insideFile && this.#receivedBytes > receivedBytes)) return;
    this.#fail(new ServiceError("UPLOAD_STALLED", "The upload stopped arriving."));
  }

  #failAsGone(): void {
    this.#fail(new ServiceError("CLIENT_CLOSED_REQUEST", "The request ended before its file was read."));
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
    this.#upload.reject(error);
    this.#file?.destroy(error);
  }

  #stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    clearTimeout(this.#stallTimer);
    this.#request.off("data", this.#onData);
    this.#request.pause();
    this.#parser.destroy();
  }
}

/**
 * Finds the delimiters between the parts in the raw body. It counts them, since busboy 1.6 drops some of it without a
 * word: parts that have no `Content-Disposition: form-data`, and all that follows a boundary with something other than
 * CRLF or `--` behind it, which would cut a file short.
 */
class DelimiterCheck {
  readonly #delimiter: Buffer;
  /** The end of what was seen, if a delimiter may have begun there: the first one may stand at the very beginning. */
  #begun = Buffer.from("\r\n");
  #parts = 0;
  #closed = false;

  constructor(boundary: string) {
    this.#delimiter = Buffer.from(`\r\n--${boundary}`);
  }

  /** Whether no delimiter begins, goes on or ends in this chunk, so that a parser holds nothing of it back either. */
  isOutside(chunk: Buffer): boolean {
    return this.#begun.length === 0 && chunk.indexOf(this.#delimiter) < 0 && this.#lastBeginning(chunk).length === 0;
  }

  /**
   * Takes the next chunk that is not outside.
   * @throws {ServiceError} BAD_REQUEST for a fourth part, or a boundary that is not alone on its line.
   */
  check(chunk: Buffer): void {
    if (this.#closed) return;
    const bytes = Buffer.concat([this.#begun, chunk]);
    const { length } = this.#delimiter;
    for (let at = bytes.indexOf(this.#delimiter); at >= 0; at = bytes.indexOf(this.#delimiter, at + length)) {
      const end = bytes.toString("latin1", at + length, at + length + 2);
      if (end.length < 2) break;
      this.#closed = end === "--";
      if (this.#closed) return;
      if (end !== "\r\n") throw badRequest("A boundary in the multipart body is not alone on its line.");
      if (++this.#parts > 3)
        throw badRequest("The multipart body must have three parts: operations, map and one file.");
    }
    this.#begun = Buffer.from(this.#lastBeginning(bytes));
  }

  /** What ends these bytes and may be the beginning of a delimiter, or of what has to follow it; often nothing. */
  #lastBeginning(bytes: Buffer): Buffer {
    const { length } = this.#delimiter;
    const tail = bytes.subarray(-(length + 1));
    for (let at = tail.indexOf("\r"); at >= 0; at = tail.indexOf("\r", at + 1)) {
      const beginning = tail.subarray(at, at + length);
      if (this.#delimiter.subarray(0, beginning.length).equals(beginning)) return tail.subarray(at);
    }
    return Buffer.alloc(0);
  }
}

/** RFC 2046 section 5.1.1: a boundary has 1 to 70 characters. busboy takes none, and thousands. */
function readBoundary(headers: IncomingHttpHeaders): string {
  const charset = '(?: *; *charset="?utf-8"?)?';
  const boundary = ' *; *boundary=(?:"([^"\\\\]{1,70})"|([^\\s;"]{1,70}))';
  const [, quoted, plain] =
    new RegExp(`^multipart/form-data${charset}${boundary}${charset} *$`, "i").exec(headers["content-type"] ?? "") ?? [];
  const value = quoted ?? plain;
  if (value === undefined) throw badContentType();
  return value;
}

function openParser(headers: IncomingHttpHeaders, limits: MultipartLimits): busboy.Busboy {
  try {
    return busboy({
      headers,
      defParamCharset: "utf8",
      fileHwm: 1, // the file is buffered once, in the stream that the resolver reads
      limits: { fieldSize: Math.max(limits.maxOperationsBytes, limits.maxMapBytes) + 1 },
    });
  } catch {
    throw badContentType();
  }
}

function parseOperations(json: string): GraphQLRequestBody {
  const value = parseJson("operations", json);
  if (Array.isArray(value)) throw badRequest("Batches are not served: `operations` must be one operation.");
  if (!isObject(value)) throw badRequest("The field `operations` must be a JSON object.");
  const { query, operationName, variables, extensions } = value;
  if (query !== undefined && typeof query !== "string") throw badRequest("`query` must be a string.");
  if (operationName != null && typeof operationName !== "string") throw badRequest("`operationName` must be a string.");
  if (variables != null && !isObject(variables)) throw badRequest("`variables` must be an object.");
  if (extensions != null && !isObject(extensions)) throw badRequest("`extensions` must be an object.");
  return { query, operationName, variables, extensions };
}

function parseMap(json: string): { fileField: string; path: string } {
  const value = parseJson("map", json);
  const [entry, ...more] = isObject(value) ? Object.entries(value) : [];
  const paths: unknown = entry?.[1];
  if (!entry || more.length > 0 || !Array.isArray(paths) || paths.length !== 1 || typeof paths[0] !== "string") {
    throw badRequest(
      'The field `map` must name one file with one path, as in {"0":["variables.file"]}: a file is used once.',
    );
  }
  return { fileField: entry[0], path: paths[0] };
}

/** Puts the upload where the path leads, through own properties only: a path can name `__proto__` or `constructor`. */
function replaceNull(operations: GraphQLRequestBody, path: string, upload: Upload): void {
  const [root, ...keys] = path.split(".");
  const last = keys.pop();
  let holder: unknown = root === "variables" ? operations.variables : undefined;
  for (const key of keys) holder = isContainer(holder) && Object.hasOwn(holder, key) ? holder[key] : undefined;
  if (last === undefined || !isContainer(holder) || !Object.hasOwn(holder, last) || holder[last] !== null) {
    throw badRequest("The path in `map` must begin with `variables.` and lead to a null in `operations`.");
  }
  holder[last] = upload;
}

function parseJson(field: string, json: string): unknown {
  if (jsonDepth(json) > maxJsonDepth) throw badRequest(`The field \`${field}\` is nested too deeply.`);
  try {
    return JSON.parse(json);
  } catch {
    throw badRequest(`The field \`${field}\` is not JSON.`);
  }
}

/** How deep the brackets of a JSON text go, found before anything is built of it. */
function jsonDepth(json: string): number {
  let depth = 0;
  let deepest = 0;
  let insideString = false;
  for (let i = 0; i < json.length; i++) {
    const character = json[i];
    if (insideString && character === "\\") i++;
    else if (character === '"') insideString = !insideString;
    else if (insideString) continue;
    else if (character === "[" || character === "{") deepest = Math.max(deepest, ++depth);
    else if (character === "]" || character === "}") depth--;
  }
  return deepest;
}

function isContainer(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return isContainer(value) && !Array.isArray(value);
}

function maxOverheadBytes(limits: MultipartLimits): number {
  return limits.maxOperationsBytes + limits.maxMapBytes + framingBytes;
}

function badContentType(): ServiceError {
  return badRequest("The content type must be multipart/form-data with a boundary of 1 to 70 characters.");
}

function tooLarge({ maxFileBytes }: MultipartLimits): ServiceError {
  return new ServiceError("UPLOAD_TOO_LARGE", `The file has more than ${maxFileBytes} bytes.`, {
    maxBytes: maxFileBytes,
  });
}

function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error("Not an error was thrown.", { cause: thrown });
}

function badRequest(sentence: string): ServiceError {
  return new ServiceError("BAD_REQUEST", sentence);
}
