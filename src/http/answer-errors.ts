import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { toFormattedError, toServiceError } from "../graphql/answer-errors.ts";
import { ServiceError, type ErrorCode } from "../errors.ts";

/**
 * Answers whatever a route throws in JSON: `{ "errors": [...] }` on the GraphQL route, as its clients expect, and
 * `{ "error": { "code", "message", ... } }` elsewhere.
 */
export function answerErrors(app: FastifyInstance): void {
  app.setErrorHandler(async (error: FastifyError | Error, request, reply) => {
    const failure = fromFastify(error) ?? toServiceError(error, request.id);
    if (failure.status >= 500)
      request.log.error({ err: failure.cause ?? failure, code: failure.code }, "request failed");
    return await answerError(request, reply, failure);
  });
  app.setNotFoundHandler(async (request, reply) => {
    return await answerError(request, reply, new ServiceError("NOT_FOUND", "There is nothing at this address."));
  });
}

/** Sends a failure with its status and headers. */
export async function answerError(
  request: FastifyRequest,
  reply: FastifyReply,
  failure: ServiceError,
): Promise<FastifyReply> {
  const { retryAfterSeconds } = failure.details;
  if (retryAfterSeconds !== undefined) void reply.header("retry-after", String(retryAfterSeconds));
  if (failure.status === 401) void reply.header("www-authenticate", "Bearer");
  const formatted = toFormattedError(failure);
  const body =
    request.routeOptions.url === "/graphql"
      ? { errors: [formatted] }
      : { error: { ...formatted.extensions, message: formatted.message } };
  return await reply.code(failure.status).header("cache-control", "no-store").send(body);
}

/** What Fastify itself refuses: bodies too large, not JSON, of another type, and addresses that cannot be decoded. */
function fromFastify(error: FastifyError | Error): ServiceError | undefined {
  if (!("statusCode" in error) || !error.statusCode || error.statusCode >= 500) return undefined;
  const codes: Record<number, ErrorCode> = { 413: "UPLOAD_TOO_LARGE", 415: "UNSUPPORTED_MEDIA" };
  return new ServiceError(codes[error.statusCode] ?? "BAD_REQUEST", error.message.replace(/\.?$/, "."));
}
