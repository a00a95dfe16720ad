import type { IncomingHttpHeaders } from "node:http";
import { parseHttpDate } from "./http-date.ts";

/** Validators, which distinguish states of a file (RFC 9110 section 8.8). */
interface Validators {
  /** A strong entity tag, including its quotes. */
  readonly etag: string;
  readonly lastModified: Date;
}

/** Result of the conditions of a `GET` or `HEAD`. */
type Precondition = "proceed" | "not modified" | "failed";

/**
 * One element of a list, which may be empty, and its end. Elements are matched one by one, so that no text takes long.
 */
const listElement = /[ \t]*(?:((?:W\/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*)?(,|$)/y;

/** Evaluates the conditions of a `GET` or `HEAD` on an existing file, in the order of RFC 9110 section 13.2.2. */
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
 * Whether a `Range` counts with this `If-Range` field (RFC 9110 section 13.1.5): always without the field, otherwise
 * only if the field is the file's entity tag or exactly its date. The date is a strong validator, because files never
 * change.
 */
export function ifRangeHolds(ifRange: IncomingHttpHeaders[string], { etag, lastModified }: Validators): boolean {
  if (typeof ifRange !== "string") return ifRange === undefined;
  return ifRange === etag || parseHttpDate(ifRange) === wholeSeconds(lastModified);
}

/** The entity tags of a list; none if the list is malformed. */
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

/** Rounds down to whole seconds, because HTTP dates have no fractions. */
function wholeSeconds(date: Date): number {
  return Math.floor(date.getTime() / 1000) * 1000;
}
