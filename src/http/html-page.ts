import type { FastifyReply } from "fastify";
import Negotiator from "negotiator";
import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { addVary } from "./vary.ts";

/** A page for people: a sentence, and what they can do. Plain text throughout. */
export interface Page {
  readonly heading: string;
  readonly paragraphs: readonly string[];
  /** For those who help: small, at the end. */
  readonly note?: string;
  /** Addresses to go on to, by what is written on them. */
  readonly links?: Readonly<Record<string, string>>;
}

/** What Java's HttpURLConnection sends unless told otherwise: a program's, though it begins like a browser's. */
const javaAccept = "text/html, image/gif, image/jpeg, ";

/** Whether the client would rather read HTML than JSON: browsers say so, programs take anything or name JSON. */
export function prefersHtml(headers: IncomingHttpHeaders): boolean {
  if (headers.accept === undefined || headers.accept.startsWith(javaAccept)) return false;
  return new Negotiator({ headers }).mediaType(["application/json", "text/html"]) === "text/html";
}

const style = `:root{color-scheme:light dark;font:1.125rem/1.5 system-ui,sans-serif}
body{margin:0 auto;max-width:36rem;padding:12vh 1.5rem 2rem;overflow-wrap:anywhere}
h1{font-size:1.5rem;line-height:1.3}
small{opacity:.7}`;

const policy = `default-src 'none';style-src 'sha256-${createHash("sha256").update(style).digest("base64")}';base-uri 'none';form-action 'none'`;

/** Sends a page. It may stand in a frame of another origin where the answer may be used by other origins at all. */
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
