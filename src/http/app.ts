import fastifyHelmet from "@fastify/helmet";
import {
  fastify,
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import { v4 as uuidv4 } from "uuid";
import type { Config } from "../config.ts";
import { answerErrors } from "./answer-errors.ts";

/** Largest JSON body of a GraphQL request, in bytes. Files come as multipart and have a limit of their own. */
const maxBodyBytes = 1024 * 1024;

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

/** An HTTP server without routes: limits, security headers, and JSON for every failure. */
export async function createApp(config: Config, logger: FastifyBaseLogger): Promise<FastifyInstance> {
  const proxies = config.trustProxy;
  const app: FastifyInstance = fastify({
    loggerInstance: logger,
    trustProxy: typeof proxies === "number" ? (_address, hop) => hop < proxies : proxies,
    bodyLimit: maxBodyBytes,
    genReqId: () => uuidv4(),
    logController: new OneLineForEachRequest(),
    // Uploads may take hours; a stalled one is noticed by its own reader.
    requestTimeout: 0,
    keepAliveTimeout: 72_000,
    forceCloseConnections: "idle",
    return503OnClosing: true,
    routerOptions: { caseSensitive: true, ignoreTrailingSlash: false },
  });
  app.addHook("onRequest", async (request, reply) => {
    void reply.header("x-request-id", request.id);
  });
  await app.register(fastifyHelmet, {
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
    crossOriginResourcePolicy: { policy: "same-origin" },
    strictTransportSecurity: false,
  });
  answerErrors(app);
  return app;
}
