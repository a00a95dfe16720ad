import { ServiceError } from "../errors.ts";

/**
 * A name that people read: without white space around it, in Unicode's composed form (NFC).
 * @param what stands in the message: `name`, `title`
 * @throws {ServiceError} BAD_USER_INPUT when it is blank, has more than `maxLength` characters or has control characters
 */
export function checkedName(given: string, what: string, maxLength: number): string {
  const trimmed = given.trim().normalize("NFC");
  const length = Array.from(trimmed).length;
  if (length === 0) throw new ServiceError("BAD_USER_INPUT", `The ${what} must not be blank.`);
  if (length > maxLength) {
    const message = `The ${what} must have at most ${maxLength} characters; it has ${length}.`;
    throw new ServiceError("BAD_USER_INPUT", message, { maxLength });
  }
  // Control, format and surrogate code points; joiners inside emoji and scripts are format characters that are needed.
  if (/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069\ufeff]/u.test(trimmed)) {
    throw new ServiceError("BAD_USER_INPUT", `The ${what} must not have control characters or line breaks.`);
  }
  if (!/[^\p{Cf}\p{Z}]/u.test(trimmed)) throw new ServiceError("BAD_USER_INPUT", `The ${what} must not be blank.`);
  return trimmed;
}
