import { ServiceError } from "./errors.ts";

/**
 * What one line that people read may not have: control characters, line separators, halves of surrogate pairs, and
 * what is invisible or turns the direction of text, which could disguise what it says. The joiners U+200C and U+200D
 * are no part of it: Persian, Indic scripts and many emoji cannot be written without them.
 */
const refused = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/u;
const refusedRuns = new RegExp(`${refused.source}+`, "gu");

/** Something besides white space and characters without a shape. */
const visible = /[^\p{Cf}\p{Z}]/u;

/**
 * Makes one safe line of any text: in Unicode's composed form (NFC), without white space around it, and cut to so many
 * characters (code points). Line breaks and tabs become a space; what is nothing but joiners and spaces becomes empty.
 */
export function cleanText(text: string, maxCharacters: number): string {
  const line = text
    .toWellFormed()
    .replaceAll(refusedRuns, (found) => (/[\t\n\r\u2028\u2029]/u.test(found) ? " " : ""))
    .normalize("NFC")
    .trim();
  const kept = Array.from(line).slice(0, maxCharacters).join("").trimEnd();
  return visible.test(kept) ? kept : "";
}

/**
 * A line that somebody gave, in Unicode's composed form (NFC) and without white space around it.
 * @param what stands in the message: `name`, `title`
 * @throws {ServiceError} BAD_USER_INPUT when it is blank, has more characters (code points) than allowed, or one that
 * {@link cleanText} would take out
 */
export function checkedText(given: string, what: string, maxCharacters: number): string {
  const text = given.trim().normalize("NFC");
  if (refused.test(text)) {
    const message = `The ${what} must not have line breaks, control characters or characters that turn the direction of text.`;
    throw new ServiceError("BAD_USER_INPUT", message);
  }
  if (!visible.test(text)) throw new ServiceError("BAD_USER_INPUT", `The ${what} must not be blank.`);
  const length = Array.from(text).length;
  if (length > maxCharacters) {
    const message = `The ${what} must have at most ${maxCharacters} characters; it has ${length}.`;
    throw new ServiceError("BAD_USER_INPUT", message, { maxLength: maxCharacters });
  }
  return text;
}
