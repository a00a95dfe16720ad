import { tagTable, type TagTexts } from "../tag-table.ts";

/** Fields of an MP3's ID3 tag. Empty and missing fields are not written. */
export interface Id3Fields extends TagTexts {
  readonly durationSeconds?: number | undefined;
  /** ReplayGain 2.0 of the track, in dB. */
  readonly replayGainDb?: number | undefined;
  /** Largest absolute sample, relative to full scale (1). */
  readonly peak?: number | undefined;
}

/** Maximum length of a one-line text in a tag, in bytes of UTF-8. */
export const maxLineBytes = 4000;

/** Maximum length of a comment in a tag, in bytes of UTF-8. */
export const maxCommentBytes = 8000;

const utf8 = 3;
const textEncoder = new TextEncoder();

/**
 * Creates an ID3v2.4 tag (https://id3.org/id3v2.4.0-structure and -frames) in UTF-8. The result is empty if no field
 * has a value. Long texts are truncated. Unsynchronisation is not needed, because UTF-8 has no byte 0xFF.
 */
export function id3Tag(fields: Id3Fields): Buffer {
  const frames = Buffer.concat([
    ...tagTable.map(({ name, frame, holds }) => textFrames[holds](frame, fields[name])),
    textFrame("TLEN", milliseconds(fields.durationSeconds)),
    replayGainFrames(fields),
  ]);
  if (frames.length === 0) return frames;
  return Buffer.concat([Buffer.from([...Buffer.from("ID3"), 4, 0, 0]), synchsafe(frames.length), frames]);
}

/** The frames with the level, with so many decimals of the gain. */
export function replayGainFrames(
  { replayGainDb, peak }: Pick<Id3Fields, "replayGainDb" | "peak">,
  decimals = 2,
): Buffer {
  return Buffer.concat([
    namedTextFrame("REPLAYGAIN_TRACK_GAIN", decimal(replayGainDb, decimals, " dB")),
    namedTextFrame("REPLAYGAIN_TRACK_PEAK", decimal(peak, 6, "")),
  ]);
}

/** How to encode a text, by the content of its frame. */
const textFrames = {
  line: (id: string, text?: string): Buffer => textFrame(id, line(text)),
  comment: (id: string, text?: string): Buffer => commentFrame(id, paragraphs(text)),
  timestamp: (id: string, text?: string): Buffer => textFrame(id, timestamp(text)),
  number: (id: string, text?: string): Buffer => textFrame(id, numberOfCount(text)),
} as const;

function textFrame(id: string, text: Uint8Array): Buffer {
  return text.length === 0 ? Buffer.alloc(0) : frame(id, [Uint8Array.of(utf8), text]);
}

/** A comment frame with an unknown language ("XXX") and without a description. */
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

/** Encodes a 28-bit number in four bytes of 7 bits each. */
function synchsafe(number: number): Uint8Array {
  return Uint8Array.of((number >> 21) & 0x7f, (number >> 14) & 0x7f, (number >> 7) & 0x7f, number & 0x7f);
}

/** Encodes a one-line text. It removes NUL, which would start a second value, and other control characters. */
function line(text = ""): Uint8Array {
  return cut(text, maxLineBytes, (part) => part.replace(/[\p{Cc}\s]+/gu, " "));
}

function paragraphs(text = ""): Uint8Array {
  return cut(text, maxCommentBytes, (part) => part.replace(/\r\n?/g, "\n").replace(/[^\P{Cc}\n\t]+/gu, " "));
}

/**
 * Encodes text as UTF-8 with at most `maxBytes` bytes, without splitting a character. A lone surrogate becomes U+FFFD.
 */
function cut(text: string, maxBytes: number, clean: (part: string) => string): Uint8Array {
  // Only the beginning of a long text needs to be cleaned.
  const part = clean(text.slice(0, 4 * maxBytes)).trim();
  const bytes = new Uint8Array(maxBytes);
  return bytes.subarray(0, textEncoder.encodeInto(part, bytes).written);
}

/**
 * Encodes a date in the form of ID3v2.4 (yyyy-MM-ddTHH:mm:ss, truncated after any part), else only its year, else
 * nothing.
 */
function timestamp(text = ""): Uint8Array {
  const start = text.slice(0, maxLineBytes);
  const [, year, month, day, hour, minute, second] =
    /^\s*(\d{4})(?:[-/.:](\d\d)(?:[-/.:](\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?)?)?)?(?!\d)/.exec(start) ?? [];
  if (year === undefined) return textEncoder.encode(/(?<!\d)\d{4}(?!\d)/.exec(start)?.[0] ?? "");
  const date = [year, month, day].filter((part) => part !== undefined).join("-");
  const time = [hour, minute, second].filter((part) => part !== undefined).join(":");
  return textEncoder.encode(time === "" ? date : `${date}T${time}`);
}

/** Encodes "3" or "3/12". Other values are not valid here and are omitted. */
function numberOfCount(text = ""): Uint8Array {
  return textEncoder.encode(/^\s*(\d{1,5}(?:\/\d{1,5})?)(?!\d)/.exec(text)?.[1] ?? "");
}

function milliseconds(seconds = 0): Uint8Array {
  return textEncoder.encode(seconds > 0 ? `${Math.round(seconds * 1000)}` : "");
}

function decimal(number: number | undefined, places: number, unit: string): string {
  return number === undefined || !Number.isFinite(number) ? "" : `${number.toFixed(places)}${unit}`;
}
