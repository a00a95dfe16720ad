/**
 * Every code that a client can meet in `extensions.code` of a GraphQL error or in `error.code` of a JSON body,
 * with the HTTP status that goes with it, what it means, and what a client should do.
 */
export const errorCodes = {
  BAD_REQUEST: [
    400,
    "The request itself is malformed, for instance not HTTP, or a broken multipart body.",
    "Correct the request.",
  ],
  QUERY_TOO_COMPLEX: [
    400,
    "The operation asks for too much; the limit that it exceeds is named, for instance `maxDepth`.",
    "Ask for less at a time.",
  ],
  BAD_USER_INPUT: [400, "An argument has a value that is not allowed.", "Show the message and ask for another value."],
  UNAUTHENTICATED: [401, "No valid user id and token were presented.", "Ask for credentials; do not retry as is."],
  FORBIDDEN: [403, "The token is valid but may not do this.", "Use a token with the needed scope."],
  REGISTRATION_CLOSED: [
    403,
    "Not everybody may make a user here: it takes an invitation, or the operator.",
    "Ask the operator for an invitation or an account.",
  ],
  USER_DISABLED: [403, "The operator has disabled this user.", "Ask the operator; do not retry as is."],
  NOT_FOUND: [404, "There is no such thing, or it belongs to somebody else.", "Forget the id."],
  METHOD_NOT_ALLOWED: [
    405,
    "The address does not know this HTTP method, or a mutation came with GET.",
    "Use a method from the Allow header.",
  ],
  NOT_ACCEPTABLE: [406, "The client wants no type of answer that there is.", "Name JSON in the Accept header."],
  REQUEST_TIMEOUT: [408, "The request did not arrive in time.", "Send it again."],
  UPLOAD_STALLED: [
    408,
    "The upload stopped arriving, or arrived too slowly (`minBytesPerSecond`).",
    "Send the file again.",
  ],
  CONFLICT: [409, "The request contradicts what is stored already.", "Read the message; do not retry as is."],
  GONE: [410, "The link has expired.", "Ask the owner for a new link."],
  PRECONDITION_FAILED: [412, "A condition in the request's headers does not hold.", "Fetch the file anew."],
  REQUEST_TOO_LARGE: [
    413,
    "The request, without any file, has more bytes than allowed (`maxBytes`).",
    "Send less at a time.",
  ],
  UPLOAD_TOO_LARGE: [413, "The file has more bytes than allowed (`maxBytes`).", "Send a smaller file."],
  UPLOAD_TOO_LONG: [413, "The recording lasts longer than allowed (`maxSeconds`).", "Send a shorter recording."],
  UNSUPPORTED_MEDIA: [
    415,
    "The file is not a WAV that can be converted, or the request is of a type that is not served.",
    "Send a WAV file, or JSON.",
  ],
  RANGE_NOT_SATISFIABLE: [416, "The range lies outside the file.", "Ask for a range inside the file."],
  WRONG_HOST: [
    421,
    "The request names a host that the service does not answer under (ALLOWED_HOSTS).",
    "Use the service's public address.",
  ],
  UPLOAD_INCOMPLETE: [422, "The file did not arrive whole, or holds no sound.", "Send the whole file."],
  RATE_LIMITED: [429, "Too many requests (`retryAfterSeconds`).", "Wait, then retry."],
  QUOTA_EXCEEDED: [
    403,
    "The user's quota has no room for it (`limit`, `max`, `used`).",
    "Delete recordings or ask the operator.",
  ],
  HEADERS_TOO_LARGE: [431, "The request's header fields are too large.", "Send fewer or shorter ones."],
  CLIENT_CLOSED_REQUEST: [499, "The client went away.", "Nothing: nobody reads this answer."],
  INTERNAL_SERVER_ERROR: [
    500,
    "A fault of the service; its log has more under the error's `requestId`.",
    "Retry later; report the `requestId`.",
  ],
  CONVERSION_FAILED: [500, "The encoder failed; the service's log has more.", "Retry; report the `requestId`."],
  BUSY: [503, "The service has too much to do (`retryAfterSeconds`).", "Wait, then retry."],
  CONVERSION_TIMEOUT: [
    503,
    "The conversion took longer than allowed (`maxSeconds`).",
    "Retry when the service is less busy.",
  ],
  SHUTTING_DOWN: [503, "The service is stopping (`retryAfterSeconds`).", "Wait, then retry."],
  DATABASE_UNAVAILABLE: [503, "The database cannot be reached (`retryAfterSeconds`).", "Wait, then retry."],
  STORAGE_FULL: [
    507,
    "There is no room left for recordings (`retryAfterSeconds`); reading and deleting work.",
    "Keep the file and retry later.",
  ],
  OUTCOME_UNKNOWN: [
    504,
    "The database was lost before it confirmed a change, or when a part of it was made.",
    "Look whether it was made, then repeat it.",
  ],
} as const satisfies Record<string, readonly [status: number, meaning: string, advice: string]>;

/** Codes of Apollo Server and GraphQL themselves, in the same form. */
export const operationErrorCodes = {
  GRAPHQL_PARSE_FAILED: [400, "The operation is not GraphQL.", "Correct the operation."],
  GRAPHQL_VALIDATION_FAILED: [400, "The operation does not fit the schema.", "Correct the operation."],
  OPERATION_RESOLUTION_FAILURE: [
    400,
    "The document has not exactly one operation, or none of the given name.",
    "Correct `operationName`.",
  ],
  PERSISTED_QUERY_NOT_FOUND: [200, "The hash of a persisted query is not known yet.", "Send the query with its hash."],
  PERSISTED_QUERY_NOT_SUPPORTED: [200, "Persisted queries are switched off.", "Send the query without its hash."],
} as const satisfies Record<string, readonly [status: number, meaning: string, advice: string]>;

/** A stable error code; see {@link errorCodes}. */
export type ErrorCode = keyof typeof errorCodes;

/** Facts beside the code that a client can use, such as `maxBytes` or `retryAfterSeconds`. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | readonly string[]>>;

/** A failure that the caller can act on. Its message is shown to the caller: a sentence, no internals. */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.details = details;
  }

  /** The HTTP status that goes with the code. */
  get status(): number {
    return errorCodes[this.code][0];
  }
}

/** A number with its noun, for a sentence: `1 second`, `2 seconds`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * A refusal that will not last: says when to try again, also in `retryAfterSeconds`.
 * @param why what is in the way, as a sentence without its full stop
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

/** The refusal of everything new, and of what does not finish in time, while the service stops. */
export function shuttingDown(): ServiceError {
  return tryAgainLater("SHUTTING_DOWN", "The service is stopping", 5);
}

/** The refusal of what would need room. */
export function storageFull(options?: ErrorOptions): ServiceError {
  const why =
    "The service has no room left for recordings; its operator has to make some. What is stored can be read and deleted";
  return tryAgainLater("STORAGE_FULL", why, 60, options);
}

/** The header fields that go with a failure beside its status (RFC 9110 sections 10.2.3, 11.6.1 and 12.5.3). */
export function headersOf({ status, details }: ServiceError): Readonly<Record<string, string>> {
  const { retryAfterSeconds, acceptEncoding } = details;
  return {
    ...(acceptEncoding !== undefined && { "accept-encoding": String(acceptEncoding) }),
    ...(retryAfterSeconds !== undefined && { "retry-after": String(retryAfterSeconds) }),
    ...(status === 401 && { "www-authenticate": "Bearer" }),
  };
}
