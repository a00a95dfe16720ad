import { ServiceError } from "../errors/errors.ts";

/** The latest time that RFC 3339 can express. */
const latest = Date.parse("9999-12-31T23:59:59.999Z");

/**
 * Checks that an expiry time is in the future and before the year 10000. Without a value, nothing expires.
 * @throws {ServiceError} BAD_USER_INPUT
 */
export function requireFutureExpiry(expiresAt: Date | null | undefined): void {
  if (!expiresAt) return;
  const argument = "expiresAt";
  if (expiresAt.getTime() <= Date.now()) {
    throw new ServiceError("BAD_USER_INPUT", "expiresAt must be in the future.", { argument });
  }
  if (expiresAt.getTime() > latest) {
    throw new ServiceError(
      "BAD_USER_INPUT",
      "expiresAt must be before the year 10000. Omit it if it should never expire.",
      {
        argument,
      },
    );
  }
}
