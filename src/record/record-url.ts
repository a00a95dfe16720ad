import { validate as isUuid } from "uuid";
import { ServiceError } from "../errors/errors.ts";
import { maxMp3NameBytes } from "./file-name.ts";

/** Characters of a link behind its origin, at most: ids, secret and path. */
export const maxLinkLength = 100;
/** The same with a file's name in it, of which each byte may be escaped. */
export const maxMp3LinkLength = maxLinkLength + 3 * maxMp3NameBytes;

/** What a link names: a record and the user whom it belongs to. */
export interface RecordAddress {
  readonly recordId: string;
  readonly userId: number;
}

/** The link of a record: `<origin>/record?id=<record>&user=<user>`. */
export function recordUrl(origin: string, { recordId, userId }: RecordAddress): string {
  return `${origin}/record?id=${recordId}&user=${userId}`;
}

/** The link that plays in the page instead of downloading. */
export function streamUrl(origin: string, address: RecordAddress): string {
  return `${recordUrl(origin, address)}&inline=1`;
}

/** The link that ends as a file does, which many players want: `<origin>/record/<record>/<name>.mp3?user=<user>`. */
export function mp3Url(origin: string, { recordId, userId }: RecordAddress, fileName: string): string {
  return `${origin}/record/${recordId}/${pathName(fileName)}?user=${userId}`;
}

/** The waveform as JSON, in the form of audiowaveform's data format. */
export function waveformUrl(origin: string, { recordId, userId }: RecordAddress): string {
  return `${origin}/record/${recordId}/waveform.json?user=${userId}`;
}

/** The address of a link of its own: `<origin>/l/<secret>`. */
export function shareUrl(origin: string, secret: string): string {
  return `${origin}/l/${secret}`;
}

/** The same with an ending: `<origin>/l/<secret>/<name>.mp3`. */
export function shareMp3Url(origin: string, secret: string, fileName: string): string {
  return `${shareUrl(origin, secret)}/${pathName(fileName)}`;
}

/**
 * The name of a file as the last part of a path. It leaves out what ends a path, or is no escape, for a proxy that
 * decodes the path before it passes it on; and it escapes what mails and Markdown take for the end of an address.
 */
function pathName(fileName: string): string {
  const escaped = encodeURIComponent(fileName.replace(/[%#;]/g, "_"));
  return escaped.replace(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`);
}

/**
 * A link's secret, 192 bits in base64url, without what was put around it on its way; undefined if there is none.
 * See {@link unwrap}.
 */
export function parseSecret(given: unknown): string | undefined {
  if (typeof given !== "string") return undefined;
  return /^[^\w-]*([\w-]{32})(?:[_-]*(?:[^\w-].*)?)$/su.exec(join(given))?.[1];
}

/** The parameters of a link, as text: each has the values that it came with, in order. */
export type LinkParameters = ReadonlyMap<string, readonly string[]>;

/**
 * Reads the parameters of a link as it arrives from mails, feeds, chats and spreadsheets: names in capitals, `&` in the
 * spellings of HTML (`&amp;`), JSON (`\u0026`) and of addresses (`%26`), also escaped several times, and `?` or `;`
 * between parameters. None of these can be part of what a link says.
 */
export function linkParameters(url: string): LinkParameters {
  // A tracker may add `&fbclid=...` to an address that has no `?`.
  const search = /\?.*$/s.exec(url)?.[0] ?? /&.*$/s.exec(url)?.[0] ?? "";
  const plain = search
    .replaceAll(/%(?:25)+(?=[\da-f]{2})/gi, "%")
    .replaceAll(/(?:\\|%5c)u00(?=26|3d)/gi, "%")
    .replaceAll(/%(?:26|3b|3f|23)|[?;#]/gi, "&")
    .replaceAll(/%3d/gi, "=");
  const parameters = new Map<string, string[]>();
  for (const [given, value] of new URLSearchParams(plain)) {
    const name = given
      .toLowerCase()
      .replaceAll(/[^a-z_]/g, "")
      .replace(/^(?:amp)+/, "");
    parameters.set(name, [...(parameters.get(name) ?? []), value]);
  }
  return parameters;
}

/**
 * The record and user that a plain link names, also in the ancestor's spelling `audio_id` and `user_id`.
 * @param idInPath the id if it stands in the link's path
 * @throws {ServiceError} BAD_USER_INPUT with what is missing or ambiguous
 */
export function parseRecordAddress(parameters: LinkParameters, idInPath?: string): RecordAddress {
  const valuesOf = (name: string, oldName: string): readonly string[] =>
    parameters.get(name) ?? parameters.get(oldName) ?? [];
  const ids = new Set((idInPath === undefined ? valuesOf("id", "audio_id") : [idInPath]).map(recordIdIn));
  const users = new Set(valuesOf("user", "user_id").map(userIdIn));
  return {
    recordId: onlyOne(ids, "id", "The link needs the recording's id, a UUID: id=<record>"),
    userId: onlyOne(users, "user", "The link needs the user's id, a number: user=<user>"),
  };
}

/** Whether a link asks to be played in the page instead of being saved: `inline=1`. */
export function asksForInline(parameters: LinkParameters): boolean {
  const value = parameters.get("inline")?.at(-1);
  return value !== undefined && !/^(?:0|false)$/i.test(unwrap(value));
}

function onlyOne<T>(values: ReadonlySet<T | undefined>, argument: string, need: string): T {
  const [value, other] = [...values].filter((found) => found !== undefined);
  if (value === undefined) throw new ServiceError("BAD_USER_INPUT", `${need}.`, { argument });
  if (other === undefined) return value;
  throw new ServiceError("BAD_USER_INPUT", `${need}. Give only one: this link has several.`, { argument });
}

/** A UUID, also without hyphens, as a URN, and with an ending that a player wants. `3D` is a `=` of quoted-printable mail. */
function recordIdIn(given: string): string | undefined {
  const hex = /^(?:urn:uuid:|3d)?((?:[\da-f]{4}-?){7}[\da-f]{4})(?:\.mp3)?$/i
    .exec(unwrap(given))?.[1]
    ?.replaceAll("-", "");
  return parseRecordId(hex?.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"));
}

function userIdIn(given: string): number | undefined {
  return parseUserId(/^(?:3d)?0*(\d+)(?:\.mp3)?$/i.exec(unwrap(given))?.[1]);
}

/** More than any value of a link has. */
const maxValueLength = 200;

/** A value whose lines a mail program has broken, and that has characters without width or other hyphens in it, as it was. */
function join(given: string): string {
  return given
    .slice(0, maxValueLength)
    .replaceAll(/[=\s\p{C}]+/gu, "")
    .replaceAll(/[\u2010-\u2015\u2212]/g, "-");
}

/** A value without brackets, quotes and punctuation around it, and without text that follows those. */
function unwrap(given: string): string {
  return join(given)
    .replace(/^[^\p{L}\p{N}-]+/u, "")
    .replace(/["'`<>|()[\]{}*\\\u0080-\u{10ffff}].*$/su, "")
    .replace(/[^a-z\d]+$/i, "");
}

/** The record's id if it is a UUID, in the spelling that the database uses; else undefined. */
export function parseRecordId(given: unknown): string | undefined {
  return typeof given === "string" && isUuid(given) ? given.toLowerCase() : undefined;
}

/** The user's id if it is a number that a user can have; else undefined. */
export function parseUserId(given: unknown): number | undefined {
  if (typeof given !== "string" || !/^[1-9]\d{0,9}$/.test(given)) return undefined;
  const id = Number(given);
  return id < 2 ** 31 ? id : undefined;
}
