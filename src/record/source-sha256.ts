import { ServiceError } from "../errors/errors.ts";

/**
 * A SHA-256 in the spelling of the database, in lower case.
 * @param argument what the error names
 * @throws {ServiceError} BAD_USER_INPUT if it does not have 64 hexadecimal digits
 */
export function checkedSha256(given: string, argument: string): string {
  if (/^[\da-f]{64}$/i.test(given)) return given.toLowerCase();
  throw new ServiceError("BAD_USER_INPUT", "A SHA-256 has 64 hexadecimal digits.", { argument });
}
