import { ServiceError } from "../errors/errors.ts";

/**
 * Characters that a line for people may not contain: control characters, line separators, lone surrogates, and
 * characters that are invisible or change the direction of text, which could disguise its content. The joiners U+200C
 * and U+200D are allowed, because Persian, Indic scripts and many emoji need them.
 */
const refused = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/u;
const refusedRuns = new RegExp(`${refused.source}+`, "gu");

/**
 * A run of more combining marks than are kept. Normalisation sorts the marks of a run, in time that grows with the
 * square of their number. No language needs more than 30 (Unicode Standard Annex #15, "Stream-Safe Text Format").
 */
const longMarkRuns = /(\p{M}{30})\p{M}+/gu;

/** Maximum number of UTF-16 units from which one character is composed. */
const unitsPerCharacter = 4;

/** A text in which nothing is refused or composed. */
const plain = /^[\x20-\x7e]*$/;

/** A character that is visible. */
const visible = /[^\p{Cf}\p{Z}]/u;

/** Limits runs of combining marks to 30. The time to normalise the result is proportional to its length. */
export function withoutLongMarkRuns(text: string): string {
  return text.replace(longMarkRuns, "$1");
}

/** Converts text to Unicode's composed form (NFC), with at most 30 combining marks in a row. */
export function composed(text: string): string {
  return withoutLongMarkRuns(text).normalize("NFC");
}

/**
 * Converts any text to one safe line in Unicode's composed form (NFC), trimmed and truncated to `maxCharacters` code
 * points. Line breaks and tabs become spaces. A text of only joiners and spaces becomes empty. Only the beginning of a
 * long text is read.
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
 * Checks a line from a user and returns it trimmed, in Unicode's composed form (NFC).
 * @param what the name of the argument for the message: `name`, `title`
 * @throws {ServiceError} BAD_USER_INPUT if it is blank, has more characters (code points) than allowed, or contains one
 * that {@link cleanText} would remove
 */
export function checkedText(given: string, what: string, maxCharacters: number): string {
  const trimmed = given.trim();
  // A text that is too long in every form is not examined further.
  if (trimmed.length > unitsPerCharacter * maxCharacters) throw tooLong(trimmed, what, maxCharacters);
  const isPlain = plain.test(trimmed);
  const text = isPlain ? trimmed : composed(trimmed);
  if (!isPlain && refused.test(text)) {
    const message = `The ${what} must not have line breaks, control characters or characters that change the direction of text.`;
    throw new ServiceError("BAD_USER_INPUT", message, { argument: what });
  }
  if (!visible.test(text))
    throw new ServiceError("BAD_USER_INPUT", `The ${what} must not be blank.`, { argument: what });
  if (text.length > maxCharacters && characterCount(text) > maxCharacters) throw tooLong(text, what, maxCharacters);
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
