import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { addressKey } from "../limits/rate-limiter.ts";
import type { RecordAnswer } from "./record-answer.ts";

/** Who asks, as far as a request tells. */
export interface Asker {
  /** The client's address. */
  readonly ip: string;
  readonly headers: IncomingHttpHeaders;
}

/** One client's listening to one link. */
interface Listening {
  /** When it last began or ended an answer, on the clock of `performance.now()`. */
  lastSeenAt: number;
  /** Whether its last answer ended before its end. */
  isCut: boolean;
}

/** A client that asks again within this time goes on with what it has begun. */
const listeningMs = 3_600_000;
/** Listenings that are remembered, at most: about 2 MB. */
const maxListenings = 10_000;

/**
 * Programs that open an address to show it in a chat, to index or to check it. Players, apps and command lines are none:
 * lists of robots that packages keep take curl, mpv, VLC's relatives and podcast apps for robots, too.
 */
const robot = new RegExp(
  [
    String.raw`(?<!cu)bots?(?![a-z])`, // TelegramBot, Twitterbot, Googlebot/2.1, "(+https://.../robots)"; not CUBOT, a telephone
    "crawl|spider|slurp|scrap(?:er|y)|archiver|fetcher|validator|linkcheck|uptime|pingdom|monitoring|lighthouse",
    "(?:ur[il]|link|bing|microsoft|site|page|rich)[ _-]?preview|urllookup|unfurl|onebox|oembed|embedly|iframely",
    "im(?:g|age)proxy|mailproxy|(?:existence|protocol) discovery|facebook(?:externalhit|catalog|platform)|meta-external",
    "google(?:-inspection|-read|-page|-safety|-site|other|\\.com/\\+)|-google|mediapartners|vkshare|flipboardproxy|cardyb",
    "^whatsapp/|^viber|^slack[ -]|^tumblr/|^rocket\\.chat|pinterest/0|http\\.rb|pleroma|akkoma|misskey|friendica",
    "contenttabreceiver|notion(?:embedder| \\()|barkrowler|(?:chatgpt|claude|perplexity|mistralai|duckassist)-user",
  ].join("|"),
  "i",
);

/** Says that nobody has asked for the page yet: Chromium and Firefox, older ones of them, Safari. */
const purposeHeaders = ["sec-purpose", "purpose", "x-purpose", "x-moz"] as const;

/** Whether a program asks before, or instead of, a person. */
export function isAskedAhead(headers: IncomingHttpHeaders): boolean {
  const purposes = purposeHeaders.map((name) => String(headers[name] ?? ""));
  return (
    purposes.some((purpose) => /prefetch|prerender|preview/i.test(purpose)) || robot.test(headers["user-agent"] ?? "")
  );
}

/**
 * Tells the downloads of links from what only looks like one. One process remembers for itself: a listening that goes
 * on with another replica can be counted there once more.
 */
export class DownloadCounter {
  /** By who listens to what; the one that was seen last stands last. */
  readonly #listenings = new Map<string, Listening>();

  /**
   * Whether this answer begins a download: with the first byte and more than Safari's probe of two bytes, for a person,
   * and not as a further part of what the same client has begun (the same address and `User-Agent`).
   * @param ended resolves with whether the answer was sent to its end
   */
  begins(linkId: string, { ip, headers }: Asker, { body }: RecordAnswer, ended: Promise<boolean>): boolean {
    if (body.length === 0 || isAskedAhead(headers)) return false;
    const isFromStart = body.some((part) => "start" in part && part.start === 0 && part.end > 1);
    const who = JSON.stringify([linkId, addressKey(ip), headers["user-agent"]]);
    const key = createHash("sha256").update(who).digest("base64url");
    const known = this.#listenings.get(key);
    const isKnown = known !== undefined && performance.now() - known.lastSeenAt < listeningMs;
    if (!isKnown && !isFromStart) return false;
    const listening = isKnown ? known : { lastSeenAt: 0, isCut: false };
    // A player asks for ranges; a program that was cut off begins again.
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
