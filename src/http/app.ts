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
import { addressKey } from "../addresses/address-key.ts";
import { clientAddress, isTrustedProxy } from "../addresses/client-address.ts";
import { isProbe } from "./health.route.ts";
import { largeAnswerBytes, type AnswerMemory } from "./answer-memory.ts";
import { AnswerInPieces } from "./answer-in-pieces.ts";
import { traceIdOf } from "../telemetry/trace-context.ts";
import { answerInTurn } from "./answer-in-turn.ts";
import { answerError, answerErrors, withoutLonePercent } from "./answer-errors.ts";
import { watchBody } from "./arriving-body.ts";
import { CoalescedRequest } from "./coalesced-body.ts";
import { compressAnswers } from "./compression.ts";
import { allowOtherOrigins } from "./cross-origin.ts";
import { closeAfterEarlyAnswer, continueWhenRead, LingeringConnections, lingerLimits } from "./early-answer.ts";
import { securityHeaders } from "./security-headers.ts";
import type { UnvouchedBytes } from "../memory/unvouched-bytes.ts";
import type { LoopTurns } from "../queue/loop-turns.ts";
import { errorCodes, ServiceError, type ErrorCode } from "../errors/errors.ts";

/** Maximum size of a JSON body, in bytes. Files are sent as multipart and have their own limit. */
const maxBodyBytes = 1024 * 1024;

/** Writes one log line per request, at its end. Two lines took a tenth of the CPU time of a small request. */
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

/** Headers of responses to requests that reach no route and thus no hook. */
const bareHeaders = {
  "x-content-type-options": "nosniff",
  "content-security-policy": "default-src 'none';frame-ancestors 'none'",
  "x-frame-options": "SAMEORIGIN",
  // Any page may read why: the origin is not always known, and nothing but the error is in the response.
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "X-Request-Id",
};

interface AppDependencies {
  readonly unvouched: UnvouchedBytes;
  readonly answers: AnswerMemory;
  /** Where requests begin. */
  readonly loopTurns: LoopTurns<string>;
}

/** Creates an HTTP server without routes: with limits, security headers, compression, and a response to every error. */
export async function createApp(
  config: Config,
  logger: FastifyBaseLogger,
  stopping: AbortSignal,
  { unvouched, answers, loopTurns }: AppDependencies,
): Promise<FastifyInstance> {
  const { trustProxy, allowedHosts } = config;
  const patienceMs = config.stallTimeoutSeconds * 1000;
  const app: FastifyInstance = fastify({
    loggerInstance: logger,
    trustProxy: trustProxy ? (hop) => isTrustedProxy(trustProxy, hop) : false,
    bodyLimit: maxBodyBytes,
    genReqId: () => uuidv4(),
    logController: new OneLineForEachRequest(),
    // The name that OpenTelemetry has for it in logs of other formats.
    childLoggerFactory: (parent, bindings, options, { headers }) => {
      const traceId = traceIdOf(headers["traceparent"]);
      return parent.child(traceId === undefined ? bindings : { ...bindings, trace_id: traceId }, options);
    },
    // Without the 0, Node.js would refuse more than 300 s for the header.
    http: {
      requestTimeout: 0,
      headersTimeout: patienceMs,
      connectionsCheckingInterval: Math.min(patienceMs, 5000),
      IncomingMessage: CoalescedRequest,
    },
    // Uploads may take hours. The multipart reader detects stalled uploads; the hook below detects other stalled
    // bodies.
    requestTimeout: 0,
    keepAliveTimeout: 72_000,
    forceCloseConnections: "idle",
    // While the service stops, the routes refuse requests on open connections with an error code.
    return503OnClosing: false,
    // The file name in a link is ignored, and may be as long as the longest escaped name of a download. Extra slashes
    // occur when addresses are concatenated: `${base}/` and `/graphql`.
    routerOptions: {
      caseSensitive: true,
      ignoreTrailingSlash: true,
      ignoreDuplicateSlashes: true,
      maxParamLength: 1000,
    },
    clientErrorHandler: (error, socket) => answerUnreadable(error, socket, logger, lingering),
    // Hooks do not run for these errors.
    frameworkErrors: (_error, request, reply) => {
      closeAfterEarlyAnswer(request.raw, reply.raw, lingering);
      void reply.headers({ ...bareHeaders, "x-request-id": request.id });
      const meant = withoutLonePercent(request);
      if (meant === undefined) {
        void answerError(request, reply, new ServiceError("BAD_REQUEST", "The address is not valid."));
      } else void reply.redirect(meant, 308);
    },
  });
  // A route that takes a body adds its own parser. Other bodies are neither kept nor parsed.
  app.removeAllContentTypeParsers();
  const { server } = app;
  answerInTurn(server);
  server.on("connection", (socket) => {
    loopTurns.arrive();
    // Asked for once, and kept by the socket: a connection that is closed no longer tells its address.
    void socket.remoteAddress;
  });
  const lingering = new LingeringConnections(server, {
    ...lingerLimits,
    maxBytes: Math.max(2 * config.maxUploadBytes, lingerLimits.maxBytes),
  });
  stopping.addEventListener("abort", () => lingering.hurry(), { once: true });
  server.on("checkContinue", (request, response) => {
    continueWhenRead(request, response);
    server.emit("request", request, response);
  });
  // Other expectations are no reason to refuse a request (RFC 9110 section 10.1.1).
  server.on("checkExpectation", (request, response) => server.emit("request", request, response));
  app.addHook("onRequest", (request, reply, done) => {
    void reply.header("x-request-id", request.id);
    closeAfterEarlyAnswer(request.raw, reply.raw, lingering);
    if (stopping.aborted) void reply.header("connection", "close");
    if (loopTurns.isFree) done();
    else loopTurns.wait(addressKey(clientAddress(request)), done);
  });
  await allowOtherOrigins(app, config);
  app.addHook("preParsing", (request, reply, _payload, done) => {
    done(); // From here on, Fastify listens, if it reads the body at all.
    const isMultipart = /^multipart\//i.test(request.headers["content-type"] ?? "");
    if (!isMultipart) watchBody(request, reply, { unvouched, patienceMs });
  });
  app.addHook("onSend", (_request, reply, payload, done) => {
    if (payload instanceof AnswerInPieces) {
      answers.made(reply.raw, payload.byteLength);
      void reply.header("content-length", payload.byteLength);
    } else answers.made(reply.raw, typeof payload === "string" ? Buffer.byteLength(payload) : 0);
    done();
  });
  const usual = securityHeaders({ defaultSrc: ["'none'"], frameAncestors: ["'none'"] });
  app.addHook("onRequest", (request, reply, done) => {
    // Not of the raw response: with headers of both kinds, node:http sets each one again.
    for (const [name, value] of request.routeOptions.config.securityHeaders ?? usual) void reply.header(name, value);
    // Probes address the machine, not the public host name.
    if (allowedHosts && !isAllowedHost(allowedHosts, request.host) && !isProbe(request)) {
      const message =
        "The service does not answer to this host name. Use its public address, or ask its operator to add the name to ALLOWED_HOSTS.";
      throw new ServiceError("WRONG_HOST", message);
    }
    done();
  });
  await compressAnswers(app);
  app.addHook("onSend", (_request, _reply, payload, done) => {
    // node:http would reserve three bytes for each character, until the client has read it.
    const isLarge = typeof payload === "string" && payload.length >= largeAnswerBytes;
    done(null, isLarge ? Buffer.from(payload) : payload);
  });
  answerErrors(app, config);
  return app;
}

/** Connections with invalid bytes after a request that is still running. */
const waiting = new WeakSet<Socket>();

/** Error codes for errors of Node's parser other than invalid HTTP. */
const unreadable: Readonly<Record<string, ErrorCode | undefined>> = {
  ERR_HTTP_REQUEST_TIMEOUT: "REQUEST_TIMEOUT",
  HPE_HEADER_OVERFLOW: "HEADERS_TOO_LARGE",
};

/**
 * Answers requests that are not HTTP, have too many headers, or whose headers never end. The connection is closed
 * afterwards. Complete requests before it get their responses first. If the response to this one has begun, the
 * connection is cut.
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
    // More bytes on this connection belong to the same mistake.
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
  // A running request learns at once that its client is gone.
  if (underWay) socket.destroySoon();
  else lingering.add(socket);
}
