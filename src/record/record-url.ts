import { maxMp3NameBytes } from "./file-name.ts";

/** Maximum length of a link after its origin, in characters: ids, secret and path. */
export const maxLinkLength = 100;
/** The same for a link with a file name, in which each byte may be escaped. */
export const maxMp3LinkLength = maxLinkLength + 3 * maxMp3NameBytes;

/** Maximum length of what {@link withLoudness} appends. */
export const maxLoudnessLength = "&loudness=-12.345678901234567".length;

/** The recording that a link names, and its owner. */
export interface RecordAddress {
  readonly recordId: string;
  readonly userId: number;
}

/** The link to a recording: `<origin>/record?id=<record>&user=<user>`. */
export function recordUrl(origin: string, { recordId, userId }: RecordAddress): string {
  return `${origin}/record?id=${recordId}&user=${userId}`;
}

/** The link that plays the recording instead of downloading it. */
export function streamUrl(origin: string, address: RecordAddress): string {
  return `${recordUrl(origin, address)}&inline=1`;
}

/** The link that ends in a file name, as many players require: `<origin>/record/<record>/<name>.mp3?user=<user>`. */
export function mp3Url(origin: string, { recordId, userId }: RecordAddress, fileName: string): string {
  return `${origin}/record/${recordId}/${pathName(fileName)}?user=${userId}`;
}

/** The link to the waveform as JSON, in the data format of audiowaveform. */
export function waveformUrl(origin: string, { recordId, userId }: RecordAddress): string {
  return `${origin}/record/${recordId}/waveform.json?user=${userId}`;
}

/** The address of a share link: `<origin>/l/<secret>`. */
export function shareUrl(origin: string, secret: string): string {
  return `${origin}/l/${secret}`;
}

/** The share link that plays the recording instead of downloading it. */
export function shareStreamUrl(origin: string, secret: string): string {
  return `${shareUrl(origin, secret)}?inline=1`;
}

/** The address of a share link with a file name: `<origin>/l/<secret>/<name>.mp3`. */
export function shareMp3Url(origin: string, secret: string, fileName: string): string {
  return `${shareUrl(origin, secret)}/${pathName(fileName)}`;
}

/** What a link opens: a recording of a user, or the recording of a share link. */
export type LinkTarget = RecordAddress | { readonly secret: string };

/** The page for listening: `<origin>/listen?id=<record>&user=<user>` or `<origin>/listen/<secret>`. */
export function listenUrl(origin: string, target: LinkTarget): string {
  return pageUrl(`${origin}/listen`, target);
}

/** The same page for the frame of another page. */
export function embedUrl(origin: string, target: LinkTarget): string {
  return pageUrl(`${origin}/embed`, target);
}

function pageUrl(page: string, target: LinkTarget): string {
  return "secret" in target ? `${page}/${target.secret}` : `${page}?id=${target.recordId}&user=${target.userId}`;
}

/** The picture of the waveform, for previews of the page for listening. */
export function pictureUrl(origin: string, target: LinkTarget): string {
  if ("secret" in target) return `${shareUrl(origin, target.secret)}/waveform.png`;
  return `${origin}/record/${target.recordId}/waveform.png?user=${target.userId}`;
}

/** The address of a play link: `<origin>/play/<signed>`; see `link/play-link.ts`. */
export function playUrl(origin: string, signed: string): string {
  return `${origin}/play/${signed}`;
}

/**
 * Encodes a file name as the last part of a path. It omits characters that would end the path, or be an invalid escape,
 * behind a proxy that decodes the path. It escapes characters that mails and Markdown take for the end of an address.
 */
function pathName(fileName: string): string {
  const escaped = encodeURIComponent(fileName.replace(/[%#;]/g, "_"));
  return escaped.replace(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** The link with a level of its own, in LUFS; see `loudnessIn`. */
export function withLoudness(link: string, lufs: number): string {
  return `${link}${link.includes("?") ? "&" : "?"}loudness=${lufs}`;
}
