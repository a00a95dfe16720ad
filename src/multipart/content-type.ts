import { ServiceError } from "../errors/errors.ts";
import { readParameters } from "./header-parameters.ts";

/**
 * Reads the boundary from a `Content-Type`, and the charset that some clients add.
 * @throws {ServiceError} BAD_REQUEST if it is not multipart/form-data with one boundary
 */
export function readContentType(contentType: string): { boundary: string; charset: string | undefined } {
  const { value, parameters } = readParameters(contentType);
  const valuesOf = (name: string) =>
    parameters.filter((parameter) => parameter.name === name).map(({ value }) => value);
  const [boundary, ...more] = valuesOf("boundary");
  if (value !== "multipart/form-data") throw badRequest("The content type must be multipart/form-data.");
  if (!boundary) {
    throw badRequest(
      "The Content-Type has no boundary. Do not set this header yourself: the client adds it together with the boundary.",
    );
  }
  if (more.length > 0) throw badRequest("The Content-Type has two boundaries. Send one.");
  // RFC 2046 section 5.1.1
  if (boundary.length > 70) throw badRequest("The boundary in the Content-Type must have 1 to 70 characters.");
  return { boundary, charset: valuesOf("charset")[0] };
}

function badRequest(sentence: string): ServiceError {
  return new ServiceError("BAD_REQUEST", sentence);
}
