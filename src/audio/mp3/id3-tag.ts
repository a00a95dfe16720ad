import type { Chapter, Picture } from "../tag-contents.ts";
import { tagTable, type TagTexts } from "../tag-table.ts";
import { encodedText, encodings } from "./id3-text.ts";

/** Fields of an MP3's ID3 tag. Empty and missing fields are not written. */
export interface Id3Fields extends TagTexts {
  readonly durationSeconds?: number | undefined;
  /** In the order of the sound; a table of contents has room for {@link maxChapters}. */
  readonly chapters?: readonly Chapter[] | undefined;
  /** A picture of the front cover. */
  readonly cover?: Picture | undefined;
  /** ReplayGain 2.0 of the track, in dB. */
  readonly replayGainDb?: number | undefined;
  /** Largest absolute sample, relative to full scale (1). */
  readonly peak?: number | undefined;
}

/** Maximum length of a one-line text in a tag, in characters of UTF-16. */
export const maxLineLength = 2000;

/** Maximum length of a comment in a tag, in characters of UTF-16. */
export const maxCommentLength = 4000;

/** The names of the ReplayGain texts, and the unit of the gain. */
export const trackGainName = "REPLAYGAIN_TRACK_GAIN";
export const trackPeakName = "REPLAYGAIN_TRACK_PEAK";
export const decibels = " dB";

/** Maximum number of chapters: a table of contents counts them in one byte. */
const maxChapters = 255;

const headerBytes = 10;

/**
 * Creates an ID3v2.3 tag (https://id3.org/id3v2.3.0), with chapters (ID3v2 Chapter Frame Addendum). Windows, many cars
 * and programs that use id3lib do not read version 2.4. The result is empty if no field has a value. Long texts are
 * truncated.
 * @param minBytes size up to which the tag is padded
 */
export function id3Tag(fields: Id3Fields, minBytes = 0): Buffer {
  const frames = Buffer.concat([
    ...tagTable.map(({ name, frame, holds }) => textFrames[holds](frame, fields[name])),
    textFrame("TLEN", milliseconds(fields.durationSeconds)),
    ...chapterFrames((fields.chapters ?? []).slice(0, maxChapters)),
    ...(fields.cover === undefined ? [] : [coverFrame(fields.cover)]),
    namedTextFrame(trackGainName, decimal(fields.replayGainDb, 2, decibels)),
    namedTextFrame(trackPeakName, decimal(fields.peak, 6, "")),
  ]);
  if (frames.length === 0 && minBytes === 0) return frames;
  const sizeBytes = Math.max(frames.length, minBytes - headerBytes);
  const header = Buffer.from([...Buffer.from("ID3"), 3, 0, 0, ...synchsafe(sizeBytes)]);
  return Buffer.concat([header, frames], headerBytes + sizeBytes); // zeros behind the frames are padding
}

/** How to encode a text, by the content of its frame. */
const textFrames = {
  line: (id: string, text?: string): Buffer => textFrame(id, line(text)),
  genre: (id: string, text?: string): Buffer => textFrame(id, genre(line(text))),
  comment: (id: string, text?: string): Buffer => commentFrame(id, paragraphs(text)),
  timestamp: (_: string, text?: string): Buffer => dateFrames(text),
  number: (id: string, text?: string): Buffer => textFrame(id, numberOfCount(text)),
} as const;

function textFrame(id: string, text: string): Buffer {
  if (text === "") return Buffer.alloc(0);
  const { encoding, bytes } = encodedText(text);
  return frame(id, [Uint8Array.of(encoding), bytes]);
}

/** A comment frame with an unknown language ("XXX") and without a description. */
function commentFrame(id: string, text: string): Buffer {
  if (text === "") return Buffer.alloc(0);
  const { encoding, bytes } = encodedText(text);
  const noDescription = encoding === encodings.latin1 ? [0] : [0xff, 0xfe, 0, 0];
  return frame(id, [Uint8Array.of(encoding), Buffer.from("XXX"), Uint8Array.from(noDescription), bytes]);
}

function namedTextFrame(name: string, text: string): Buffer {
  return text === "" ? Buffer.alloc(0) : frame("TXXX", [Buffer.from(`\0${name}\0${text}`)]);
}

/** The parts of a date, as far as they are known: year, day and month, hour and minute. */
function dateFrames(text = ""): Buffer {
  const start = text.slice(0, maxLineLength);
  const [, year, month, day, hour, minute] =
    /^\s*(\d{4})(?:[-/.:](\d\d)(?:[-/.:](\d\d)(?:[T ](\d\d):(\d\d)(?::\d\d)?)?)?)?(?!\d)/.exec(start) ?? [];
  return Buffer.concat([
    textFrame("TYER", year ?? /(?<!\d)\d{4}(?!\d)/.exec(start)?.[0] ?? ""),
    textFrame("TDAT", day === undefined ? "" : `${day}${month}`),
    textFrame("TIME", minute === undefined ? "" : `${hour}${minute}`),
  ]);
}

function chapterFrames(chapters: readonly Chapter[]): Buffer[] {
  if (chapters.length === 0) return [];
  const idOf = (position: number): Buffer => Buffer.from(`ch${position}\0`);
  const topLevelAndOrdered = 0x03;
  const ids = chapters.map((_, position) => idOf(position));
  const contents = frame("CTOC", [Buffer.from("toc\0"), Uint8Array.of(topLevelAndOrdered, chapters.length), ...ids]);
  const parts = chapters.map(({ title, startSeconds, endSeconds }, position) => {
    const times = Buffer.alloc(16, 0xff); // the last two numbers are offsets in bytes: not stated
    times.writeUInt32BE(Math.round(startSeconds * 1000), 0);
    times.writeUInt32BE(Math.round(endSeconds * 1000), 4);
    return frame("CHAP", [idOf(position), times, textFrame("TIT2", line(title ?? ""))]);
  });
  return [contents, ...parts];
}

function coverFrame({ mediaType, bytes }: Picture): Buffer {
  const frontCover = 3;
  return frame("APIC", [Buffer.from(`\0${mediaType}\0`), Uint8Array.of(frontCover, 0), bytes]);
}

function frame(id: string, parts: readonly Uint8Array[]): Buffer {
  const header = Buffer.alloc(10);
  header.write(id, "latin1");
  header.writeUInt32BE(
    parts.reduce((sum, { length }) => sum + length, 0),
    4,
  );
  return Buffer.concat([header, ...parts]);
}

/** Encodes a 28-bit number in four bytes of 7 bits each. */
function synchsafe(number: number): Uint8Array {
  return Uint8Array.of((number >> 21) & 0x7f, (number >> 14) & 0x7f, (number >> 7) & 0x7f, number & 0x7f);
}

/** A one-line text, without NUL, which would start a second value, and other control characters. */
function line(text = ""): string {
  return cut(text, maxLineLength, (part) => part.replace(/[\p{Cc}\s]+/gu, " "));
}

function paragraphs(text = ""): string {
  return cut(text, maxCommentLength, (part) => part.replace(/\r\n?/g, "\n").replace(/[^\P{Cc}\n\t]+/gu, " "));
}

/** The text without spaces at its ends and with at most `maxLength` characters, whole ones. */
function cut(text: string, maxLength: number, clean: (part: string) => string): string {
  // Only the beginning of a long text needs to be cleaned.
  const part = clean(text.slice(0, 4 * maxLength))
    .trim()
    .slice(0, maxLength);
  return part.replace(/[\uD800-\uDBFF]$/, "").toWellFormed();
}

/** In a genre, "(" begins a reference to a list of genres, unless it is doubled. */
function genre(text: string): string {
  return text.startsWith("(") ? `(${text}` : text;
}

/** "3" or "3/12". Other values are not valid here and are omitted. */
function numberOfCount(text = ""): string {
  return /^\s*(\d{1,5}(?:\/\d{1,5})?)(?!\d)/.exec(text)?.[1] ?? "";
}

function milliseconds(seconds = 0): string {
  return seconds > 0 ? `${Math.round(seconds * 1000)}` : "";
}

function decimal(number: number | undefined, places: number, unit: string): string {
  return number === undefined || !Number.isFinite(number) ? "" : `${number.toFixed(places)}${unit}`;
}
