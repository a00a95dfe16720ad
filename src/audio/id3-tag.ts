/** What an MP3 says about itself; a field that is empty or left out is not written. */
export interface Id3Fields {
  readonly title?: string | undefined;
  readonly artist?: string | undefined;
  readonly album?: string | undefined;
  readonly comment?: string | undefined;
  readonly genre?: string | undefined;
  /** Any text with a date in ISO 8601 order or a year in it. */
  readonly date?: string | undefined;
  /** The number on the album, with or without their count: "3", "3/12". */
  readonly track?: string | undefined;
  readonly copyright?: string | undefined;
  /** The program that made the recording. */
  readonly software?: string | undefined;
  readonly durationSeconds?: number | undefined;
  /** ReplayGain 2.0 of the track, in dB. */
  readonly replayGainDb?: number | undefined;
  /** Largest absolute sample, 1 being full scale. */
  readonly peak?: number | undefined;
}

/** Longest text of one line in a tag, in bytes of UTF-8. */
export const maxLineBytes = 1000;

/** Longest comment in a tag, in bytes of UTF-8. */
export const maxCommentBytes = 8000;

const utf8 = 3;
const textEncoder = new TextEncoder();

/**
 * Makes an ID3v2.4 tag (https://id3.org/id3v2.4.0-structure and -frames) with the text in UTF-8; empty if no field has
 * a value. Texts that are too long are cut. Needs no unsynchronisation, since UTF-8 has no byte 0xFF.
 */
export function id3Tag(fields: Id3Fields): Buffer {
  const frames = Buffer.concat([
    textFrame("TIT2", line(fields.title)),
    textFrame("TPE1", line(fields.artist)),
    textFrame("TALB", line(fields.album)),
    textFrame("TCON", line(fields.genre)),
    textFrame("TDRC", timestamp(fields.date)),
    textFrame("TRCK", trackNumber(fields.track)),
    textFrame("TLEN", milliseconds(fields.durationSeconds)),
    textFrame("TCOP", line(fields.copyright)),
    textFrame("TSSE", line(fields.software)),
    commentFrame(paragraphs(fields.comment)),
    namedTextFrame("REPLAYGAIN_TRACK_GAIN", decimal(fields.replayGainDb, 2, " dB")),
    namedTextFrame("REPLAYGAIN_TRACK_PEAK", decimal(fields.peak, 6, "")),
  ]);
  if (frames.length === 0) return frames;
  return Buffer.concat([Buffer.from([...Buffer.from("ID3"), 4, 0, 0]), synchsafe(frames.length), frames]);
}

function textFrame(id: string, text: Uint8Array): Buffer {
  return text.length === 0 ? Buffer.alloc(0) : frame(id, [Uint8Array.of(utf8), text]);
}

/** A comment in a language that is not known ("XXX") and without a description. */
function commentFrame(text: Uint8Array): Buffer {
  return text.length === 0 ? Buffer.alloc(0) : frame("COMM", [Uint8Array.of(utf8), Buffer.from("XXX\0"), text]);
}

function namedTextFrame(name: string, text: string): Buffer {
  return text === "" ? Buffer.alloc(0) : frame("TXXX", [Uint8Array.of(utf8), Buffer.from(`${name}\0${text}`)]);
}

function frame(id: string, parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(id), synchsafe(body.length), Buffer.alloc(2), body]);
}

/** A number of 28 bits in four bytes of seven. */
function synchsafe(number: number): Uint8Array {
  return Uint8Array.of((number >> 21) & 0x7f, (number >> 14) & 0x7f, (number >> 7) & 0x7f, number & 0x7f);
}

/** Text of one line: a NUL would start a second value, and other control characters have no meaning here. */
function line(text = ""): Uint8Array {
  return cut(text, maxLineBytes, (part) => part.replace(/[\p{Cc}\s]+/gu, " "));
}

function paragraphs(text = ""): Uint8Array {
  return cut(text, maxCommentBytes, (part) => part.replace(/\r\n?/g, "\n").replace(/[^\P{Cc}\n\t]+/gu, " "));
}

/** UTF-8 of at most so many bytes, whole characters only; a lone surrogate becomes U+FFFD. */
function cut(text: string, maxBytes: number, clean: (part: string) => string): Uint8Array {
  // A megabyte of text need not be cleaned to keep its beginning.
  const part = clean(text.slice(0, 4 * maxBytes)).trim();
  const bytes = new Uint8Array(maxBytes);
  return bytes.subarray(0, textEncoder.encodeInto(part, bytes).written);
}

/** The date as ID3v2.4 wants it, yyyy-MM-ddTHH:mm:ss cut after any part; else just the year; else nothing. */
function timestamp(text = ""): Uint8Array {
  const start = text.slice(0, maxLineBytes);
  const [, year, month, day, hour, minute, second] =
    /^\s*(\d{4})(?:[-/.:](\d\d)(?:[-/.:](\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?)?)?(?!\d)/.exec(start) ?? [];
  if (year === undefined) return textEncoder.encode(/(?<!\d)\d{4}(?!\d)/.exec(start)?.[0] ?? "");
  const date = [year, month, day].filter((part) => part !== undefined).join("-");
  const time = [hour, minute, second].filter((part) => part !== undefined).join(":");
  return textEncoder.encode(time === "" ? date : `${date}T${time}`);
}

function trackNumber(text = ""): Uint8Array {
  return textEncoder.encode(/^\s*(\d{1,5}(?:\/\d{1,5})?)(?!\d)/.exec(text)?.[1] ?? "");
}

function milliseconds(seconds = 0): Uint8Array {
  return textEncoder.encode(seconds > 0 ? `${Math.round(seconds * 1000)}` : "");
}

function decimal(number: number | undefined, places: number, unit: string): string {
  return number === undefined || !Number.isFinite(number) ? "" : `${number.toFixed(places)}${unit}`;
}
