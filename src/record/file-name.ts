import { create } from "content-disposition";

/** Leaves room for a suffix that a browser adds within the 255 bytes that file systems allow. */
const maxNameBytes = 200;
const audioEnding = /\.(?:wav|wave|bwf|rf64|mp3)$/i;
/** What no name may contain: control characters, line separators, those that turn the text's direction, lost ones. */
const unprintable = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\u{FEFF}\u{FFFD}]/gu;
/** Separators of paths and what Windows forbids in a name. */
const forbidden = /[/\\:*?"<>|]/g;
/** Windows drops dots and spaces at the end; a dot in front hides a file, and a hyphen makes it look like an option. */
const edges = /^[\s.-]+|[\s.]+$/gu;
/** Devices of Windows, whatever the ending. */
const deviceName = /^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/i;

/**
 * The name under which a recording is saved: `<name>.mp3`, made from its title or from the name of the uploaded file,
 * which may hold anything. At most 204 bytes of UTF-8.
 */
export function mp3FileName(name: string): string {
  // Normalisation takes a time that grows by the square of the combining marks in a row.
  const beginning = name
    .slice(0, 8 * maxNameBytes)
    .toWellFormed()
    .normalize("NFC");
  const printable = beginning.replace(unprintable, " ").replace(forbidden, "-");
  const trimmed = printable.replace(/\s+/gu, " ").trim().replace(audioEnding, "");
  const bounded = graphemesWithin(trimmed, maxNameBytes).replace(edges, "");
  return `${deviceName.test(bounded) ? "_" : ""}${bounded === "" ? "recording" : bounded}.mp3`;
}

/** The `Content-Disposition` that saves a file under this name or, if `inline`, plays it (RFC 6266, RFC 8187). */
export function contentDisposition(fileName: string, inline: boolean): string {
  // For clients that know only the plain parameter, such as curl: letters without their accents instead of "?".
  const fallback = fileName
    .normalize("NFD")
    .replace(/\p{M}/gu, "")
    .replace(/[^ -~]/gu, "_");
  return create(fileName, { fallback, type: inline ? "inline" : "attachment" });
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
