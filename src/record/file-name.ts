import { create } from "content-disposition";
import { composed } from "../input/plain-text.ts";
import { plainLetters } from "./search-text.ts";

/** Longest file name that is kept, in characters. */
export const maxFileNameLength = 255;

/** Leaves room for a suffix that a browser adds within the 255 bytes that file systems allow. */
const maxNameBytes = 200;
/** Bytes of a name with its ending, at most. */
export const maxMp3NameBytes = maxNameBytes + ".mp3".length;
/** So much of a text holds a name of that length, whatever is taken out. */
const maxReadLength = 8 * maxNameBytes;
/** What files of sound are called, and containers that apps record into. Not `.au`, which ends addresses in Australia. */
const audioEndings = new Set(
  (
    "wav wave bwf rf64 w64 mp3 mp2 mpga mpeg aif aiff aifc caf flac alac m4a m4b m4r mp4 aac ac3 dts " +
    "ogg oga opus spx wma amr 3gp weba webm mka wv ape"
  ).split(" "),
);
/** What no name may contain: control characters, line separators, what is invisible or turns the text's direction. */
const unprintable =
  /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Noncharacter_Code_Point}\u00AD\u200B\u2060-\u2064\uFEFF\uFFF9-\uFFFD]/gu;
/** Separators of paths and what Windows forbids in a name. */
const forbidden = /[/\\:*?"<>|]/g;
/** A dot in front hides a file, and a hyphen makes it look like an option. */
const start = /^[\s.-]+/u;
/** Windows drops dots and spaces at the end. */
const end = /[\s.]+$/u;
/** Devices of Windows, whatever the ending. */
const deviceName = /^(?:con|prn|aux|nul|conin\$|conout\$|com[\d¹²³]|lpt[\d¹²³])\s*(?:\.|$)/i;
/** Something that is seen: not only joiners, marks and spaces. */
const visible = /[^\p{Cf}\p{M}\p{Z}]/u;

/** `take 3.wav` without its ending, or its endings: `take.mp3.wav`. What follows another full stop stays: `Dr. Who`. */
export function withoutAudioEnding(name: string): string {
  let rest = name.trimEnd();
  for (;;) {
    const dot = rest.lastIndexOf(".");
    if (dot < 0 || !audioEndings.has(rest.slice(dot + 1).toLowerCase())) return rest;
    rest = rest.slice(0, dot).trimEnd();
  }
}

/**
 * The name under which a recording is saved: `<name>.mp3`, made from the first of these texts that leaves one, such as
 * its title and the name of the uploaded file; they may hold anything. At most 204 bytes of UTF-8.
 */
export function mp3FileName(...texts: readonly string[]): string {
  const name = texts.map(fileNameOf).find((made) => made !== "") ?? "recording";
  return `${name}.mp3`;
}

/** The `Content-Disposition` that saves an MP3 under this name or, if `inline`, plays it (RFC 6266, RFC 8187). */
export function contentDisposition(fileName: string, inline: boolean): string {
  // For clients that know only the plain parameter, such as curl.
  const fallback = mp3FileName(asciiOf(withoutAudioEnding(fileName)));
  return create(fileName, { fallback, type: inline ? "inline" : "attachment" });
}

/** A text as a name without an ending that every file system takes; empty if nothing is left of it. */
function fileNameOf(text: string): string {
  const printable = composed(text.slice(0, maxReadLength).toWellFormed()).replace(unprintable, " ");
  const line = printable.replace(forbidden, "-").replace(/\s+/gu, " ").replace(end, "");
  const name = graphemesWithin(withoutAudioEnding(line).replace(start, ""), maxNameBytes).replace(end, "");
  if (!visible.test(name)) return "";
  return deviceName.test(name) ? `_${name}` : name;
}

/**
 * Latin letters without their accents, marks of punctuation as a typewriter has them, one `_` for other characters.
 * No percent escape either: some browsers decode it in the plain parameter (RFC 6266 appendix D).
 */
function asciiOf(text: string): string {
  const ascii = plainLetters(text)
    .replace(/[‘’‚‛“”„‟«»‹›′″]/gu, "'")
    .replace(/[‐-―−]/gu, "-")
    .replace(/[^ -~]+|%(?=[\da-f]{2})/giu, "_");
  return /[a-z\d]/i.test(ascii) ? ascii : "";
}

/** The longest start of a text that fits, cut between what people see as characters. */
function graphemesWithin(text: string, maxBytes: number): string {
  let bytes = 0;
  // No character that fits needs more of the text than this.
  for (const { segment, index } of new Intl.Segmenter().segment(text.slice(0, 2 * maxBytes))) {
    bytes += Buffer.byteLength(segment);
    if (bytes > maxBytes) return text.slice(0, index);
  }
  return text.slice(0, 2 * maxBytes);
}
