import { create } from "content-disposition";
import { composed } from "../input/plain-text.ts";
import { plainLetters } from "./search-text.ts";

/** Maximum length of a stored file name, in characters. */
export const maxFileNameLength = 255;

/**
 * Maximum length of a name, in bytes. It leaves room for a browser's suffix within the 255 bytes that file systems
 * allow.
 */
const maxNameBytes = 200;
/** Maximum length of a name with its extension, in bytes. */
export const maxMp3NameBytes = maxNameBytes + ".mp3".length;
/** Number of characters of a text that are read: enough for a name of that length, whatever is removed. */
const maxReadLength = 8 * maxNameBytes;
/**
 * Extensions of sound files, and of containers that apps record into. Without `.au`, which ends Australian addresses.
 */
const audioEndings = new Set(
  (
    "wav wave bwf rf64 w64 mp3 mp2 mpga mpeg aif aiff aifc caf flac alac m4a m4b m4r mp4 aac ac3 dts " +
    "ogg oga opus spx wma amr 3gp weba webm mka wv ape"
  ).split(" "),
);
/**
 * Characters that a name may not contain: control characters, line separators, and those that are invisible or change
 * the direction of text.
 */
const unprintable =
  /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Noncharacter_Code_Point}\u00AD\u200B\u2060-\u2064\uFEFF\uFFF9-\uFFFD]/gu;
/** Path separators, and characters that Windows does not allow in a name. */
const forbidden = /[/\\:*?"<>|]/g;
/** A leading dot hides a file, and a leading hyphen makes it look like an option. */
const start = /^[\s.-]+/u;
/** Windows drops dots and spaces at the end. */
const end = /[\s.]+$/u;
/** Names of Windows devices, with any extension. */
const deviceName = /^(?:con|prn|aux|nul|conin\$|conout\$|com[\d¹²³]|lpt[\d¹²³])\s*(?:\.|$)/i;
/** A visible character: not a joiner, mark or space. */
const visible = /[^\p{Cf}\p{M}\p{Z}]/u;

/**
 * Removes one or more audio extensions from a name: `take 3.wav`, `take.mp3.wav`. It keeps other text after a full
 * stop: `Dr. Who`.
 */
export function withoutAudioEnding(name: string): string {
  let rest = name.trimEnd();
  for (;;) {
    const dot = rest.lastIndexOf(".");
    if (dot < 0 || !audioEndings.has(rest.slice(dot + 1).toLowerCase())) return rest;
    rest = rest.slice(0, dot).trimEnd();
  }
}

/**
 * The name under which a recording is saved: `<name>.mp3`. It is made from the first of the given texts, such as title
 * and file name, that results in a valid name; the texts may contain anything. At most 204 bytes of UTF-8.
 */
export function mp3FileName(...texts: readonly string[]): string {
  const name = texts.map(fileNameOf).find((made) => made !== "") ?? "recording";
  return `${name}.mp3`;
}

/** The texts from which a recording's file name is made. */
export interface RecordNames {
  readonly title: string;
  readonly fileName: string;
}

const namesOfRecords = new WeakMap<RecordNames, string>();

/** The name under which a recording is saved. It is made once for each object, because one answer may have it often. */
export function nameOfRecord(record: RecordNames): string {
  const known = namesOfRecords.get(record);
  if (known !== undefined) return known;
  const name = mp3FileName(record.title, record.fileName);
  namesOfRecords.set(record, name);
  return name;
}

/** The `Content-Disposition` that saves an MP3 under this name or, if `inline`, plays it (RFC 6266, RFC 8187). */
export function contentDisposition(fileName: string, inline: boolean): string {
  // For clients that only know the plain parameter, such as curl.
  const fallback = mp3FileName(asciiOf(withoutAudioEnding(fileName)));
  return create(fileName, { fallback, type: inline ? "inline" : "attachment" });
}

/** Converts a text to a name that every file system accepts, without an extension; empty if nothing is left. */
function fileNameOf(text: string): string {
  const printable = composed(text.slice(0, maxReadLength).toWellFormed()).replace(unprintable, " ");
  const line = printable.replace(forbidden, "-").replace(/\s+/gu, " ").replace(end, "");
  const name = graphemesWithin(withoutAudioEnding(line).replace(start, ""), maxNameBytes).replace(end, "");
  if (!visible.test(name)) return "";
  return deviceName.test(name) ? `_${name}` : name;
}

/**
 * Converts a text to ASCII: Latin letters without accents, plain punctuation, and `_` for other characters. It also
 * removes percent escapes, which some browsers decode in the plain parameter (RFC 6266 appendix D).
 */
function asciiOf(text: string): string {
  const ascii = plainLetters(text)
    .replace(/[‘’‚‛“”„‟«»‹›′″]/gu, "'")
    .replace(/[‐-―−]/gu, "-")
    .replace(/[^ -~]+|%(?=[\da-f]{2})/giu, "_");
  return /[a-z\d]/i.test(ascii) ? ascii : "";
}

/** The longest beginning of a text that fits, without splitting a grapheme. */
function graphemesWithin(text: string, maxBytes: number): string {
  let bytes = 0;
  // No grapheme that fits needs more of the text than this.
  for (const { segment, index } of new Intl.Segmenter().segment(text.slice(0, 2 * maxBytes))) {
    bytes += Buffer.byteLength(segment);
    if (bytes > maxBytes) return text.slice(0, index);
  }
  return text.slice(0, 2 * maxBytes);
}
