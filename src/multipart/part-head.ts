import { isUtf8 } from "node:buffer";
import { ServiceError } from "../errors/errors.ts";
import { parameterOf, readParameters, type ParameterizedField } from "./header-parameters.ts";
import { decoded, sentFileName } from "./sent-file-name.ts";

/** The header lines of one part (RFC 7578 section 4). They come from the client and cannot be trusted. */
export interface PartHead {
  readonly name: string | undefined;
  /** Undefined if none was sent; empty if none was chosen or it cannot be decoded. */
  readonly fileName: string | undefined;
  /** The media type, in lower case; empty if none was sent. */
  readonly type: string;
  /** In lower case. */
  readonly charset: string | undefined;
  /** `Content-Transfer-Encoding`, in lower case. */
  readonly transferEncoding: string;
  /** `Content-Encoding`, in lower case. */
  readonly contentEncoding: string;
}

const token = /^[!#$%&'*+.^_`|~\w-]+$/;

/**
 * Reads the header lines of a part. `Content-Disposition` need not be `form-data`. If a header is sent twice, the first
 * one counts.
 *
 * @param charset the charset of text that is not UTF-8, if the request states one
 * @throws {ServiceError} BAD_REQUEST for a line that is not a header
 */
export function readPartHead(bytes: Buffer, charset?: string): PartHead {
  const headers = new Map<string, string>();
  // A line that begins with white space continues the one before it (RFC 5322 section 2.2.3).
  for (const line of textOf(bytes, charset)
    .replaceAll(/\r?\n[ \t]+/g, " ")
    .split(/\r?\n/)) {
    if (line.trim() === "") continue;
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(0, colon)).trim().toLowerCase();
    if (!token.test(name)) {
      throw new ServiceError("BAD_REQUEST", "A part of the multipart body has a line before it that is not a header.");
    }
    if (!headers.has(name)) headers.set(name, line.slice(colon + 1).trim());
  }
  const field = (name: string): ParameterizedField => readParameters(headers.get(name) ?? "");
  const disposition = field("content-disposition");
  const contentType = field("content-type");
  return {
    name: parameterOf(disposition, "name"),
    fileName: sentFileName(disposition.parameters),
    type: contentType.value,
    charset: parameterOf(contentType, "charset")?.toLowerCase(),
    transferEncoding: field("content-transfer-encoding").value,
    contentEncoding: field("content-encoding").value,
  };
}

/** Decodes as UTF-8 if possible: text in other charsets is not valid UTF-8 by chance. */
function textOf(bytes: Buffer, charset: string | undefined): string {
  if (isUtf8(bytes)) return bytes.toString();
  const japanese = decoded(bytes, "shift_jis");
  const isJapanese = japanese !== undefined && /[\u3041-\u30ff]/.test(japanese) && !/[\ue000-\uf8ff]/.test(japanese);
  const stated = charset === undefined ? undefined : decoded(bytes, charset);
  return stated ?? (isJapanese ? japanese : new TextDecoder("windows-1252").decode(bytes));
}
