import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { ByteInterval } from "../http/byte-range.ts";
import { parseByteRange } from "../http/byte-range.ts";
import { checkPreconditions, ifRangeHolds } from "../http/conditional-request.ts";
import { byteLengthOf, multipartByteranges } from "../http/multipart-byteranges.ts";
import { contentDisposition } from "../record/file-name.ts";

/** The properties of a recording and its link that determine the response. */
export interface LinkedRecord {
  /**
   * The recording's UUID. The ETag is its hash, with the gain: it does not reveal the id, and with one gain the bytes
   * of a recording never change.
   */
  readonly id: string;
  /** The steps of gain that are applied to the stored frames. */
  readonly gainSteps: number;
  readonly sizeBytes: number;
  readonly lastModified: Date;
  /** The file name for saving it, with its extension. */
  readonly fileName: string;
  /** Whether to play it instead of saving it. */
  readonly inline: boolean;
  /** The `Cache-Control` of the response. */
  readonly cacheControl: string;
}

/** A response to a link, before the bytes are read. */
export interface RecordAnswer {
  readonly status: 200 | 204 | 206 | 304 | 405 | 412 | 416;
  readonly headers: Readonly<Record<string, string>>;
  /** The body: given bytes and ranges of the MP3. Empty for `HEAD` and if there is nothing to send. */
  readonly body: readonly (Buffer | ByteInterval)[];
}

const mediaType = "audio/mpeg";
const allow = "GET, HEAD, OPTIONS";

/** Any page may play a link: the link itself is the permission, and no cookies are used. */
export const crossOriginHeaders = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers":
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Retry-After, X-Request-Id",
  "cross-origin-resource-policy": "cross-origin",
  "x-content-type-options": "nosniff",
};

/** The response to a method other than `GET` and `HEAD`, which needs no recording; undefined for these two. */
export function answerOtherMethod(method: string): RecordAnswer | undefined {
  if (method === "GET" || method === "HEAD") return undefined;
  if (method !== "OPTIONS") {
    return { status: 405, headers: { ...crossOriginHeaders, allow, "content-length": "0" }, body: [] };
  }
  const headers = {
    ...crossOriginHeaders,
    allow,
    "access-control-allow-methods": allow,
    // `*` does not include Authorization, and older browsers do not support it.
    "access-control-allow-headers":
      "*, Authorization, Range, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since, If-Range, Cache-Control",
    "access-control-allow-private-network": "true",
    "access-control-max-age": "86400",
  };
  return { status: 204, headers, body: [] };
}

/** The response to a `GET` or `HEAD` for an existing recording (RFC 9110 sections 13 and 14). */
export function answerRecord(method: "GET" | "HEAD", request: IncomingHttpHeaders, record: LinkedRecord): RecordAnswer {
  const { sizeBytes, lastModified } = record;
  const version = record.gainSteps === 0 ? record.id : `${record.id} ${record.gainSteps}`;
  const etag = `"${createHash("sha256").update(version).digest("base64url").slice(0, 27)}"`;
  const stateHeaders = {
    ...crossOriginHeaders,
    "accept-ranges": "bytes",
    "cache-control": record.cacheControl,
    etag,
    "last-modified": lastModified.toUTCString(),
    // Also with a 304, which updates the stored response (RFC 9111 section 3.2), because the name may have changed.
    "content-disposition": contentDisposition(record.fileName, record.inline),
  };

  const precondition = checkPreconditions(request, { etag, lastModified });
  if (precondition === "failed") return refusal(412);
  if (precondition === "not modified") return { status: 304, headers: stateHeaders, body: [] };

  const headers = { ...stateHeaders, "content-type": mediaType };
  const whole: RecordAnswer = {
    status: 200,
    headers: { ...headers, "content-length": String(sizeBytes) },
    body: method === "HEAD" || sizeBytes === 0 ? [] : [{ start: 0, end: sizeBytes - 1 }],
  };
  // Only GET has ranges (RFC 9110 section 14.2).
  if (method === "HEAD" || !ifRangeHolds(request["if-range"], { etag, lastModified })) return whole;
  const ranges = parseByteRange(request.range, sizeBytes);
  if (ranges === undefined) return whole;
  const [range] = ranges;
  if (range === undefined) return refusal(416, { "content-range": `bytes */${sizeBytes}` });
  if (ranges.length === 1) {
    return {
      status: 206,
      headers: {
        ...headers,
        "content-length": String(byteLengthOf(ranges)),
        "content-range": `bytes ${range.start}-${range.end}/${sizeBytes}`,
      },
      body: ranges,
    };
  }
  const { contentType, contentLength, parts } = multipartByteranges(ranges, sizeBytes, mediaType);
  if (contentLength >= sizeBytes) return whole;
  return {
    status: 206,
    headers: { ...headers, "content-type": contentType, "content-length": String(contentLength) },
    body: parts,
  };
}

/** Yields the parts of a body, from an offset on. `read` reads a range of the MP3. */
export async function* readBody(
  body: RecordAnswer["body"],
  from: number,
  read: (range: ByteInterval) => AsyncIterable<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  let skipped = 0;
  for (const part of body) {
    const partBytes = "start" in part ? part.end - part.start + 1 : part.length;
    const offset = Math.min(partBytes, from - skipped);
    skipped += offset;
    if (offset === partBytes) continue;
    if ("start" in part) yield* read({ start: part.start + offset, end: part.end });
    else yield part.subarray(offset);
  }
}

function refusal(status: 412 | 416, headers: Readonly<Record<string, string>> = {}): RecordAnswer {
  return {
    status,
    headers: {
      ...crossOriginHeaders,
      "accept-ranges": "bytes",
      "cache-control": "no-store",
      "content-length": "0",
      ...headers,
    },
    body: [],
  };
}
