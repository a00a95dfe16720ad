/**
 * Every error code, as it appears in `extensions.code` of a GraphQL error or `error.code` of a JSON body: its HTTP
 * status, its meaning, and what a client should do.
 */
export const errorCodes = {
  BAD_REQUEST: [
    400,
    "The request is malformed, for example invalid HTTP or a broken multipart body.",
    "Correct the request.",
  ],
  QUERY_TOO_COMPLEX: [
    400,
    "The operation exceeds a limit, which the error names, for example `maxDepth`.",
    "Ask for less in one request.",
  ],
  BAD_USER_INPUT: [400, "The value of an argument is not allowed.", "Show the message and ask for another value."],
  UNAUTHENTICATED: [401, "The request has no valid token.", "Ask for a token; do not retry unchanged."],
  FORBIDDEN: [403, "The token is valid but does not allow this.", "Use a token that allows it."],
  REGISTRATION_CLOSED: [
    403,
    "Registration is closed, or needs an invitation.",
    "Ask the operator for an invitation or an account.",
  ],
  USER_DISABLED: [403, "The operator has disabled this user.", "Ask the operator; do not retry unchanged."],
  NOT_FOUND: [
    404,
    "Nothing exists at this address or with this id, or it belongs to another user.",
    "Check the address or the id; do not retry unchanged.",
  ],
  METHOD_NOT_ALLOWED: [
    405,
    "The address does not support this HTTP method, or a mutation was sent with GET.",
    "Use a method that the Allow header lists.",
  ],
  NOT_ACCEPTABLE: [
    406,
    "The service cannot answer in any type that the Accept header names.",
    "Name JSON in the Accept header.",
  ],
  REQUEST_TIMEOUT: [408, "The request did not arrive in time.", "Send it again."],
  UPLOAD_STALLED: [408, "The upload stopped, or arrived too slowly (`minBytesPerSecond`).", "Send the file again."],
  CONFLICT: [409, "The request contradicts stored data.", "Read the message; do not retry unchanged."],
  GONE: [410, "The link has expired.", "Ask the owner for a new link."],
  PRECONDITION_FAILED: [412, "A condition in the request headers does not hold.", "Fetch the whole file again."],
  REQUEST_TOO_LARGE: [
    413,
    "The request, not counting its file, has more bytes than allowed (`maxBytes`).",
    "Send less in one request.",
  ],
  UPLOAD_TOO_LARGE: [413, "The file has more bytes than allowed (`maxBytes`).", "Send a smaller file."],
  UPLOAD_TOO_LONG: [413, "The recording is longer than allowed (`maxSeconds`).", "Send a shorter recording."],
  UNSUPPORTED_MEDIA: [
    415,
    "The file is not a WAV that can be converted, or the type of the request is not supported.",
    "Send a WAV file, or JSON.",
  ],
  RANGE_NOT_SATISFIABLE: [416, "The range is outside the file.", "Ask for a range inside the file."],
  WRONG_HOST: [421, "The request names a host that is not in ALLOWED_HOSTS.", "Use the service's public address."],
  UPLOAD_INCOMPLETE: [422, "The file is incomplete or contains no sound.", "Send the complete file."],
  LOCKED: [423, "Another request is sending bytes of this upload, and does not let go.", "Wait, then retry."],
  RATE_LIMITED: [429, "Too many requests (`retryAfterSeconds`).", "Wait, then retry."],
  QUOTA_EXCEEDED: [
    403,
    "The user's quota has no room (`limit`, `max`, `used`).",
    "Delete recordings or ask the operator.",
  ],
  HEADERS_TOO_LARGE: [431, "The request headers are too large.", "Send fewer or shorter headers."],
  CLIENT_CLOSED_REQUEST: [499, "The client closed the connection.", "Nothing: nobody receives this response."],
  INTERNAL_SERVER_ERROR: [
    500,
    "The service failed unexpectedly. Its log has the details under the `requestId`.",
    "Retry later; report the `requestId`.",
  ],
  CONVERSION_FAILED: [500, "The encoder failed. The service's log has the details.", "Retry; report the `requestId`."],
  NOT_IMPLEMENTED: [501, "The service does not support what was asked for.", "Ask for what the message names."],
  BUSY: [503, "The service is overloaded (`retryAfterSeconds`).", "Wait, then retry."],
  CONVERSION_TIMEOUT: [
    503,
    "The conversion took longer than allowed (`maxSeconds`).",
    "Retry later, when the service is less busy.",
  ],
  SHUTTING_DOWN: [503, "The service is stopping (`retryAfterSeconds`).", "Wait, then retry."],
  DATABASE_UNAVAILABLE: [503, "The database cannot be reached (`retryAfterSeconds`).", "Wait, then retry."],
  STORAGE_UNAVAILABLE: [
    503,
    "The store of the recordings cannot be used (`retryAfterSeconds`). Titles and lists can be read.",
    "Wait, then retry.",
  ],
  STORAGE_FULL: [
    507,
    "The service has no space for more recordings (`retryAfterSeconds`). Reading and deleting work.",
    "Keep the file, and retry later.",
  ],
  OUTCOME_UNKNOWN: [
    504,
    "The database connection was lost before a change was confirmed, or after a part of it was made.",
    "Check whether the change was made before you repeat it.",
  ],
} as const satisfies Record<string, readonly [status: number, meaning: string, advice: string]>;

/** The codes of Apollo Server and GraphQL, in the same form. */
export const operationErrorCodes = {
  GRAPHQL_PARSE_FAILED: [400, "The operation is not valid GraphQL.", "Correct the operation."],
  GRAPHQL_VALIDATION_FAILED: [400, "The operation does not match the schema.", "Correct the operation."],
  OPERATION_RESOLUTION_FAILURE: [
    400,
    "The document has no operation, or several and `operationName` does not name one of them.",
    "Correct `operationName`.",
  ],
  PERSISTED_QUERY_NOT_FOUND: [
    200,
    "The service does not know the hash of the persisted query.",
    "Send the query with its hash.",
  ],
  PERSISTED_QUERY_NOT_SUPPORTED: [200, "Persisted queries are off.", "Send the query without its hash."],
} as const satisfies Record<string, readonly [status: number, meaning: string, advice: string]>;

/** A stable error code; see {@link errorCodes}. */
export type ErrorCode = keyof typeof errorCodes;

/** Values for clients in addition to the code, such as `maxBytes` or `retryAfterSeconds`. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | readonly string[]>>;

/** A failure that the caller can act on. The caller sees its message, which is a sentence without internals. */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.details = details;
  }

  /** The HTTP status of the code. */
  get status(): number {
    return errorCodes[this.code][0];
  }
}

/** A number with its noun in the singular or plural: `1 second`, `2 seconds`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * A temporary refusal. The message and `retryAfterSeconds` say when to try again.
 * @param why the reason, as a sentence without its full stop
 */
export function tryAgainLater(
  code: ErrorCode,
  why: string,
  retryAfterSeconds: number,
  options?: ErrorOptions,
): ServiceError {
  const sentence = `${why}; try again in ${counted(retryAfterSeconds, "second")}.`;
  return new ServiceError(code, sentence, { retryAfterSeconds }, options);
}

/** Refuses new work while the service stops, and ends work that does not finish in time. */
export function shuttingDown(): ServiceError {
  return tryAgainLater("SHUTTING_DOWN", "The service is stopping", 5);
}

/** The error for a store of recordings, outside the database, that cannot be used now. */
export function storageUnavailable(options: ErrorOptions): ServiceError {
  return tryAgainLater("STORAGE_UNAVAILABLE", "The store of the recordings cannot be used", 5, options);
}

/** Refuses work that needs space in the database or the store. */
export function storageFull(options?: ErrorOptions): ServiceError {
  const why =
    "The service has no space for more recordings until its operator makes room. Stored recordings can be read and deleted";
  return tryAgainLater("STORAGE_FULL", why, 60, options);
}

/** The header fields of a failure (RFC 9110 sections 10.2.3, 11.6.1 and 12.5.3, RFC 6750 section 3). */
export function headersOf({ status, details }: ServiceError): Readonly<Record<string, string>> {
  const { retryAfterSeconds, acceptEncoding } = details;
  return {
    ...(acceptEncoding !== undefined && { "accept-encoding": String(acceptEncoding) }),
    ...(retryAfterSeconds !== undefined && { "retry-after": String(retryAfterSeconds) }),
    ...(status === 401 && { "www-authenticate": 'Bearer realm="web-user-music"' }),
  };
}
