import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { graphqlAnswerType } from "../accept-header.ts";
import { headersOf, ServiceError } from "../errors.ts";
import { logFailure, toFormattedError, toServiceError } from "../failures.ts";

/**
 * Answers whatever a route throws in JSON: `{ "errors": [...] }` on the GraphQL route, in the form that the client
 * asked for, and `{ "error": { "code", "message", ... } }` elsewhere.
 */
export function answerErrors(app: FastifyInstance): void {
  app.setErrorHandler(async (error: FastifyError | Error, request, reply) => {
    const failure = fromFastify(error, app.initialConfig.bodyLimit!) ?? toServiceError(error);
    logFailure(request.log, failure);
    return await answerError(request, reply, failure);
  });
  const methodsOf = new Map<string, string[]>();
  app.addHook("onRoute", ({ url, method }) => {
    methodsOf.set(url, [...new Set([...(methodsOf.get(url) ?? []), method].flat())]);
  });
  app.setNotFoundHandler(async (request, reply) => {
    const methods = methodsOf.get(pathOf(request));
    if (!methods) {
      return await answerError(request, reply, new ServiceError("NOT_FOUND", "There is nothing at this address."));
    }
    const sentence = `This address does not know the method ${request.method}; it knows ${methods.join(", ")}.`;
    return await answerError(
      request,
      reply.header("allow", methods.join(", ")),
      new ServiceError("METHOD_NOT_ALLOWED", sentence),
    );
  });
}

/** Sends a failure with its status and headers. */
export async function answerError(
  request: FastifyRequest,
  reply: FastifyReply,
  failure: ServiceError,
): Promise<FastifyReply> {
  void reply.code(failure.status).headers(headersOf(failure)).header("cache-control", "no-store");
  const formatted = toFormattedError(failure, request.id);
  if (pathOf(request) !== "/graphql") {
    return await reply.send({ error: { ...formatted.extensions, message: formatted.message } });
  }
  const contentType = graphqlAnswerType(request.headers.accept);
  if (contentType !== undefined) void reply.type(contentType);
  return await reply.send({ errors: [formatted] });
}

function pathOf({ url }: FastifyRequest): string {
  return url.split("?", 1)[0]!;
}

/** What Fastify itself refuses: bodies too large, not JSON, of another type, and addresses that cannot be decoded. */
function fromFastify(error: FastifyError | Error, maxBytes: number): ServiceError | undefined {
  if (!("statusCode" in error) || !error.statusCode || error.statusCode >= 500) return undefined;
  if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return new ServiceError(
      "REQUEST_TOO_LARGE",
      `A JSON body may have at most ${maxBytes} bytes. A file is sent as multipart/form-data.`,
      { maxBytes },
    );
  }
  if (error.statusCode === 415) {
    return new ServiceError("UNSUPPORTED_MEDIA", "Send application/json, or multipart/form-data for a file.");
  }
  const sentence = bodyFaults[error.code ?? ""] ?? "The request's body is not what its headers say.";
  return new ServiceError("BAD_REQUEST", sentence);
}

const bodyFaults: Readonly<Record<string, string | undefined>> = {
  FST_ERR_CTP_EMPTY_JSON_BODY: "The body is empty, and the content type says JSON.",
  FST_ERR_CTP_INVALID_JSON_BODY: "The body is not JSON.",
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: "The body has not as many bytes as the header Content-Length says.",
};
