import { tagTable, type TagTexts } from "../tag-table.ts";

/** What an MP3 says about itself; a field that is empty or left out is not written. */
export interface Id3Fields extends TagTexts {
  readonly durationSeconds?: number | undefined;
  /** ReplayGain 2.0 of the track, in dB. */
  readonly replayGainDb?: number | undefined;
  /** Largest absolute sample, 1 being full scale. */
  readonly peak?: number | undefined;
}

/** Longest text of one line in a tag, in bytes of UTF-8. */
export const maxLineBytes = 4000;

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
    ...tagTable.map(({ name, frame, holds }) => textFrames[holds](frame, fields[name])),
    textFrame("TLEN", milliseconds(fields.durationSeconds)),
    namedTextFrame("REPLAYGAIN_TRACK_GAIN", decimal(fields.replayGainDb, 2, " dB")),
    namedTextFrame("REPLAYGAIN_TRACK_PEAK", decimal(fields.peak, 6, "")),
  ]);
  if (frames.length === 0) return frames;
  return Buffer.concat([Buffer.from([...Buffer.from("ID3"), 4, 0, 0]), synchsafe(frames.length), frames]);
}

/** How a text is written, by what its frame holds. */
const textFrames = {
  line: (id: string, text?: string): Buffer => textFrame(id, line(text)),
  comment: (id: string, text?: string): Buffer => commentFrame(id, paragraphs(text)),
  timestamp: (id: string, text?: string): Buffer => textFrame(id, timestamp(text)),
  number: (id: string, text?: string): Buffer => textFrame(id, numberOfCount(text)),
} as const;

function textFrame(id: string, text: Uint8Array): Buffer {
  return text.length === 0 ? Buffer.alloc(0) : frame(id, [Uint8Array.of(utf8), text]);
}

/** A comment in a language that is not known ("XXX") and without a description. */
function commentFrame(id: string, text: Uint8Array): Buffer {
  return text.length === 0 ? Buffer.alloc(0) : frame(id, [Uint8Array.of(utf8), Buffer.from("XXX\0"), text]);
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

/** "3" or "3/12"; nothing else has a meaning there. */
function numberOfCount(text = ""): Uint8Array {
  return textEncoder.encode(/^\s*(\d{1,5}(?:\/\d{1,5})?)(?!\d)/.exec(text)?.[1] ?? "");
}

function milliseconds(seconds = 0): Uint8Array {
  return textEncoder.encode(seconds > 0 ? `${Math.round(seconds * 1000)}` : "");
}

function decimal(number: number | undefined, places: number, unit: string): string {
  return number === undefined || !Number.isFinite(number) ? "" : `${number.toFixed(places)}${unit}`;
}
