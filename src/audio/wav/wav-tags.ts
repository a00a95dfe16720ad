import { cleanText } from "../../input/plain-text.ts";
import type { Chapter, Picture } from "../tag-contents.ts";
import { CuePoints, type CuePointsState } from "./cue-points.ts";
import { id3Frames } from "./id3-frames.ts";
import { pictureIn } from "./id3-picture.ts";
import { ProductionNotes, type ProductionNotesState } from "./production-notes.ts";
import { tagTable, type TagName, type TagTexts } from "../tag-table.ts";
import { codePageOf, decodeBytes, decodeUnlabelled, decodeUtf16 } from "./tag-text.ts";
import { uint16 } from "./wav-format.ts";

/** A tag. Its value is one line that is safe to show (see `plain-text.ts`), with at most {@link maxTagCharacters}. */
interface WavTag {
  readonly name: TagName;
  readonly value: string;
}

/** Longer values are truncated to this number of characters. */
export const maxTagCharacters = 1000;

/**
 * Maximum number of bytes that are read of one value: {@link maxTagCharacters} in any encoding, plus characters that
 * are removed.
 */
export const maxTagBytes = 8 * maxTagCharacters;

const infoTags = new Map(tagTable.flatMap(({ name, info }) => info.map((id) => [id, name] as const)));
const id3Tags = new Map(
  tagTable.flatMap(({ name, frame, olderFrames }) => [frame, ...olderFrames].map((id) => [id, name] as const)),
);

/** Sources of values, from the least to the most trusted: ID3 states its encoding, INFO does not. */
const sources = ["bext", "info", "id3"] as const;

/** Number of values kept for one tag and source. The first one that can be decoded counts. */
const keptValues = 3;

/** A value that is decoded at the end of the file, because the chunk that states its encoding may follow it. */
interface Found {
  readonly source: (typeof sources)[number];
  readonly bytes: Buffer;
  /** The encoding that an ID3 frame states. */
  readonly encoding: number | undefined;
}

/** A picture that was found. */
type FoundPicture = Picture & { readonly isFrontCover: boolean };

/** The tags of a file that {@link WavTags} has collected so far. */
export interface WavTagsState {
  readonly found: ReadonlyMap<TagName, readonly Found[]>;
  readonly cues: CuePointsState;
  readonly production: ProductionNotesState;
  readonly picture: FoundPicture | undefined;
  readonly codePage: number | undefined;
}

/**
 * Collects the tags of one WAV while it is read. If a tag has several values, the first one of the most trusted source
 * counts.
 */
export class WavTags {
  readonly #found = new Map<TagName, Found[]>();
  /** The cue points of the file. */
  readonly cues = new CuePoints();
  /** What a field recorder states. */
  readonly production = new ProductionNotes();
  #picture: FoundPicture | undefined;
  #codePage: number | undefined;
  /** The decoded values, until the next change. */
  #texts: TagTexts | undefined;

  /** The tags found so far, one value per name. */
  get list(): readonly WavTag[] {
    return tagTable.flatMap(({ name }) => {
      const value = this.get(name);
      return value === undefined ? [] : [{ name, value }];
    });
  }

  /** The tags found so far, by name. */
  get texts(): TagTexts {
    this.#texts ??= Object.fromEntries(tagTable.map(({ name }) => [name, this.#decode(name)]));
    return this.#texts;
  }

  /** The value of one tag, if any. */
  get(name: TagName): string | undefined {
    return this.texts[name];
  }

  /** The front cover, or else the first picture, if there is one. */
  get cover(): Picture | undefined {
    return this.#picture;
  }

  /** The chapters of a sound of so many samples. */
  chapters(sampleRateHz: number, samples: number): Chapter[] {
    return this.cues.chapters(sampleRateHz, samples, this.#codePage);
  }

  /** Reads a CSET chunk (Multimedia Programming Interface 1.0, "CSET (Character Set) Chunk"). */
  addCharacterSet(chunk: Buffer, bigEndian: boolean): void {
    if (chunk.length < 8) return;
    const [codePage, , language, dialect] = [0, 2, 4, 6].map((at) => uint16(chunk, at, bigEndian));
    this.#codePage ??= codePageOf({ codePage: codePage!, language: language!, dialect: dialect! });
    this.#texts = undefined;
  }

  /** Reads the value of an INFO sub-chunk, or its beginning. Unknown ids are ignored. */
  addInfo(id: string, value: Buffer): void {
    const name = infoTags.get(id.toUpperCase());
    if (name === undefined) return;
    this.#add(name, "info", value);
  }

  /**
   * Reads a broadcast extension chunk, or its beginning. Its texts are ASCII according to the standard, and UTF-8 in
   * practice.
   */
  addBext(chunk: Buffer): void {
    this.production.addBext(chunk);
    for (const { name, bext } of tagTable) {
      if (bext === undefined) continue;
      this.#add(name, "bext", chunk.subarray(...bext));
    }
  }

  /** Reads an ID3v2 tag (version 2.2, 2.3 or 2.4), or its beginning. It stops at a broken frame. */
  addId3(tag: Buffer): void {
    for (const { id, body } of id3Frames(tag)) {
      if (id === "APIC" || id === "PIC") this.#addPicture(id, body);
      const name = id3Tags.get(id);
      const text = name === undefined ? undefined : name === "comment" ? id3Comment(body) : body.subarray(1);
      if (name === undefined || text === undefined) continue;
      this.#add(name, "id3", text, body[0]);
    }
  }

  #addPicture(id: string, body: Buffer): void {
    const picture = this.#picture?.isFrontCover ? undefined : pictureIn(id, body);
    if (picture === undefined || (this.#picture && !picture.isFrontCover)) return;
    this.#picture = { ...picture, bytes: Buffer.from(picture.bytes) };
  }

  /** What it takes to go on with another collection. */
  save(): WavTagsState {
    return {
      found: this.#found,
      cues: this.cues.save(),
      production: this.production.save(),
      picture: this.#picture,
      codePage: this.#codePage,
    };
  }

  /** Goes on where another collection of the same file was saved. */
  restore({ found, cues, production, picture, codePage }: WavTagsState): void {
    for (const [name, values] of found) this.#found.set(name, [...values]);
    this.cues.restore(cues);
    this.production.restore(production);
    this.#picture = picture;
    this.#codePage = codePage;
  }

  #add(name: TagName, source: Found["source"], value: Buffer, encoding?: number): void {
    const found = this.#found.get(name) ?? [];
    const isFull = found.filter((other) => other.source === source).length >= keptValues;
    if (isFull || isBlank(value)) return;
    // A copy, so that the chunk, which may contain pictures, can be freed.
    found.push({ source, bytes: Buffer.from(value.subarray(0, maxTagBytes)), encoding });
    this.#found.set(name, found);
    this.#texts = undefined;
  }

  #decode(name: TagName): string | undefined {
    const found = this.#found.get(name) ?? [];
    const rank = ({ source }: Found): number => sources.indexOf(source);
    for (const each of found.toSorted((a, b) => rank(b) - rank(a))) {
      const value = cleanText(decoded(name, each, this.#codePage) ?? "", maxTagCharacters);
      if (value !== "") return value;
    }
    return undefined;
  }
}

/** Whether these four characters name an INFO sub-chunk that {@link WavTags} keeps. */
export function isKnownInfo(id: string): boolean {
  return infoTags.has(id.toUpperCase());
}

function decoded(
  name: TagName,
  { source, bytes, encoding = 0 }: Found,
  codePage: number | undefined,
): string | undefined {
  const isCut = bytes.length >= maxTagBytes;
  if (source === "info") return decodeUnlabelled(bytes, { codePage, isCut });
  if (source === "bext") return inTurn(codePage, (page) => decodeUnlabelled(bytes, { codePage: page, isCut: true }));
  const values = decodeId3(encoding, bytes, isCut, codePage)?.split("\0");
  if (name === "comment") return values?.[0];
  const joined = values?.filter((value) => value !== "").join("; ");
  return name === "genre" ? joined && withoutGenreNumber(joined) : joined;
}

function isBlank(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0 || byte === 0x20);
}

/** Decodes text to which a code page stated elsewhere in the file may not apply: that code page is tried second. */
function inTurn(
  codePage: number | undefined,
  decode: (codePage: number | undefined) => string | undefined,
): string | undefined {
  return decode(undefined) ?? (codePage === undefined ? undefined : decode(codePage));
}

/**
 * A comment frame: encoding, language, a description, the text. Only comments without a description are meant for
 * people.
 */
function id3Comment(body: Buffer): Buffer | undefined {
  const strings = body.subarray(4);
  if (body[0] === 0 || body[0] === 3) return strings[0] === 0 ? strings.subarray(1) : undefined;
  const mark = /^(?:fffe|feff)$/u.test(strings.toString("hex", 0, 2)) ? strings.subarray(0, 2) : Buffer.alloc(0);
  const rest = strings.subarray(mark.length);
  if (rest.length < 2 || rest.readUInt16LE() !== 0) return undefined;
  const text = rest.subarray(2);
  const hasMark = text.length >= 2 && [0xfffe, 0xfeff].includes(text.readUInt16LE());
  return hasMark ? text : Buffer.concat([mark, text]);
}

function decodeId3(encoding: number, bytes: Buffer, isCut: boolean, codePage: number | undefined): string | undefined {
  switch (encoding) {
    case 0: // ISO 8859-1 by the standard; in practice the code page of the writer's machine
    case 3:
      return inTurn(codePage, (page) => decodeBytes(bytes, { codePage: page, isCut }));
    case 1:
      return decodeUtf16(bytes, "le");
    case 2:
      return decodeUtf16(bytes, "be");
    default:
      return undefined;
  }
}

/** Removes the genre number: "(17)Rock" becomes "Rock". */
function withoutGenreNumber(genre: string): string {
  return genre.replace(/^(?:\(\d+\))+(?=[^\s(])/u, "");
}
