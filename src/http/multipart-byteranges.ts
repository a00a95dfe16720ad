import { v4 as uuidv4 } from "uuid";
import type { ByteInterval } from "./byte-range.ts";

/** The body of a 206 with several ranges: the texts between the ranges, and the positions of the ranges in the file. */
interface MultipartByteranges {
  readonly contentType: string;
  readonly contentLength: number;
  readonly parts: readonly (Buffer | ByteInterval)[];
}

/** Puts several ranges of a file of `sizeBytes` into one `multipart/byteranges` body (RFC 9110 section 14.6). */
export function multipartByteranges(
  ranges: readonly ByteInterval[],
  sizeBytes: number,
  contentType: string,
): MultipartByteranges {
  const boundary = uuidv4();
  const parts = ranges.flatMap(({ start, end }) => [
    Buffer.from(
      `\r\n--${boundary}\r\nContent-Type: ${contentType}\r\nContent-Range: bytes ${start}-${end}/${sizeBytes}\r\n\r\n`,
    ),
    { start, end },
  ]);
  const body = [...parts, Buffer.from(`\r\n--${boundary}--\r\n`)];
  return { contentType: `multipart/byteranges; boundary=${boundary}`, contentLength: byteLengthOf(body), parts: body };
}

/** Number of bytes in a body. */
export function byteLengthOf(body: readonly (Buffer | ByteInterval)[]): number {
  return body.reduce((sum, part) => sum + ("start" in part ? part.end - part.start + 1 : part.length), 0);
}
