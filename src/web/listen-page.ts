import { commonStyle, escapeHtml, pageHead, styleSource } from "../http/html-page.ts";
import { barHeights, pictureHeight, pictureWidth } from "./waveform-picture.ts";

/** What the pages for listening show of a recording. */
export interface ListenableRecording {
  readonly title: string;
  readonly durationSeconds: number;
  readonly sizeBytes: number;
  readonly createdAt: Date;
  /** When the link expires; null if never. */
  readonly expiresAt: Date | null;
  /** The waveform, from 0 to 1. */
  readonly peaks: readonly number[];
}

/** Addresses of a recording. `play` and `download` are paths, so that they work under any host name. */
export interface ListenAddresses {
  /** Plays the MP3. */
  readonly play: string;
  /** Whether playing counts as a download. */
  readonly isCounted: boolean;
  /** Downloads the MP3. */
  readonly download: string;
  /** The page for listening. */
  readonly page: string;
  /** The page for a frame. */
  readonly embed: string;
  readonly picture: string;
  readonly oembed: string;
  /** The MP3's address for link previews; undefined if opening it counts as a download, or the recording is private. */
  readonly audio: string | undefined;
}

/** Size of the frame that shows the page for frames, in CSS pixels. */
export const frameWidth = 480;
export const frameHeight = 180;

const style = `${commonStyle}
main{max-width:44rem;margin:0 auto;padding:clamp(1rem,8vh,5rem) 1rem 2rem}
article{background:var(--card);border:1px solid var(--line);border-radius:1rem;padding:clamp(1rem,4vw,2rem)}
h1.long{font-size:1.125rem}
p{margin:.5rem 0 0;color:var(--ink-2)}
svg{display:block;width:100%;height:7rem;margin:1.5rem 0 1rem;fill:var(--accent)}
audio{display:block;width:100%}
.download{display:inline-block;box-sizing:border-box;min-height:2.75rem;margin:1rem 0 .5rem;padding:.55rem 1rem;color:var(--ink);
text-decoration:none;border:1px solid var(--edge);border-radius:.75rem}
.download:hover{border-color:var(--accent);color:var(--accent)}
@media (forced-colors:active){svg{fill:CanvasText}}`;

const frameStyle = `${commonStyle}
body{background:var(--card)}
main{box-sizing:border-box;height:100vh;min-height:9rem;display:flex;flex-direction:column;padding:.75rem 1rem;gap:.5rem;
border:1px solid var(--line)}
header{display:flex;gap:1rem;justify-content:space-between;align-items:baseline;color:var(--ink-2)}
header span{flex:none}
h1{font-size:1rem;color:var(--ink);white-space:nowrap;overflow:hidden;text-overflow:ellipsis;padding:2px}
h1 a{color:inherit;text-decoration:none}
h1 a:hover{text-decoration:underline}
svg{display:block;width:100%;flex:1;min-height:2rem;fill:var(--accent)}
audio{display:block;width:100%;height:2.5rem;flex:none}
@media (forced-colors:active){svg{fill:CanvasText}}`;

/** What the styles of the pages are in a Content Security Policy. */
export const pageStyleSource = styleSource(style);
export const frameStyleSource = styleSource(frameStyle);

/** A title with more characters is shown in smaller letters. */
const longTitle = 90;

/** The page on which a person listens. It works without a script. */
export function printListenPage(recording: ListenableRecording, addresses: ListenAddresses): string {
  const { title, durationSeconds, sizeBytes, createdAt, expiresAt, peaks } = recording;
  const size = title.length > longTitle ? ' class="long"' : "";
  return lines([
    ...pageHead(title, style),
    ...previewTags(recording, addresses),
    "<main>",
    "<article>",
    `<h1 dir="auto"${size}>${escapeHtml(title)}</h1>`,
    `<p>${clock(durationSeconds)} · ${time(createdAt, date(createdAt))}</p>`,
    waveform(peaks),
    player(title, addresses),
    `<a class="download" href="${escapeHtml(addresses.download)}">Download MP3 (${megabytes(sizeBytes)})</a>`,
    ...(expiresAt ? [`<p>This link works until ${time(expiresAt, dateAndTime(expiresAt))}.</p>`] : []),
    "</article>",
    "</main>",
  ]);
}

/** The same for a frame in the page of somebody else. */
export function printFramePage(
  { title, durationSeconds, peaks }: ListenableRecording,
  addresses: ListenAddresses,
): string {
  return lines([
    ...pageHead(title, frameStyle),
    "<main>",
    "<header>",
    `<h1 dir="auto"><a href="${escapeHtml(addresses.page)}" target="_blank" rel="noopener">${escapeHtml(title)}</a></h1>`,
    `<span>${clock(durationSeconds)}</span>`,
    "</header>",
    waveform(peaks),
    player(title, addresses),
    "</main>",
  ]);
}

/** A sentence about the recording beside its title: length and date. */
export function describe({ durationSeconds, createdAt }: ListenableRecording): string {
  return `${clock(durationSeconds)}, ${date(createdAt)}`;
}

/**
 * The browser's own player. What is counted is not loaded before somebody plays, or opening the page would be a
 * download.
 */
function player(title: string, { play, download, isCounted }: ListenAddresses): string {
  const [source, label, other] = [play, title, download].map(escapeHtml);
  return (
    `<audio controls preload="${isCounted ? "none" : "metadata"}" src="${source}" aria-label="${label}">` +
    `<a href="${other}">Download the MP3</a></audio>`
  );
}

/** The waveform as decoration: whoever does not see it misses no information. */
function waveform(peaks: readonly number[]): string {
  const bars = barHeights(peaks).map((height, at) => {
    const half = Math.max(1, Math.round(height * 100));
    return `M${3 * at} ${100 - half}h2v${2 * half}h-2z`;
  });
  const [width, path] = [3 * peaks.length - 1, bars.join("")];
  return `<svg viewBox="0 0 ${width} 200" preserveAspectRatio="none" aria-hidden="true"><path d="${path}"/></svg>`;
}

/** What chats and social networks show of a link: Open Graph, the player card of Twitter, and oEmbed. */
function previewTags(
  recording: ListenableRecording,
  { page, embed, picture, oembed, audio }: ListenAddresses,
): string[] {
  const { title, durationSeconds } = recording;
  const openGraph = {
    "og:title": title,
    "og:description": describe(recording),
    "og:type": "music.song",
    "og:url": page,
    "og:image": picture,
    "og:image:type": "image/png",
    "og:image:width": pictureWidth,
    "og:image:height": pictureHeight,
    "og:image:alt": "Waveform of the recording",
    "music:duration": Math.max(1, Math.round(durationSeconds)),
    ...(audio !== undefined && { "og:audio": audio, "og:audio:type": "audio/mpeg" }),
  };
  // A player card has to be on https.
  const card = embed.startsWith("https:")
    ? {
        "twitter:card": "player",
        "twitter:player": embed,
        "twitter:player:width": frameWidth,
        "twitter:player:height": frameHeight,
      }
    : { "twitter:card": "summary_large_image" };
  return [
    `<meta name="description" content="${describe(recording)}">`,
    ...Object.entries(openGraph).map(
      ([name, text]) => `<meta property="${name}" content="${escapeHtml(String(text))}">`,
    ),
    ...Object.entries(card).map(([name, text]) => `<meta name="${name}" content="${escapeHtml(String(text))}">`),
    `<link rel="canonical" href="${escapeHtml(page)}">`,
    `<link rel="alternate" type="application/json+oembed" href="${escapeHtml(oembed)}" title="${escapeHtml(title)}">`,
  ];
}

/** A duration as players show it: 0:07, 4:07, 1:02:03. */
function clock(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const last = String(whole % 60).padStart(2, "0");
  return hours === 0 ? `${minutes}:${last}` : `${hours}:${String(minutes).padStart(2, "0")}:${last}`;
}

function time(moment: Date, text: string): string {
  return `<time datetime="${moment.toISOString()}">${text}</time>`;
}

const dates = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeZone: "UTC" });
const times = new Intl.DateTimeFormat("en-GB", { timeStyle: "short", timeZone: "UTC" });

function date(moment: Date): string {
  return dates.format(moment);
}

function dateAndTime(moment: Date): string {
  return `${date(moment)}, ${times.format(moment)} UTC`;
}

function megabytes(bytes: number): string {
  return bytes < 1e5 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function lines(parts: readonly string[]): string {
  return `${parts.join("\n")}\n`;
}
