import { validate as isUuid } from "uuid";

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

/** A link's secret if it has the form of one: 192 bits in base64url; else undefined. */
export function parseSecret(given: unknown): string | undefined {
  return typeof given === "string" && /^[\w-]{32}$/.test(given) ? given : undefined;
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
