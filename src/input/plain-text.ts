import { ServiceError } from "../errors/errors.ts";

/**
 * What one line that people read may not have: control characters, line separators, halves of surrogate pairs, and
 * what is invisible or turns the direction of text, which could disguise what it says. The joiners U+200C and U+200D
 * are no part of it: Persian, Indic scripts and many emoji cannot be written without them.
 */
const refused = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/u;
const refusedRuns = new RegExp(`${refused.source}+`, "gu");

/**
 * Combining marks that stay on one character. Normalisation sorts the marks of a run, in a time that grows by the square
 * of their number; no language needs more (Unicode Standard Annex #15, "Stream-Safe Text Format").
 */
const longMarkRuns = /(\p{M}{30})\p{M}+/gu;

/** A composed character takes at most so many UTF-16 units of the text that it is composed of. */
const unitsPerCharacter = 4;

/** Something besides white space and characters without a shape. */
const visible = /[^\p{Cf}\p{Z}]/u;

/** The text with at most 30 combining marks in a row: then normalising it takes a time in proportion to its length. */
export function withoutLongMarkRuns(text: string): string {
  return text.replace(longMarkRuns, "$1");
}

/** The text in Unicode's composed form (NFC), with at most 30 combining marks in a row. */
export function composed(text: string): string {
  return withoutLongMarkRuns(text).normalize("NFC");
}

/**
 * Makes one safe line of any text: in Unicode's composed form (NFC), without white space around it, and cut to so many
 * characters (code points). Line breaks and tabs become a space; what is nothing but joiners and spaces becomes empty.
 * Of a long text only the beginning is looked at.
 */
export function cleanText(text: string, maxCharacters: number): string {
  const beginning = text.trimStart().slice(0, 2 * unitsPerCharacter * maxCharacters);
  const line = composed(
    beginning.toWellFormed().replaceAll(refusedRuns, (found) => (/[\t\n\r\u2028\u2029]/u.test(found) ? " " : "")),
  ).trim();
  const kept = Array.from(line).slice(0, maxCharacters).join("").trimEnd();
  return visible.test(kept) ? kept : "";
}

/**
 * A line that somebody gave, in Unicode's composed form (NFC) and without white space around it.
 * @param what the argument, which stands in the message: `name`, `title`
 * @throws {ServiceError} BAD_USER_INPUT when it is blank, has more characters (code points) than allowed, or one that
 * {@link cleanText} would take out
 */
export function checkedText(given: string, what: string, maxCharacters: number): string {
  const trimmed = given.trim();
  // What is too long in any form is not looked at any further.
  if (trimmed.length > unitsPerCharacter * maxCharacters) throw tooLong(trimmed, what, maxCharacters);
  const text = composed(trimmed);
  if (refused.test(text)) {
    const message = `The ${what} must not have line breaks, control characters or characters that change the direction of text.`;
    throw new ServiceError("BAD_USER_INPUT", message, { argument: what });
  }
  if (!visible.test(text))
    throw new ServiceError("BAD_USER_INPUT", `The ${what} must not be blank.`, { argument: what });
  if (characterCount(text) > maxCharacters) throw tooLong(text, what, maxCharacters);
  return text;
}

function tooLong(text: string, what: string, maxCharacters: number): ServiceError {
  const message = `The ${what} must have at most ${maxCharacters} characters; it has ${characterCount(text)}.`;
  return new ServiceError("BAD_USER_INPUT", message, { argument: what, maxLength: maxCharacters });
}

function characterCount(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
