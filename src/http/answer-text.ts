import type { FastifyReply, FastifyRequest } from "fastify";
import { createHash } from "node:crypto";
import { ServiceError } from "../errors/errors.ts";
import { tagOfClient, withoutEncodings } from "./compression.ts";
import { checkPreconditions } from "./conditional-request.ts";
import { addVary } from "./vary.ts";

/** A text, or a small file, that clients may cache. */
interface KeepableText {
  readonly body: string | Buffer;
  readonly contentType: string;
  /** If missing, conditions on dates are ignored (RFC 9110 section 13.1.3). */
  readonly lastModified?: Date;
  readonly cacheControl: string;
}

/**
 * Sends a text with validators, or 304 if the client already has it. Its route must handle `HEAD` explicitly: the
 * `HEAD` route that Fastify adds by itself does not compress.
 * @throws {ServiceError} PRECONDITION_FAILED if a condition of the request does not hold
 */
export async function answerText(
  { headers }: FastifyRequest,
  reply: FastifyReply,
  { body, contentType, lastModified, cacheControl }: KeepableText,
): Promise<FastifyReply> {
  const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 27)}"`;
  const { "if-modified-since": _, "if-unmodified-since": __, ...withoutDates } = headers;
  const precondition = checkPreconditions(withoutEncodings(lastModified ? headers : withoutDates), {
    etag,
    lastModified: lastModified ?? new Date(),
  });
  if (precondition === "failed") {
    throw new ServiceError("PRECONDITION_FAILED", "The file does not meet the conditions in the request headers.");
  }
  void reply.headers({ "cache-control": cacheControl, etag });
  if (lastModified) void reply.header("last-modified", lastModified.toUTCString());
  if (precondition === "proceed") return await reply.type(contentType).send(body);
  addVary(reply, "accept-encoding");
  return await reply.code(304).header("etag", tagOfClient(headers, etag)).send();
}
