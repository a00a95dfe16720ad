import type { IncomingHttpHeaders } from "node:http";
import { parseHttpDate } from "./http-date.ts";

/** What tells one state of a file from another (RFC 9110 section 8.8). */
export interface Validators {
  /** A strong entity-tag with its quotes. */
  readonly etag: string;
  readonly lastModified: Date;
}

/** What the conditions of a `GET` or `HEAD` lead to. */
export type Precondition = "proceed" | "not modified" | "failed";

/** One element of a list, which may be empty, and what ends it: matched one by one, so that no text takes long. */
const listElement = /[ \t]*(?:((?:W\/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*)?(,|$)/y;

/** Weighs the conditions of a `GET` or `HEAD` on a file that exists, in the order of RFC 9110 section 13.2.2. */
export function checkPreconditions(headers: IncomingHttpHeaders, { etag, lastModified }: Validators): Precondition {
  const ifMatch = headers["if-match"];
  const ifNoneMatch = headers["if-none-match"];
  const modifiedAt = wholeSeconds(lastModified);
  if (ifMatch !== undefined) {
    if (ifMatch !== "*" && !entityTags(ifMatch).includes(etag)) return "failed";
  } else {
    const unmodifiedSince = parseHttpDate(headers["if-unmodified-since"] ?? "");
    if (unmodifiedSince !== undefined && modifiedAt > unmodifiedSince) return "failed";
  }
  if (ifNoneMatch !== undefined) {
    const isKnown = ifNoneMatch === "*" || entityTags(ifNoneMatch).some((tag) => tag.replace(/^W\//, "") === etag);
    return isKnown ? "not modified" : "proceed";
  }
  const modifiedSince = parseHttpDate(headers["if-modified-since"] ?? "");
  return modifiedSince !== undefined && modifiedAt <= modifiedSince ? "not modified" : "proceed";
}

/**
 * Whether a `Range` beside this `If-Range` field counts (RFC 9110 section 13.1.5): without the field always, else only
 * if it is the file's own entity-tag or exactly its date. A file that never changes makes its date a strong validator.
 */
export function ifRangeHolds(ifRange: IncomingHttpHeaders[string], { etag, lastModified }: Validators): boolean {
  if (typeof ifRange !== "string") return ifRange === undefined;
  return ifRange === etag || parseHttpDate(ifRange) === wholeSeconds(lastModified);
}

/** The tags of a list; none if it is malformed. */
function entityTags(list: string): string[] {
  const tags: string[] = [];
  listElement.lastIndex = 0;
  for (;;) {
    const element = listElement.exec(list);
    if (!element) return [];
    const [, tag, end] = element;
    if (tag !== undefined) tags.push(tag);
    if (end === "") return tags;
  }
}

/** HTTP-dates have no fractions of a second. */
function wholeSeconds(date: Date): number {
  return Math.floor(date.getTime() / 1000) * 1000;
}
