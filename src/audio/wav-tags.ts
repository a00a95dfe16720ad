import { cleanText } from "../plain-text.ts";

/** Every tag this service carries over, in the order in which they are listed. */
const tagNames = [
  "title",
  "artist",
  "album",
  "album_artist",
  "composer",
  "genre",
  "date",
  "track",
  "disc",
  "comment",
  "copyright",
  "publisher",
  "isrc",
  "language",
  "encoded_by",
  "software",
] as const;

/** The name of a tag; see {@link tagNames}. */
export type TagName = (typeof tagNames)[number];

/** One tag as a line that is safe to show (see `plain-text.ts`), of at most {@link maxTagCharacters}. */
export interface WavTag {
  readonly name: TagName;
  readonly value: string;
}

/** Longer values are cut to this many characters. */
export const maxTagCharacters = 1000;

/** Bytes of one value that are worth reading: {@link maxTagCharacters} in any encoding, and room for what is cleaned. */
export const maxTagBytes = 8 * maxTagCharacters;

/** Tags have a few dozen frames; more than these would only cost time. */
const maxId3Frames = 1000;

/** Sub-chunks of a LIST chunk of form INFO (Microsoft Multimedia Programming Interface 1.0, RIFF, "INFO List Chunk"). */
const infoTags: Readonly<Record<string, TagName>> = {
  INAM: "title",
  IART: "artist",
  IPRD: "album",
  IGNR: "genre",
  ICRD: "date",
  ITRK: "track",
  IPRT: "track",
  ICMT: "comment",
  ICOP: "copyright",
  IMUS: "composer",
  ILNG: "language",
  ITCH: "encoded_by",
  ISFT: "software",
};

/** Frames of ID3v2.2 (three letters), 2.3 and 2.4 (four letters). */
const id3Tags: Readonly<Record<string, TagName>> = {
  TT2: "title",
  TP1: "artist",
  TAL: "album",
  TP2: "album_artist",
  TCM: "composer",
  TCO: "genre",
  TYE: "date",
  TRK: "track",
  TPA: "disc",
  COM: "comment",
  TCR: "copyright",
  TPB: "publisher",
  TRC: "isrc",
  TLA: "language",
  TEN: "encoded_by",
  TSS: "software",
  TIT2: "title",
  TPE1: "artist",
  TALB: "album",
  TPE2: "album_artist",
  TCOM: "composer",
  TCON: "genre",
  TDRC: "date",
  TYER: "date",
  TRCK: "track",
  TPOS: "disc",
  COMM: "comment",
  TCOP: "copyright",
  TPUB: "publisher",
  TSRC: "isrc",
  TLAN: "language",
  TENC: "encoded_by",
  TSSE: "software",
};

/** Where a value stands; the later in this list, the more it is believed: ID3 states its encoding, INFO does not. */
const sources = ["bext", "info", "id3"] as const;

/** The tags of one WAV, gathered while it is read. Of several values for one name the best source's first one stays. */
export class WavTags {
  readonly #found = new Map<TagName, { readonly value: string; readonly rank: number }>();

  /** What was found so far, one value a name. */
  get list(): readonly WavTag[] {
    return tagNames.flatMap((name) => {
      const value = this.get(name);
      return value === undefined ? [] : [{ name, value }];
    });
  }

  /** The value of one tag, if there is one. */
  get(name: TagName): string | undefined {
    return this.#found.get(name)?.value;
  }

  /** Takes the value of an INFO sub-chunk, or the beginning of it; unknown ids are passed over. */
  addInfo(id: string, value: Buffer): void {
    const name = infoTags[id.toUpperCase()];
    if (name !== undefined) this.#add(name, decodeUnlabelled(value), "info");
  }

  /** Takes a broadcast extension chunk, or the beginning of it (EBU Tech 3285 section 2.3). */
  addBext(chunk: Buffer): void {
    this.#add("comment", decodeUnlabelled(chunk.subarray(0, 256)), "bext");
    this.#add("encoded_by", decodeUnlabelled(chunk.subarray(256, 288)), "bext");
    this.#add("date", decodeUnlabelled(chunk.subarray(320, 330)), "bext");
  }

  /** Takes an ID3v2 tag, or the beginning of it: versions 2.2, 2.3 and 2.4. Broken frames end the reading. */
  addId3(tag: Buffer): void {
    for (const { id, body } of id3Frames(tag)) {
      const name = id3Tags[id];
      const text = name === undefined ? undefined : name === "comment" ? id3Comment(body) : id3Text(body);
      if (name !== undefined && text !== undefined) {
        this.#add(name, name === "genre" ? withoutGenreNumber(text) : text, "id3");
      }
    }
  }

  #add(name: TagName, raw: string, source: (typeof sources)[number]): void {
    const value = cleanText(raw, maxTagCharacters);
    const rank = sources.indexOf(source);
    if (value !== "" && rank > (this.#found.get(name)?.rank ?? -1)) this.#found.set(name, { value, rank });
  }
}

/** Whether these four characters name an INFO sub-chunk that {@link WavTags} keeps. */
export function isKnownInfo(id: string): boolean {
  return id.toUpperCase() in infoTags;
}

/** The bytes of an ID3v2 tag with its header, from its first ten bytes; undefined if they do not begin one. */
export function id3TagBytes(header: Buffer): number | undefined {
  if (header.length < 10 || header.toString("latin1", 0, 3) !== "ID3") return undefined;
  return 10 + syncsafe(header, 6) + (header[3] === 4 && (header[5]! & 0x10) !== 0 ? 10 : 0);
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const windows1252 = new TextDecoder("windows-1252");
const utf16le = new TextDecoder("utf-16le");
const utf16be = new TextDecoder("utf-16be");

/** Text whose encoding nothing states: UTF-16 if it looks so, UTF-8 if it is valid, else Windows-1252. */
function decodeUnlabelled(bytes: Buffer): string {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return untilNul(utf16le.decode(bytes));
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return untilNul(utf16be.decode(bytes));
  if (looksLikeUtf16le(bytes)) return untilNul(utf16le.decode(bytes));
  const end = bytes.indexOf(0);
  return decodeUtf8OrWindows1252(end < 0 ? bytes : bytes.subarray(0, end));
}

function decodeUtf8OrWindows1252(bytes: Buffer): string {
  // The end of a long value may have been cut inside a character.
  for (let cut = 0; cut < 4 && cut <= bytes.length; cut++) {
    try {
      return strictUtf8.decode(bytes.subarray(0, bytes.length - cut));
    } catch {
      if (bytes.length < maxTagBytes - 8) break;
    }
  }
  return windows1252.decode(bytes);
}

/** Western text in UTF-16 without a mark: a character, then a zero, at least twice. */
function looksLikeUtf16le(bytes: Buffer): boolean {
  return bytes.length >= 4 && bytes[0] !== 0 && bytes[1] === 0 && bytes[2] !== 0 && bytes[3] === 0;
}

function untilNul(text: string): string {
  const end = text.indexOf("\0");
  return end < 0 ? text : text.slice(0, end);
}

/** Frames of an ID3v2 tag (id3.org: ID3v2.2.0, ID3v2.3.0, ID3v2.4.0 Structure); compressed or encrypted ones are left out. */
function* id3Frames(tag: Buffer): Generator<{ readonly id: string; readonly body: Buffer }> {
  const version = tag[3] ?? 0;
  const length = id3TagBytes(tag);
  if (length === undefined || version < 2 || version > 4) return;
  const flags = tag[5]!;
  let frames = tag.subarray(10, length);
  if (version < 4 && (flags & 0x80) !== 0) frames = withoutUnsynchronisation(frames);
  if (version > 2 && (flags & 0x40) !== 0 && frames.length >= 4) {
    frames = frames.subarray(version === 4 ? syncsafe(frames, 0) : 4 + frames.readUInt32BE(0));
  }
  const headerBytes = version === 2 ? 6 : 10;
  for (let count = 0; count < maxId3Frames && frames.length > headerBytes && frames[0] !== 0; count++) {
    const id = frames.toString("latin1", 0, version === 2 ? 3 : 4);
    const size =
      version === 2 ? frames.readUIntBE(3, 3) : version === 3 ? frames.readUInt32BE(4) : frameBytesOfVersion4(frames);
    const frameFlags = version === 2 ? 0 : frames[9]!;
    let body = frames.subarray(headerBytes, headerBytes + size);
    frames = frames.subarray(headerBytes + size);
    if (version === 3) {
      if ((frameFlags & 0xc0) !== 0) continue;
      if ((frameFlags & 0x20) !== 0) body = body.subarray(1);
    } else if (version === 4) {
      if ((frameFlags & 0x0c) !== 0) continue;
      body = body.subarray(((frameFlags & 0x40) !== 0 ? 1 : 0) + ((frameFlags & 0x01) !== 0 ? 4 : 0));
      if ((frameFlags & 0x02) !== 0 || (flags & 0x80) !== 0) body = withoutUnsynchronisation(body);
    }
    yield { id, body: body.subarray(0, maxTagBytes) };
  }
}

/** Sizes in version 2.4 are syncsafe, but some writers kept the plain numbers of 2.3: a look at the next frame tells. */
function frameBytesOfVersion4(frames: Buffer): number {
  const size = syncsafe(frames, 4);
  const plain = frames.readUInt32BE(4);
  return size !== plain && !frameBegins(frames, 10 + size) && frameBegins(frames, 10 + plain) ? plain : size;
}

function frameBegins(frames: Buffer, offset: number): boolean {
  return (
    offset === frames.length || /^(?:[A-Z][A-Z0-9]{3}|\0{4})$/u.test(frames.toString("latin1", offset, offset + 4))
  );
}

function syncsafe(bytes: Buffer, offset: number): number {
  return bytes.subarray(offset, offset + 4).reduce((sum, byte) => sum * 128 + (byte & 0x7f), 0);
}

/** Takes out the zero that follows each 0xFF. */
function withoutUnsynchronisation(bytes: Buffer): Buffer {
  const kept = Buffer.allocUnsafe(bytes.length);
  let length = 0;
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== 0 || i === 0 || bytes[i - 1] !== 0xff) kept[length++] = bytes[i]!;
  }
  return kept.subarray(0, length);
}

function id3Text(body: Buffer): string | undefined {
  const text = decodeId3(body[0], body.subarray(1));
  return text
    ?.split("\0")
    .filter((value) => value !== "")
    .join("; ");
}

/** A comment frame: encoding, language, a description, the text. Only comments without description are for people. */
function id3Comment(body: Buffer): string | undefined {
  const [description, text] = decodeId3(body[0], body.subarray(4))?.split("\0") ?? [];
  return description === "" ? text?.replace(/^\ufeff/u, "") : undefined;
}

function decodeId3(encoding: number | undefined, bytes: Buffer): string | undefined {
  switch (encoding) {
    case 0: // ISO 8859-1 by the standard; in practice whatever the writer's machine used
      return decodeUtf8OrWindows1252(bytes);
    case 1:
      return (bytes[0] === 0xfe && bytes[1] === 0xff ? utf16be : utf16le).decode(bytes);
    case 2:
      return utf16be.decode(bytes);
    case 3:
      return decodeUtf8OrWindows1252(bytes);
    default:
      return undefined;
  }
}

/** "(17)Rock" is the number of a list with its name; the name says it. */
function withoutGenreNumber(genre: string): string {
  return genre.replace(/^(?:\(\d+\))+(?=[^\s(])/u, "");
}
