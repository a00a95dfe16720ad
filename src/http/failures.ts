import { isDatabaseBusy, isDatabaseUnavailable, isStorageFull } from "../errors/database-failures.ts";
import { ServiceError, storageFull, tryAgainLater, type ErrorCode, type ErrorDetails } from "../errors/errors.ts";
import type { Logger } from "../telemetry/logger.ts";

/** An error in the form that clients get. */
interface FormattedFailure {
  readonly message: string;
  readonly extensions: { readonly code: ErrorCode; readonly requestId: string } & ErrorDetails;
}

/**
 * Converts any error to one that clients may see. A {@link ServiceError} stays as it is, a lost database becomes
 * DATABASE_UNAVAILABLE, a full disk STORAGE_FULL, and everything else INTERNAL_SERVER_ERROR without details.
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

/** Logs a refusal with its code, and a fault with its cause. */
export function logFailure(logger: Pick<Logger, "info" | "error">, failure: ServiceError): void {
  const { code, status, cause } = failure;
  if (status < 500 || (cause === undefined && [501, 503, 507].includes(status)))
    logger.info({ code }, "request refused");
  else logger.error({ err: cause ?? failure, code }, "request failed");
}

/**
 * Formats an error as a GraphQL error. Other JSON responses have the same members.
 * @param requestId the id of the request in the log and in `X-Request-Id`
 */
export function toFormattedError({ message, code, details }: ServiceError, requestId: string): FormattedFailure {
  return { message, extensions: { code, ...details, requestId } };
}
