import type { TypedDocumentString } from "./operations.ts";

/** The API refused, or could not be reached (`NETWORK`). */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** The error code of the service, or `NETWORK`. */
  readonly code: string;
  /** How long to wait before a retry, in seconds, if the service said so. */
  readonly retryAfterSeconds: number | undefined;
  /** The recording that the error is about, if the service said so. */
  readonly recordId: string | undefined;

  constructor(code: string, message: string, retryAfterSeconds?: number, recordId?: string) {
    super(message);
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
    this.recordId = recordId;
  }
}

/** The body of a response of the API. */
export interface Answer<R> {
  readonly data?: R | null;
  readonly errors?: readonly { message: string; extensions?: Partial<ErrorBody> }[];
}

/** What the service says about an error. */
export interface ErrorBody {
  readonly code: string;
  readonly message: string;
  readonly retryAfterSeconds?: number;
  readonly recordId?: string;
}

/** Where the API is: beside the page, also behind a proxy that adds a path. */
export function endpoint(): string {
  return new URL("graphql", document.baseURI).href;
}

/**
 * Runs a document.
 * @throws {ApiError}
 */
export async function call<R, V>(
  document: TypedDocumentString<R, V>,
  variables: V,
  { token, keepalive = false, signal }: { token?: string | undefined; keepalive?: boolean; signal?: AbortSignal } = {},
): Promise<R> {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const body = JSON.stringify({ query: String(document), variables });
  let response: Response;
  try {
    response = await fetch(endpoint(), { method: "POST", headers, body, keepalive, ...(signal && { signal }) });
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw unreachable();
  }
  return resultOf((await response.json().catch(() => ({}))) as Answer<R>, response.status);
}

/**
 * The data of an answer.
 * @throws {ApiError} if it has errors or no data
 */
export function resultOf<R>({ data, errors }: Answer<R>, status: number): R {
  const [error] = errors ?? [];
  if (error) {
    const { code = "INTERNAL_SERVER_ERROR", retryAfterSeconds, recordId } = error.extensions ?? {};
    throw new ApiError(code, error.message, retryAfterSeconds, recordId);
  }
  // A proxy answered: its pages are not JSON.
  if (!data)
    throw status >= 500 ? unreachable() : new ApiError("INTERNAL_SERVER_ERROR", `The service answered ${status}.`);
  return data;
}

/** The error for a request without an answer. */
export function unreachable(): ApiError {
  return new ApiError("NETWORK", "The service cannot be reached.");
}
