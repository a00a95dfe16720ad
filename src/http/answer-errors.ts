import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { graphqlAnswerType } from "./accept-header.ts";
import { clientGone } from "./answer-memory.ts";
import { headersOf, ServiceError, type ErrorCode } from "../errors/errors.ts";
import type { Config } from "../settings/config.ts";
import { logFailure, toFormattedError, toServiceError } from "./failures.ts";
import { prefersHtml, sendPage, type Page } from "./html-page.ts";
import { pathOfOrigin } from "./request-origin.ts";
import { addVary } from "./vary.ts";

declare module "fastify" {
  interface FastifyInstance {
    /** Path of the page that records and uploads; undefined if it is off. */
    readonly webPagePath: string | undefined;
  }
}

const nothingHere = "Nothing exists at this address.";
const whereTheApiIs = "The API is at /graphql, and its schema at /schema.graphql.";

/**
 * Answers every error that a route throws. On the GraphQL route the body is `{ "errors": [...] }`, in the type that the
 * client asked for; elsewhere it is `{ "error": { "code", "message", ... } }`. A person who opened the address in a
 * browser gets a page, which leads to the web page if there is one.
 */
export function answerErrors(
  app: FastifyInstance,
  { webPage, publicUrl }: Pick<Config, "webPage" | "publicUrl">,
): void {
  app.decorate("webPagePath", webPage ? `${publicUrl === undefined ? "" : pathOfOrigin(publicUrl)}/` : undefined);
  app.setErrorHandler(async (error: FastifyError | Error, request, reply) => {
    const failure = fromFastify(error, app.initialConfig.bodyLimit!) ?? failureOf(error, reply);
    logFailure(request.log, failure);
    return await answerError(request, reply, failure);
  });
  const methodsOf = new Map<string, string[]>();
  app.addHook("onRoute", ({ url, method }) => {
    methodsOf.set(url, [...new Set([...(methodsOf.get(url) ?? []), method].flat())]);
  });
  app.setNotFoundHandler(async (request, reply) => {
    const meant = meantAddress(request, methodsOf);
    if (meant !== undefined) return await reply.redirect(meant, 308);
    const methods = methodsOf.get(pathOf(request));
    if (!methods) {
      const message = prefersHtml(request.headers) ? nothingHere : `${nothingHere} ${whereTheApiIs}`;
      return await answerError(request, reply, new ServiceError("NOT_FOUND", message));
    }
    // Not a preflight, but a request for the methods of this address (RFC 9110 section 9.3.7).
    if (request.method === "OPTIONS") {
      return await reply
        .code(204)
        .header("allow", [...methods, "OPTIONS"].join(", "))
        .send();
    }
    const refusal = `This address does not support the method ${request.method}. Use ${methods.join(", ")}.`;
    const sentence = request.method === "POST" ? `${refusal} ${whereTheApiIs}` : refusal;
    return await answerError(
      request,
      reply.header("allow", methods.join(", ")),
      new ServiceError("METHOD_NOT_ALLOWED", sentence),
    );
  });
}

/**
 * Converts an error of a route to one that its client may see. Fastify also reports as an error that it gave up the bytes
 * of a response because the client is gone.
 */
export function failureOf(error: Error, { raw }: FastifyReply): ServiceError {
  const isGivenUp = "code" in error && error.code === "ERR_STREAM_PREMATURE_CLOSE";
  return isGivenUp && raw.closed ? clientGone() : toServiceError(error);
}

/** Sends an error with its status and headers. */
export async function answerError(
  request: FastifyRequest,
  reply: FastifyReply,
  failure: ServiceError,
): Promise<FastifyReply> {
  void reply.code(failure.status).headers(headersOf(failure)).header("cache-control", "no-store");
  const formatted = toFormattedError(failure, request.id);
  if (pathOf(request) === "/graphql") {
    const contentType = graphqlAnswerType(request.headers.accept);
    if (contentType !== undefined) void reply.type(contentType);
    return await reply.send({ errors: [formatted] });
  }
  if (prefersHtml(request.headers)) {
    return await sendPage(reply, pageOf(failure, request.id, request.server.webPagePath));
  }
  addVary(reply, "Accept");
  return await reply.send({ error: { ...formatted.extensions, message: formatted.message } });
}

/** The path as the router reads it, without extra slashes. */
function pathOf({ url }: FastifyRequest): string {
  return url
    .split("?", 1)[0]!
    .replaceAll(/\/{2,}/g, "/")
    .replace(/(?<=.)\/$/, "");
}

/** What people can do about an error. For other codes, the message says it. */
const advice: Readonly<Partial<Record<ErrorCode, string>>> = {
  NOT_FOUND:
    "Check that the address is complete. The recording may have been deleted or made private, or the link may have been revoked. Ask the person who gave you the link.",
  GONE: "Ask the person who gave you the link for a new one.",
  BAD_USER_INPUT: "Copy the whole link and open it again, or ask the person who gave it to you.",
  BAD_REQUEST: "The address was changed. Copy the whole link, or ask for it again.",
  METHOD_NOT_ALLOWED: "Open the address in the browser instead of sending a form to it.",
  RANGE_NOT_SATISFIABLE: "Open the link again from the start.",
  PRECONDITION_FAILED: "Open the link again.",
  INTERNAL_SERVER_ERROR: "This is an error of the service, not yours. Try again later.",
};

/** Codes of what people meet who open a link that does not work. The page that records is no help with the others. */
const codesOfLinks = new Set<ErrorCode>(["NOT_FOUND", "GONE", "BAD_USER_INPUT", "BAD_REQUEST", "METHOD_NOT_ALLOWED"]);

/** Headings for people who clicked a link, where the message is for those who write one. */
const headings: Readonly<Partial<Record<ErrorCode, string>>> = {
  BAD_USER_INPUT: "This link is incomplete, or it was changed.",
};

function pageOf({ message, code, status }: ServiceError, requestId: string, webPagePath: string | undefined): Page {
  const [heading, paragraph] = [headings[code], advice[code]];
  const note = `${status} ${code}, request ${requestId}`;
  return {
    heading: heading ?? message,
    paragraphs: paragraph === undefined ? [] : [paragraph],
    note: heading === undefined ? note : `${message} ${note}`,
    ...(webPagePath !== undefined && codesOfLinks.has(code) && { links: { "Go to web-user-music": webPagePath } }),
  };
}

/**
 * The address that a mistyped one means, if it is clear: an address of the service with one segment, typed in capitals,
 * with punctuation after it, or with an escaped question mark. The result is relative, so that it also works behind a
 * proxy with a path prefix.
 */
function meantAddress(request: FastifyRequest, routes: ReadonlyMap<string, unknown>): string | undefined {
  if (request.method !== "GET" && request.method !== "HEAD") return undefined;
  const [, name = "", search] = /^\/([a-z.]+)(?:%[\da-f]{2}|[^\w/?])*?(?:(?:\?|%3f)(.*))?$/i.exec(request.url) ?? [];
  const meant = name.toLowerCase().replace(/\.+$/, "");
  if (meant === "" || !routes.has(`/${meant}`) || pathOf(request) === `/${meant}`) return withoutCapitals(request.url);
  return search ? `${meant}?${search}` : meant;
}

/** The address of a link whose first segment is in capitals, which its other segments need. */
function withoutCapitals(url: string): string | undefined {
  const [, route = "", rest = ""] = /^\/(l|record|listen|embed)(\/.+)$/i.exec(url) ?? [];
  if (route === route.toLowerCase()) return undefined;
  const levels = rest.split("?", 1)[0]!.split("/").length - 1;
  return `${"../".repeat(levels)}${route.toLowerCase()}${rest}`;
}

/** The address without a percent sign at its end that escapes nothing, such as one that a chat has added to a link. */
export function withoutLonePercent({ method, url }: FastifyRequest): string | undefined {
  if (method !== "GET" && method !== "HEAD") return undefined;
  const [path = "", ...search] = url.split("?");
  const repaired = path.replace(/%[\da-f]?$/i, "");
  const segment = repaired.slice(repaired.lastIndexOf("/") + 1);
  if (repaired === path || segment === "" || !isDecodable(repaired)) return undefined;
  return `./${[segment, ...search].join("?")}`;
}

function isDecodable(path: string): boolean {
  try {
    return decodeURIComponent(path) !== "";
  } catch {
    return false;
  }
}

/**
 * Translates Fastify's own errors: bodies that are too large or of another type, and addresses that cannot be
 * decoded.
 */
function fromFastify(error: FastifyError | Error, maxBytes: number): ServiceError | undefined {
  if (!("statusCode" in error) || !error.statusCode || error.statusCode >= 500) return undefined;
  if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return new ServiceError(
      "REQUEST_TOO_LARGE",
      `A JSON body may have at most ${maxBytes} bytes. Send a file as multipart/form-data.`,
      { maxBytes },
    );
  }
  if (error.statusCode === 415) {
    return new ServiceError("UNSUPPORTED_MEDIA", "Send application/json, or multipart/form-data with a file.");
  }
  const sentence = bodyFaults[error.code ?? ""] ?? "The request body does not match its headers.";
  return new ServiceError("BAD_REQUEST", sentence);
}

const bodyFaults: Readonly<Record<string, string | undefined>> = {
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: "The body does not have as many bytes as the header Content-Length says.",
};
