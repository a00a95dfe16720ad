import fastifyHelmet from "@fastify/helmet";
import {
  fastify,
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import { STATUS_CODES, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { v4 as uuidv4 } from "uuid";
import type { Config } from "../settings/config.ts";
import { isAllowedHost } from "../addresses/allowed-hosts.ts";
import { isTrustedProxy } from "../addresses/client-address.ts";
import { isProbe } from "./health.route.ts";
import { answerInTurn } from "./answer-in-turn.ts";
import { answerError, answerErrors } from "./answer-errors.ts";
import { watchBody } from "./arriving-body.ts";
import { compressAnswers } from "./compression.ts";
import { allowOtherOrigins } from "./cross-origin.ts";
import { closeAfterEarlyAnswer, continueWhenRead, LingeringConnections, lingerLimits } from "./early-answer.ts";
import { UnreadAnswers } from "./unread-answers.ts";
import type { UnvouchedBytes } from "../memory/unvouched-bytes.ts";
import { errorCodes, ServiceError, type ErrorCode } from "../errors/errors.ts";

/** Largest JSON body of a GraphQL request, in bytes. Files come as multipart and have a limit of their own. */
const maxBodyBytes = 1024 * 1024;

/** Characters of all answers that are made and not sent yet. */
const maxUnreadCharacters = 48 * 1024 * 1024;

/** Writing two log lines was a tenth of what a small request cost: the one at its end says all of it. */
class OneLineForEachRequest extends LogController {
  override incomingRequest(request: FastifyRequest): void {
    request.log.debug({ req: request }, "incoming request");
  }

  override requestCompleted(error: Error | null | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const outcome = { req: request, res: reply, responseTime: reply.elapsedTime };
    if (error) request.log.error({ ...outcome, err: error }, "request errored");
    else request.log.info(outcome, "request completed");
  }
}

/** Of answers to requests that reach no route, and so no hook. */
const bareHeaders = {
  "x-content-type-options": "nosniff",
  "content-security-policy": "default-src 'none';frame-ancestors 'none'",
  "x-frame-options": "SAMEORIGIN",
};

/** An HTTP server without routes: limits, security headers, compression, and an answer to every failure. */
export async function createApp(
  config: Config,
  logger: FastifyBaseLogger,
  stopping: AbortSignal,
  unvouched: UnvouchedBytes,
): Promise<FastifyInstance> {
  const { trustedProxies, allowedHosts } = config;
  const patienceMs = config.stallTimeoutSeconds * 1000;
  const app: FastifyInstance = fastify({
    loggerInstance: logger,
    trustProxy: trustedProxies ? (hop) => isTrustedProxy(trustedProxies, hop) : false,
    bodyLimit: maxBodyBytes,
    genReqId: () => uuidv4(),
    logController: new OneLineForEachRequest(),
    http: { headersTimeout: patienceMs, connectionsCheckingInterval: Math.min(patienceMs, 5000) },
    // Uploads may take hours; a stalled one is noticed by its own reader, any other body by the hook below.
    requestTimeout: 0,
    keepAliveTimeout: 72_000,
    forceCloseConnections: "idle",
    // What arrives on open connections while the service stops is refused by the routes, with a code.
    return503OnClosing: false,
    // The name in a link is decoration and may be as long as the longest that downloads get, escaped.
    // Slashes too many come from addresses that were put together: `${base}/` and `/graphql`.
    routerOptions: {
      caseSensitive: true,
      ignoreTrailingSlash: true,
      ignoreDuplicateSlashes: true,
      maxParamLength: 1000,
    },
    clientErrorHandler: (error, socket) => answerUnreadable(error, socket, logger, lingering),
    // No hook runs for these.
    frameworkErrors: (_error, request, reply) => {
      closeAfterEarlyAnswer(request.raw, reply.raw, lingering);
      void reply.headers({ ...bareHeaders, "x-request-id": request.id });
      void answerError(request, reply, new ServiceError("BAD_REQUEST", "The address is not valid."));
    },
  });
  // Whoever takes a body says so: where nobody does, it is neither kept nor parsed.
  app.removeAllContentTypeParsers();
  const { server } = app;
  answerInTurn(server);
  const lingering = new LingeringConnections(server, {
    ...lingerLimits,
    maxBytes: Math.max(2 * config.maxUploadBytes, lingerLimits.maxBytes),
  });
  stopping.addEventListener("abort", () => lingering.hurry(), { once: true });
  server.on("checkContinue", (request, response) => {
    continueWhenRead(request, response);
    server.emit("request", request, response);
  });
  // Whatever else is expected is no reason to refuse a request (RFC 9110 section 10.1.1).
  server.on("checkExpectation", (request, response) => server.emit("request", request, response));
  app.addHook("onRequest", async (request, reply) => {
    void reply.header("x-request-id", request.id);
    closeAfterEarlyAnswer(request.raw, reply.raw, lingering);
    if (stopping.aborted) void reply.header("connection", "close");
  });
  await allowOtherOrigins(app, config);
  app.addHook("preParsing", (request, reply, _payload, done) => {
    done(); // From here on Fastify listens, if it reads the body at all.
    const isMultipart = /^multipart\//i.test(request.headers["content-type"] ?? "");
    if (!isMultipart) watchBody(request, reply, { unvouched, patienceMs });
  });
  const unread = new UnreadAnswers({ maxCharacters: maxUnreadCharacters, stallSeconds: config.stallTimeoutSeconds });
  app.addHook("onSend", (_request, reply, payload, done) => {
    unread.add(reply.raw, typeof payload === "string" ? payload.length : 0);
    done();
  });
  await app.register(fastifyHelmet, {
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
    crossOriginResourcePolicy: { policy: "same-origin" },
    strictTransportSecurity: false,
  });
  app.addHook("onRequest", async (request) => {
    // A probe names the machine, not the service.
    if (allowedHosts && !isAllowedHost(allowedHosts, request.host) && !isProbe(request)) {
      throw new ServiceError(
        "WRONG_HOST",
        "The service does not answer to this host name. Use its public address, or ask its operator to add the name to ALLOWED_HOSTS.",
      );
    }
  });
  await compressAnswers(app);
  answerErrors(app);
  return app;
}

/** Connections with something unreadable behind a request that is being worked on. */
const waiting = new WeakSet<Socket>();

/** What Node's parser says of requests that are HTTP and yet cannot be read. */
const unreadable: Readonly<Record<string, ErrorCode | undefined>> = {
  ERR_HTTP_REQUEST_TIMEOUT: "REQUEST_TIMEOUT",
  HPE_HEADER_OVERFLOW: "HEADERS_TOO_LARGE",
};

/**
 * Answers what is not HTTP, has too many headers, or whose headers never end; the connection cannot be used on. Whole
 * requests before it get their answers first. Where the answer to this one has begun, the connection is cut.
 */
function answerUnreadable(
  error: Error & { code?: string },
  socket: Socket,
  logger: FastifyBaseLogger,
  lingering: LingeringConnections,
): void {
  const { _httpMessage: underWay } = socket as Socket & { _httpMessage?: ServerResponse | null };
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroySoon();
    return;
  }
  if (underWay?.req.complete) {
    // Further bytes on this connection are the same mistake again.
    if (!waiting.has(socket)) {
      waiting.add(socket);
      underWay.once("close", () => {
        waiting.delete(socket);
        answerUnreadable(error, socket, logger, lingering);
      });
    }
    return;
  }
  if (underWay?.headersSent) {
    socket.destroySoon();
    return;
  }
  const requestId = uuidv4();
  const code = unreadable[error.code ?? ""] ?? "BAD_REQUEST";
  const [status, message] = errorCodes[code];
  logger.info({ reqId: requestId, code }, "request refused");
  const body = JSON.stringify({ error: { code, requestId, message } });
  const headers = [
    "Content-Type: application/json; charset=utf-8",
    `Content-Length: ${body.length}`,
    ...Object.entries({ ...bareHeaders, "X-Request-Id": requestId }).map(([name, value]) => `${name}: ${value}`),
    "Connection: close",
  ];
  socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${headers.join("\r\n")}\r\n\r\n${body}`);
  // A request that is being worked on is told at once that its client is gone.
  if (underWay) socket.destroySoon();
  else lingering.add(socket);
}
