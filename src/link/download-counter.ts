import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { addressKey } from "../addresses/address-key.ts";
import type { RecordAnswer } from "./record-answer.ts";

/** The client, as far as a request identifies it. */
interface Asker {
  /** The client's address, as of `clientAddress`. */
  readonly address: string;
  readonly headers: IncomingHttpHeaders;
}

/** A client's use of a link. */
interface Listening {
  /** When the client last began or ended a response, as of `performance.now()`. */
  lastSeenAt: number;
  /** Whether its last response was cut off. */
  isCut: boolean;
}

/** A client that asks again within this time continues its earlier download. */
const listeningMs = 3_600_000;
/** Maximum number of entries, about 2 MB. */
const maxListenings = 10_000;

/**
 * User agents of programs that open a link to preview it in a chat, to index it or to check it. Players, apps and
 * command line tools are not among them. Lists of robots in packages also contain curl, mpv, relatives of VLC and
 * podcast apps.
 */
const robot = new RegExp(
  [
    String.raw`(?<!cu)bots?(?![a-z])`, // TelegramBot, Twitterbot, Googlebot/2.1, "(+https://.../robots)"; not CUBOT, a phone
    "crawl|spider|slurp|scrap(?:er|y)|archiver|fetcher|validator|linkcheck|uptime|pingdom|monitoring|lighthouse",
    "(?:ur[il]|link|bing|microsoft|site|page|rich)[ _-]?preview|urllookup|unfurl|onebox|oembed|embedly|iframely",
    "im(?:g|age)proxy|mailproxy|(?:existence|protocol) discovery|facebook(?:externalhit|catalog|platform)|meta-external",
    "google(?:-inspection|-read|-page|-safety|-site|other|\\.com/\\+)|-google|mediapartners|vkshare|flipboardproxy|cardyb",
    "^whatsapp/|^viber|^slack[ -]|^tumblr/|^rocket\\.chat|pinterest/0|http\\.rb|pleroma|akkoma|misskey|friendica",
    "contenttabreceiver|notion(?:embedder| \\()|barkrowler|(?:chatgpt|claude|perplexity|mistralai|duckassist)-user",
  ].join("|"),
  "i",
);

/** Headers of prefetching requests: from Chromium and Firefox, older versions of them, and Safari. */
const purposeHeaders = ["sec-purpose", "purpose", "x-purpose", "x-moz"] as const;

/** Whether a program makes this request before or instead of a person. */
export function isAskedAhead(headers: IncomingHttpHeaders): boolean {
  const purposes = purposeHeaders.map((name) => String(headers[name] ?? ""));
  return (
    purposes.some((purpose) => /prefetch|prerender|preview/i.test(purpose)) || robot.test(headers["user-agent"] ?? "")
  );
}

/**
 * Distinguishes downloads of links from requests that only look like one. Each process keeps its own memory, so a
 * download that continues at another replica may be counted there once more.
 */
export class DownloadCounter {
  /** By client and link, most recently seen last. */
  readonly #listenings = new Map<string, Listening>();

  /**
   * Whether this response begins a download: it contains the first byte and more than the two bytes of Safari's probe,
   * it is for a person, and it does not continue an earlier download by the same client (same address and
   * `User-Agent`).
   * @param ended resolves with whether the response was sent completely
   */
  begins(linkId: string, { address, headers }: Asker, { body }: RecordAnswer, ended: Promise<boolean>): boolean {
    if (body.length === 0 || isAskedAhead(headers)) return false;
    const isFromStart = body.some((part) => "start" in part && part.start === 0 && part.end > 1);
    const who = JSON.stringify([linkId, addressKey(address), headers["user-agent"]]);
    const key = createHash("sha256").update(who).digest("base64url");
    const known = this.#listenings.get(key);
    const isKnown = known !== undefined && performance.now() - known.lastSeenAt < listeningMs;
    if (!isKnown && !isFromStart) return false;
    const listening = isKnown ? known : { lastSeenAt: 0, isCut: false };
    // A player requests ranges; a program that was cut off starts again.
    const isNew = isFromStart && (!isKnown || (headers.range === undefined && !listening.isCut));
    listening.isCut = false;
    this.#saw(key, listening);
    void this.#awaitEnd(key, listening, ended);
    return isNew;
  }

  async #awaitEnd(key: string, listening: Listening, ended: Promise<boolean>): Promise<void> {
    listening.isCut = !(await ended);
    this.#saw(key, listening);
  }

  #saw(key: string, listening: Listening): void {
    listening.lastSeenAt = performance.now();
    this.#listenings.delete(key);
    this.#listenings.set(key, listening);
    const [oldest] = this.#listenings.keys();
    if (this.#listenings.size > maxListenings) this.#listenings.delete(oldest!);
  }
}
