import { ServiceError } from "./errors.ts";

/**
 * Makes sure that what is to expire does so later than now; what has no such time never expires.
 * @throws {ServiceError} BAD_USER_INPUT
 */
export function requireFutureExpiry(expiresAt: Date | null | undefined): void {
  if (!expiresAt || expiresAt.getTime() > Date.now()) return;
  throw new ServiceError("BAD_USER_INPUT", "expiresAt must lie in the future.", { argument: "expiresAt" });
}
