import { isUtf8 } from "node:buffer";
import { ServiceError } from "../errors/errors.ts";
import { parameterOf, readParameters, type ParameterizedField } from "./header-parameters.ts";
import { decoded, sentFileName } from "./sent-file-name.ts";

/** What the header lines of one part say (RFC 7578 section 4). All of it comes from the client and may be untrue. */
export interface PartHead {
  readonly name: string | undefined;
  /** Undefined when none was sent, empty when none was chosen or it cannot be read. */
  readonly fileName: string | undefined;
  /** The media type, in lower case; empty when none was sent. */
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
 * Reads the header lines of a part. `Content-Disposition` need not say `form-data`; of a header that is sent twice the
 * first counts.
 *
 * @param charset of text that is not UTF-8, where the request names one
 * @throws {ServiceError} BAD_REQUEST for a line that is no header
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

/** UTF-8 wherever it can be: no other charset's text looks like it by chance. */
function textOf(bytes: Buffer, charset: string | undefined): string {
  if (isUtf8(bytes)) return bytes.toString();
  const japanese = decoded(bytes, "shift_jis");
  const isJapanese = japanese !== undefined && /[\u3041-\u30ff]/.test(japanese) && !/[\ue000-\uf8ff]/.test(japanese);
  const stated = charset === undefined ? undefined : decoded(bytes, charset);
  return stated ?? (isJapanese ? japanese : new TextDecoder("windows-1252").decode(bytes));
}
