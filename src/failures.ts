import { isDatabaseBusy, isDatabaseUnavailable } from "./database/database-failures.ts";
import { ServiceError, tryAgainLater, type ErrorCode, type ErrorDetails } from "./errors.ts";
import type { Logger } from "./logger.ts";

/** What a client is told of a failure. */
export interface FormattedFailure {
  readonly message: string;
  readonly extensions: { readonly code: ErrorCode } & ErrorDetails;
}

/**
 * The failure as a client may see it: a {@link ServiceError} as it is, a lost database as DATABASE_UNAVAILABLE, and
 * anything else as INTERNAL_SERVER_ERROR, which says no more than the id under which it was logged. Every fault of the
 * service's own (status 500) has that id.
 */
export function toServiceError(error: unknown, requestId: string): ServiceError {
  if (error instanceof ServiceError) {
    const { code, status, message, details, cause = error } = error;
    return status === 500 ? new ServiceError(code, message, { ...details, requestId }, { cause }) : error;
  }
  if (isDatabaseBusy(error)) {
    return tryAgainLater("BUSY", "The service has too much to do", 10, { cause: error });
  }
  if (isDatabaseUnavailable(error)) {
    return tryAgainLater("DATABASE_UNAVAILABLE", "The database cannot be reached", 5, { cause: error });
  }
  return new ServiceError("INTERNAL_SERVER_ERROR", "Internal server error.", { requestId }, { cause: error });
}

/** Writes a refusal down by its code, and a fault with its cause. */
export function logFailure(logger: Pick<Logger, "info" | "error">, failure: ServiceError): void {
  const { code, status, cause } = failure;
  if (status < 500 || (cause === undefined && status === 503)) logger.info({ code }, "request refused");
  else logger.error({ err: cause ?? failure, code }, "request failed");
}

/** A failure in the form of a GraphQL error; a JSON answer has the same members. */
export function toFormattedError(error: ServiceError): FormattedFailure {
  return { message: error.message, extensions: { code: error.code, ...error.details } };
}
