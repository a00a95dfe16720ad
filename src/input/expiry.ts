import { ServiceError } from "../errors/errors.ts";

/** No later time can be written as RFC 3339 has it. */
const latest = Date.parse("9999-12-31T23:59:59.999Z");

/**
 * Makes sure that what is to expire does so later than now, and before the year 10000; what has no such time never expires.
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
