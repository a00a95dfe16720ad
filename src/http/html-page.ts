import type { FastifyReply } from "fastify";
import Negotiator from "negotiator";
import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { addVary } from "./vary.ts";

/** A page for people: what happened, and what they can do. All fields are plain text. */
export interface Page {
  readonly heading: string;
  readonly paragraphs: readonly string[];
  /** Small print at the end, for support. */
  readonly note?: string;
  /** Addresses of links, by link text. */
  readonly links?: Readonly<Record<string, string>>;
}

/**
 * Start of the default `Accept` header of Java's HttpURLConnection. It is a program's header, although it begins like a
 * browser's.
 */
const javaAccept = "text/html, image/gif, image/jpeg, ";

/** Whether the client prefers HTML to JSON. Browsers do; programs accept anything or name JSON. */
export function prefersHtml(headers: IncomingHttpHeaders): boolean {
  if (headers.accept === undefined || headers.accept.startsWith(javaAccept)) return false;
  return new Negotiator({ headers }).mediaType(["application/json", "text/html"]) === "text/html";
}

/** The colours and letters of every page, light and dark. Each pair has the contrast of WCAG 2.2 AA. */
export const commonStyle = `:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif;
--paper:#faf9f7;--card:#fff;--line:#e5e0da;--ink:#1c1b1a;--ink-2:#57534e;--edge:#837d76;--accent:#0a6b66;--focus:#1456c4}
@media (prefers-color-scheme:dark){:root{
--paper:#151413;--card:#1f1d1c;--line:#33302d;--ink:#f2efec;--ink-2:#b9b3ac;--edge:#8d867f;--accent:#62d2c8;--focus:#8ab6ff}}
body{margin:0;background:var(--paper);color:var(--ink);overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.3;margin:0}
a{color:var(--accent)}
:focus-visible{outline:3px solid var(--focus);outline-offset:2px}`;

/** The source of a style in a Content Security Policy: its hash, so that no other style counts. */
export function styleSource(style: string): string {
  return `'sha256-${createHash("sha256").update(style).digest("base64")}'`;
}

const style = `${commonStyle}
main{max-width:36rem;margin:0 auto;padding:12vh 1.5rem 2rem;font-size:1.125rem}
small{color:var(--ink-2)}`;

const policy = `default-src 'none';style-src ${styleSource(style)};base-uri 'none';form-action 'none'`;

/** Sends a page. Other origins may show it in a frame if the route is open to other origins. */
export async function sendPage(reply: FastifyReply, page: Page): Promise<FastifyReply> {
  addVary(reply, "Accept");
  const isForOtherOrigins = reply.getHeader("cross-origin-resource-policy") === "cross-origin";
  if (isForOtherOrigins) void reply.removeHeader("x-frame-options").removeHeader("cross-origin-opener-policy");
  return await reply
    .header("content-security-policy", isForOtherOrigins ? policy : `${policy};frame-ancestors 'none'`)
    .header("x-robots-tag", "noindex")
    .type("text/html; charset=utf-8")
    .send(printPage(page, isForOtherOrigins));
}

/** @param isInFrame whether it may be in a frame, in which the pages behind its links may not be shown */
function printPage({ heading, paragraphs, note, links = {} }: Page, isInFrame: boolean): string {
  const target = isInFrame ? ' target="_blank" rel="noopener"' : "";
  const lines = [
    ...pageHead(heading, style),
    "<main>",
    `<h1>${escapeHtml(heading)}</h1>`,
    ...paragraphs.map((paragraph) => `<p>${escapeHtml(paragraph)}</p>`),
    ...Object.entries(links).map(
      ([text, href]) => `<p><a href="${escapeHtml(href)}"${target}>${escapeHtml(text)}</a></p>`,
    ),
    ...(note === undefined ? [] : [`<p><small>${escapeHtml(note)}</small></p>`]),
    "</main>",
  ];
  return `${lines.join("\n")}\n`;
}

/** The first lines of a page. More elements of its head may follow. */
export function pageHead(title: string, style: string): string[] {
  return [
    "<!doctype html>",
    '<html lang="en">',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="robots" content="noindex">',
    `<title>${escapeHtml(title)}</title>`,
    `<style>${style}</style>`,
  ];
}

/** Escapes a text for HTML, as text of an element and in a quoted attribute. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");
}
