import { validate as isUuid } from "uuid";
import { leastLufs, mostLufs } from "../audio/mp3/mp3-gain.ts";
import { ServiceError } from "../errors/errors.ts";
import { noSuchRecord } from "./record-refusals.ts";
import type { LinkTarget, RecordAddress } from "./record-url.ts";

/**
 * Parses a link's secret, 192 bits in base64url, without characters that were added around it (see {@link unwrap});
 * undefined if there is none.
 */
export function parseSecret(given: unknown): string | undefined {
  if (typeof given !== "string") return undefined;
  return /^[^\w-]*([\w-]{32})(?:[_-]*(?:[^\w-].*)?)$/su.exec(join(given))?.[1];
}

/**
 * Reads a link as the routes of links do, whatever the service's address in it: services move, and links stay.
 * @throws {ServiceError} NOT_FOUND if it is not a link to a recording, BAD_USER_INPUT as {@link parseRecordAddress}
 * does
 */
export function parseLink(url: URL): LinkTarget {
  if (url.href.length > maxHrefLength) throw noSuchRecord();
  const parts = url.pathname.split("/").filter((part) => part !== "");
  // In front may be the path under which a proxy has the service.
  const [given, key, , ...more] = parts.slice(parts.findIndex((part) => /^(?:record|l|listen|embed)$/i.test(part)));
  if (more.length > 0) throw noSuchRecord();
  const place = given?.toLowerCase();
  const isPage = place === "listen" || place === "embed";
  if (place === "record" || (isPage && key === undefined)) {
    return parseRecordAddress(linkParameters(url.href), decoded(key));
  }
  const secret = place === "l" || isPage ? parseSecret(decoded(key)) : undefined;
  if (secret === undefined) throw noSuchRecord();
  return { secret };
}

/** Maximum length of a link: that of the headers of a request for it. */
const maxHrefLength = 16 * 1024;

/** A part of a path without its escapes, or as it is if they are not valid. */
function decoded(part: string | undefined): string | undefined {
  try {
    return part && decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The parameters of a link: each name has all its values, in order. */
type LinkParameters = ReadonlyMap<string, readonly string[]>;

/**
 * Reads the parameters of a link as mails, feeds, chats and spreadsheets change it: with names in capitals, with `&` in
 * the spelling of HTML (`&amp;`), JSON (`\u0026`) or URLs (`%26`), even escaped several times, and with `?` or `;`
 * between parameters. Values never contain any of these.
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
    const values = parameters.get(name);
    if (values) values.push(value);
    else parameters.set(name, [value]);
  }
  return parameters;
}

/**
 * Parses the recording and user of a plain link, also with the older parameter names `audio_id` and `user_id`.
 * @param idInPath the id, if it is in the link's path
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

/**
 * Whether a link asks to be played instead of downloaded: `inline=1`.
 * @param byDefault the answer for a link that does not say it
 */
export function asksForInline(parameters: LinkParameters, byDefault = false): boolean {
  const value = parameters.get("inline")?.at(-1);
  return value === undefined ? byDefault : !/^(?:0|false)$/i.test(unwrap(value));
}

/**
 * The loudness that a link asks for, in LUFS: `loudness=-16`; undefined if it asks for none.
 * @throws {ServiceError} BAD_USER_INPUT if it is not a number within its bounds
 */
export function loudnessIn(parameters: LinkParameters): number | undefined {
  const given = parameters.get("loudness")?.at(-1);
  if (given === undefined) return undefined;
  const lufs = Number(/^-?\d+(?:\.\d+)?(?=(?:lufs)?$)/i.exec(unwrap(given))?.[0]);
  requireLoudness(lufs, "loudness", ", such as loudness=-16");
  return lufs;
}

/** @throws {ServiceError} BAD_USER_INPUT if it is not a number, or one that no link can ask for. */
export function requireLoudness(lufs: number, argument: string, example = ""): void {
  if (lufs >= leastLufs && lufs <= mostLufs) return;
  const message = `The loudness is a number from ${leastLufs} to ${mostLufs}, in LUFS${example}.`;
  throw new ServiceError("BAD_USER_INPUT", message, { argument, min: leastLufs, max: mostLufs });
}

/** Maximum number of samples that a waveform shows in one pixel. */
const mostSamplesPerPixel = 2 ** 24;

/**
 * The samples for each pixel of the waveform that a link asks for: `samplesPerPixel=512`; undefined if it does not say.
 * @throws {ServiceError} BAD_USER_INPUT if it is not a number within its bounds
 */
export function samplesPerPixelIn(parameters: LinkParameters): number | undefined {
  const given = (parameters.get("samplesperpixel") ?? parameters.get("samples_per_pixel"))?.at(-1);
  if (given === undefined) return undefined;
  const samples = Number(/^\d{1,9}$/.exec(unwrap(given))?.[0]);
  if (samples >= 1 && samples <= mostSamplesPerPixel) return samples;
  const message = `samplesPerPixel is a whole number from 1 to ${mostSamplesPerPixel}.`;
  throw new ServiceError("BAD_USER_INPUT", message, { argument: "samplesPerPixel", min: 1, max: mostSamplesPerPixel });
}

function onlyOne<T>(values: ReadonlySet<T | undefined>, argument: string, need: string): T {
  const [value, other] = [...values].filter((found) => found !== undefined);
  if (value === undefined) throw new ServiceError("BAD_USER_INPUT", `${need}.`, { argument });
  if (other === undefined) return value;
  throw new ServiceError("BAD_USER_INPUT", `${need}. Give only one: this link has several.`, { argument });
}

/** Parses a UUID, also without hyphens, as a URN, or with a file extension. `3D` is a `=` of quoted-printable mail. */
function recordIdIn(given: string): string | undefined {
  const hex = /^(?:urn:uuid:|3d)?((?:[\da-f]{4}-?){7}[\da-f]{4})(?:\.mp3)?$/i
    .exec(unwrap(given))?.[1]
    ?.replaceAll("-", "");
  return parseRecordId(hex?.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"));
}

function userIdIn(given: string): number | undefined {
  return parseUserId(/^(?:3d)?0*(\d+)(?:\.mp3)?$/i.exec(unwrap(given))?.[1]);
}

/** Maximum length of a value, more than any value of a link has. */
const maxValueLength = 200;

/** Restores a value in which a mail program has broken lines, inserted zero-width characters or replaced hyphens. */
function join(given: string): string {
  return given
    .slice(0, maxValueLength)
    .replaceAll(/[=\s\p{C}]+/gu, "")
    .replaceAll(/[\u2010-\u2015\u2212]/g, "-");
}

/** Removes brackets, quotes and punctuation around a value, and text after them. */
function unwrap(given: string): string {
  return join(given)
    .replace(/^[^\p{L}\p{N}-]+/u, "")
    .replace(/["'`<>|()[\]{}*\\\u0080-\u{10ffff}].*$/su, "")
    .replace(/[^a-z\d]+$/i, "");
}

/** Parses a recording's id: the UUID in the spelling of the database, or undefined if it is not a UUID. */
export function parseRecordId(given: unknown): string | undefined {
  return typeof given === "string" && isUuid(given) ? given.toLowerCase() : undefined;
}

/** Parses a user's id: a number that a user can have, or undefined. */
export function parseUserId(given: unknown): number | undefined {
  if (typeof given !== "string" || !/^[1-9]\d{0,9}$/.test(given)) return undefined;
  const id = Number(given);
  return id < 2 ** 31 ? id : undefined;
}
