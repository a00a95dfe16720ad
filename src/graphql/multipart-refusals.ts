import { ServiceError } from "../errors/errors.ts";
import type { PartHead } from "../multipart/part-head.ts";
import { quoted } from "./multipart-fields.ts";

/** The parts of a request, in the order that the specification requires. */
export const places = ["operations", "map", "file"] as const;

const order = "Send `operations`, then `map`, then the file, and nothing else.";

/** Encodings of a part that do not change its bytes. */
const plainEncodings = new Set(["", "7bit", "8bit", "binary", "identity"]);

/** @throws {ServiceError} UNSUPPORTED_MEDIA for a part whose bytes are encoded */
export function refuseEncoded({ name = "", transferEncoding, contentEncoding }: PartHead): void {
  for (const [header, encoding] of [
    ["Content-Transfer-Encoding", transferEncoding],
    ["Content-Encoding", contentEncoding],
  ] as const) {
    if (plainEncodings.has(encoding)) continue;
    throw new ServiceError(
      "UNSUPPORTED_MEDIA",
      `The part ${quoted(name)} has the ${header} ${quoted(encoding)}. Send its bytes unencoded.`,
    );
  }
}

/** The error for a part that is not the one that must come at this place. */
export function unexpectedPart(
  head: PartHead,
  place: (typeof places)[number] | undefined,
  name: string | undefined,
): ServiceError {
  const { name: sent, fileName } = head;
  const found =
    sent === undefined ? "a part without a name" : `the ${fileName === undefined ? "field" : "file"} ${quoted(sent)}`;
  if (place === undefined || name === undefined) {
    return badRequest(
      `One request carries one file, but ${found} follows it. Send one request for each file, and no field after it.`,
    );
  }
  if (place === "file") {
    return badRequest(
      `\`map\` names the file ${quoted(name)}, but ${found} follows. Give the file's part that name. ${order}`,
    );
  }
  const position = place === "operations" ? "first" : "second";
  return badRequest(`The ${position} part of the multipart body must be \`${place}\`, but it is ${found}. ${order}`);
}

/** The error for a body that ends after so many parts. */
export function missingPart(parts: number, fileField: string): ServiceError {
  if (parts === 2) {
    return badRequest(`\`map\` names the file ${quoted(fileField)}, but no part with that name follows. ${order}`);
  }
  return badRequest(`The multipart body has no part \`${places[parts]}\`. ${order}`);
}

/** The error for a body that ends before its last boundary, and before the file began. */
export function endsTooEarly(begun: boolean, receivedBytes: number): ServiceError {
  if (begun)
    return badRequest(
      "The multipart body ended before its last boundary, so it is incomplete. Send the complete request.",
    );
  if (receivedBytes === 0) return badRequest(`The multipart body is empty. ${order}`);
  return badRequest(
    "The boundary of the Content-Type does not occur in the body. Do not set this header yourself: the client adds it.",
  );
}

/** @throws {ServiceError} if a form or an app has sent nothing, or a text such as `undefined`, instead of a file */
export function refuseText(content: Buffer, head: PartHead | undefined): void {
  const part = `the part ${quoted(head?.name ?? "")}`;
  if (content.length === 0) {
    throw new ServiceError("UPLOAD_INCOMPLETE", `No file was chosen: ${part} has no file name and no content.`);
  }
  const mayBeField = head?.fileName === undefined && /^(?:text\/plain)?$/.test(head?.type ?? "");
  // Even such a short WAV is not text: its sizes contain zero bytes.
  if (!mayBeField || !/^[\P{Cc}\s]+$/u.test(content.toString()) || /^R(?:IFF|IFX|F64)|^BW64/.test(content.toString()))
    return;
  throw badRequest(
    `Text was sent instead of a file: ${part} is ${quoted(content.toString())}. Append a File or a Blob.`,
  );
}

function badRequest(sentence: string): ServiceError {
  return new ServiceError("BAD_REQUEST", sentence);
}
