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

const style = `:root{color-scheme:light dark;font:1.125rem/1.5 system-ui,sans-serif}
body{margin:0 auto;max-width:36rem;padding:12vh 1.5rem 2rem;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.3}
small{opacity:.7}`;

const policy = `default-src 'none';style-src 'sha256-${createHash("sha256").update(style).digest("base64")}';base-uri 'none';form-action 'none'`;

/** Sends a page. Other origins may show it in a frame if the route is open to other origins. */
export async function sendPage(reply: FastifyReply, page: Page): Promise<FastifyReply> {
  addVary(reply, "Accept");
  const isForOtherOrigins = reply.getHeader("cross-origin-resource-policy") === "cross-origin";
  if (isForOtherOrigins) void reply.removeHeader("x-frame-options").removeHeader("cross-origin-opener-policy");
  return await reply
    .header("content-security-policy", isForOtherOrigins ? policy : `${policy};frame-ancestors 'none'`)
    .header("x-robots-tag", "noindex")
    .type("text/html; charset=utf-8")
    .send(printPage(page));
}

function printPage({ heading, paragraphs, note, links = {} }: Page): string {
  const lines = [
    "<!doctype html>",
    '<html lang="en">',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="robots" content="noindex">',
    `<title>${escapeHtml(heading)}</title>`,
    `<style>${style}</style>`,
    `<h1>${escapeHtml(heading)}</h1>`,
    ...paragraphs.map((paragraph) => `<p>${escapeHtml(paragraph)}</p>`),
    ...Object.entries(links).map(([text, href]) => `<p><a href="${escapeHtml(href)}">${escapeHtml(text)}</a></p>`),
    ...(note === undefined ? [] : [`<p><small>${escapeHtml(note)}</small></p>`]),
  ];
  return `${lines.join("\n")}\n`;
}

function escapeHtml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");
}
