import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { headersOf, ServiceError } from "../errors.ts";
import { logFailure, toFormattedError, toServiceError } from "../failures.ts";

/**
 * Answers whatever a route throws in JSON: `{ "errors": [...] }` on the GraphQL route, as its clients expect, and
 * `{ "error": { "code", "message", ... } }` elsewhere.
 */
export function answerErrors(app: FastifyInstance): void {
  app.setErrorHandler(async (error: FastifyError | Error, request, reply) => {
    const failure = fromFastify(error, app.initialConfig.bodyLimit!) ?? toServiceError(error, request.id);
    logFailure(request.log, failure);
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
  void reply.headers(headersOf(failure));
  const formatted = toFormattedError(failure);
  const body =
    request.routeOptions.url === "/graphql"
      ? { errors: [formatted] }
      : { error: { ...formatted.extensions, message: formatted.message } };
  return await reply.code(failure.status).header("cache-control", "no-store").send(body);
}

/** What Fastify itself refuses: bodies too large, not JSON, of another type, and addresses that cannot be decoded. */
function fromFastify(error: FastifyError | Error, maxBytes: number): ServiceError | undefined {
  if (!("statusCode" in error) || !error.statusCode || error.statusCode >= 500) return undefined;
  if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return new ServiceError("REQUEST_TOO_LARGE", `The request has more than ${maxBytes} bytes.`, { maxBytes });
  }
  if (error.statusCode === 415) {
    return new ServiceError("UNSUPPORTED_MEDIA", "Send application/json, or multipart/form-data for a file.");
  }
  return new ServiceError("BAD_REQUEST", "The request's body is not what its headers say, or not JSON.");
}
