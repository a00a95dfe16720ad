import { TextDecoder } from "node:util";
import { SaxesParser } from "saxes";
import { cleanText } from "../../input/plain-text.ts";

/** A channel of the file, as the recorder calls it. */
export interface Track {
  /** Its position in the file, from 1. */
  readonly channel: number;
  readonly name: string;
}

/** The fields of an iXML chunk that are read. */
export interface Ixml {
  readonly project: string | null;
  readonly scene: string | null;
  readonly take: string | null;
  readonly tape: string | null;
  readonly note: string | null;
  readonly tracks: readonly Track[];
  /** Timecode frames per second, as a fraction: "24000/1001". */
  readonly timecodeRate: string | null;
  readonly isDropFrame: boolean;
  /** Samples from midnight to the first sample, and the rate at which they are counted. */
  readonly timestampSamples: number | null;
  readonly timestampRateHz: number | null;
}

/** A chunk without any of the fields. */
export const emptyIxml: Ixml = {
  project: null,
  scene: null,
  take: null,
  tape: null,
  note: null,
  tracks: [],
  timecodeRate: null,
  isDropFrame: false,
  timestampSamples: null,
  timestampRateHz: null,
};

/** Maximum number of bytes that are read of an iXML chunk. Recorders write a few thousand. */
export const maxIxmlBytes = 64 * 1024;
/** Maximum lengths of the texts, in characters; longer ones are truncated. */
export const maxNameCharacters = 100;
export const maxNoteCharacters = 1000;
/** Maximum number of tracks: as many as a file can have channels. */
export const maxTracks = 64;

/** Elements may be this deep; the fields are at a depth of 4. */
const maxDepth = 32;
/** Errors in the XML after which the rest is not read. Each one costs a stack trace. */
const maxMistakes = 20;
/** Names are kept up to this length, more than any name that is looked for. */
const maxNameUnits = 40;
const maxTextUnits = 4 * maxNoteCharacters;

/** Thrown to end the parser where the rest is not worth reading. */
class StopReading extends Error {}

/**
 * Reads an iXML chunk (iXML specification 3.01, Gallery), or its beginning. Whatever has been read before the XML turns
 * out to be wrong counts. No entities are declared: a document type ends it.
 */
export function readIxml(chunk: Buffer): Ixml {
  const texts = new Map<string, string>();
  const tracks: Track[] = [];
  let track: { index?: string; channel?: string; name?: string } = {};
  const path: string[] = [];
  let text = "";
  let mistakes = 0;

  const parser = new SaxesParser({ position: false });
  parser.on("doctype", stop);
  parser.on("error", () => {
    if (++mistakes > maxMistakes) stop();
  });
  parser.on("opentag", ({ name }) => {
    if (path.push(name.slice(0, maxNameUnits)) > maxDepth) stop();
    text = "";
  });
  const addText = (more: string): void => {
    if (text.length < maxTextUnits) text += more.slice(0, maxTextUnits);
  };
  parser.on("text", addText);
  parser.on("cdata", addText);
  parser.on("closetag", () => {
    const place = path.slice(1).join("/");
    path.pop();
    if (place === "TRACK_LIST/TRACK") {
      addTrack(tracks, track);
      track = {};
    } else if (place === "TRACK_LIST/TRACK/INTERLEAVE_INDEX") track.index = text;
    else if (place === "TRACK_LIST/TRACK/CHANNEL_INDEX") track.channel = text;
    else if (place === "TRACK_LIST/TRACK/NAME") track.name = text;
    else if (wanted.has(place) && !texts.has(place)) texts.set(place, text.trim());
    text = "";
  });
  try {
    parser.write(decodeXml(chunk)).close();
  } catch (error) {
    if (!(error instanceof StopReading)) throw error;
  }

  const line = (name: string, maxCharacters = maxNameCharacters): string | null =>
    cleanText((texts.get(name) ?? "").replace(/\s+/g, " "), maxCharacters) || null;
  return {
    project: line("PROJECT"),
    scene: line("SCENE"),
    take: line("TAKE"),
    tape: line("TAPE"),
    note: line("NOTE", maxNoteCharacters),
    tracks: tracks.toSorted((a, b) => a.channel - b.channel),
    timecodeRate: /^[1-9]\d{0,5}\/[1-9]\d{0,5}$/.exec(texts.get("SPEED/TIMECODE_RATE") ?? "")?.[0] ?? null,
    isDropFrame: texts.get("SPEED/TIMECODE_FLAG") === "DF",
    timestampSamples: timestamp(texts),
    timestampRateHz: wholeNumber(texts.get("SPEED/TIMESTAMP_SAMPLE_RATE")) || null,
  };
}

const high = "SPEED/TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI";
const low = "SPEED/TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO";

/** Places of the texts under the root, whatever its name is. */
const wanted = new Set([
  "PROJECT",
  "SCENE",
  "TAKE",
  "TAPE",
  "NOTE",
  "SPEED/TIMECODE_RATE",
  "SPEED/TIMECODE_FLAG",
  "SPEED/TIMESTAMP_SAMPLE_RATE",
  high,
  low,
]);

function stop(): never {
  throw new StopReading();
}

/** Adds a track with a name, unless one of this channel is there already. */
function addTrack(
  tracks: Track[],
  { index, channel, name }: { index?: string; channel?: string; name?: string },
): void {
  const position = wholeNumber(index) || wholeNumber(channel) || 0;
  const cleanName = cleanText(name ?? "", maxNameCharacters);
  if (cleanName === "" || position < 1 || position > maxTracks) return;
  if (tracks.every((other) => other.channel !== position)) tracks.push({ channel: position, name: cleanName });
}

function timestamp(texts: ReadonlyMap<string, string>): number | null {
  const lower = wholeNumber(texts.get(low));
  if (lower === undefined) return null;
  const samples = (wholeNumber(texts.get(high)) ?? 0) * 2 ** 32 + lower;
  return Number.isSafeInteger(samples) ? samples : null;
}

function wholeNumber(text = ""): number | undefined {
  const digits = /^\s*(\d{1,10})\s*$/.exec(text)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** Decodes XML: UTF-16 if it begins so, else UTF-8, else the encoding that it states, else Windows-1252. */
function decodeXml(chunk: Buffer): string {
  const start = chunk.toString("hex", 0, 4);
  const utf16 = /^(?:fffe|3c00)/.test(start) ? "utf-16le" : /^(?:feff|003c)/.test(start) ? "utf-16be" : undefined;
  if (utf16) return fromRoot(new TextDecoder(utf16).decode(chunk));
  const end = chunk.indexOf(0);
  const bytes = end < 0 ? chunk : chunk.subarray(0, end);
  try {
    // As a stream, so that a character may be cut in two at the end.
    return fromRoot(new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true }));
  } catch {
    return fromRoot(statedDecoder(bytes).decode(bytes));
  }
}

function statedDecoder(bytes: Buffer): TextDecoder {
  const stated = /^[^>]{0,100}encoding=["']([\w.:-]{1,40})["']/.exec(bytes.toString("latin1", 0, 200))?.[1];
  try {
    return new TextDecoder(stated === undefined || /^utf-?8$/i.test(stated) ? "windows-1252" : stated);
  } catch {
    return new TextDecoder("windows-1252");
  }
}

/**
 * The text without what stands before its first element or behind a NUL. "&" may stand for itself, as some programs
 * write it.
 */
function fromRoot(text: string): string {
  const xml = text.slice(Math.max(0, text.indexOf("<"))).split("\0", 1)[0]!;
  return xml.replace(/&(?!#?\w{1,20};)/g, "&amp;").slice(0, maxIxmlBytes);
}
