import { isDatabaseBusy, isDatabaseUnavailable, isStorageFull } from "../errors/database-failures.ts";
import { ServiceError, storageFull, tryAgainLater, type ErrorCode, type ErrorDetails } from "../errors/errors.ts";
import type { Logger } from "../telemetry/logger.ts";

/** What a client is told of a failure. */
export interface FormattedFailure {
  readonly message: string;
  readonly extensions: { readonly code: ErrorCode; readonly requestId: string } & ErrorDetails;
}

/**
 * The failure as a client may see it: a {@link ServiceError} as it is, a lost database as DATABASE_UNAVAILABLE, a full disk
 * as STORAGE_FULL, and anything else as INTERNAL_SERVER_ERROR, which says no more than that.
 */
export function toServiceError(error: unknown): ServiceError {
  if (error instanceof ServiceError) return error;
  if (isDatabaseBusy(error)) {
    return tryAgainLater("BUSY", "The service is overloaded", 10, { cause: error });
  }
  if (isStorageFull(error)) return storageFull({ cause: error });
  if (isDatabaseUnavailable(error)) {
    return tryAgainLater("DATABASE_UNAVAILABLE", "The database cannot be reached", 5, { cause: error });
  }
  return new ServiceError("INTERNAL_SERVER_ERROR", "Internal server error.", {}, { cause: error });
}

/** Writes a refusal down by its code, and a fault with its cause. */
export function logFailure(logger: Pick<Logger, "info" | "error">, failure: ServiceError): void {
  const { code, status, cause } = failure;
  if (status < 500 || (cause === undefined && (status === 503 || status === 507)))
    logger.info({ code }, "request refused");
  else logger.error({ err: cause ?? failure, code }, "request failed");
}

/**
 * A failure in the form of a GraphQL error; a JSON answer has the same members.
 * @param requestId the id under which it was logged, as in the answer's `X-Request-Id`
 */
export function toFormattedError({ message, code, details }: ServiceError, requestId: string): FormattedFailure {
  return { message, extensions: { code, ...details, requestId } };
}
