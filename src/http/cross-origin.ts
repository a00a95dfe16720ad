import fastifyCors from "@fastify/cors";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { isAllowedOrigin, isLocalOrigin } from "../addresses/cors-origins.ts";
import type { Config } from "../settings/config.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** False for a route that says itself which pages may read it. */
    cors?: false;
  }
}

/** Refused origins that are written down; a stranger may make up any number. */
const maxLoggedOrigins = 100;

/** Longest part of an origin that is written down. */
const maxLoggedLength = 200;

/**
 * Lets pages of other origins call the service: those of CORS_ORIGINS, and outside production those on the same machine.
 * Every answer tells, refusals and unknown addresses as well. A route with `config: { cors: false }` tells for itself.
 * No cookie opens anything here, so a page can do no more than what the tokens that it knows allow.
 */
export async function allowOtherOrigins(
  app: FastifyInstance,
  { corsOrigins, production }: Pick<Config, "corsOrigins" | "production">,
): Promise<void> {
  const isAllowed = (origin: string) => isAllowedOrigin(corsOrigins, origin) || (!production && isLocalOrigin(origin));
  const logged = new Set<string>();
  app.addHook("onRequest", async (request, reply) => {
    const { origin } = request.headers;
    if (origin === undefined || request.routeOptions.config?.cors === false) return;
    if (isAllowed(origin)) {
      // For pages of the internet that call a service in a private network.
      if (request.headers["access-control-request-private-network"] === "true") {
        void reply.header("access-control-allow-private-network", "true");
      }
      return;
    }
    if (isOwn(request, origin)) return;
    if (logged.size < maxLoggedOrigins && !logged.has(origin)) {
      logged.add(origin);
      const message = "refused a page of this origin; to allow it, add the origin to CORS_ORIGINS";
      request.log.warn({ origin: origin.slice(0, maxLoggedLength) }, message);
    }
    // The permission that is missing says no; another status would be taken for a fault.
    if (isPreflight(request)) await reply.code(204).header("vary", "Origin").send();
  });
  await app.register(fastifyCors, {
    origin: corsOrigins.includes("*") ? "*" : (origin, done) => done(null, origin !== undefined && isAllowed(origin)),
    methods: ["GET", "HEAD", "POST"],
    exposedHeaders: ["Retry-After", "X-Request-Id"],
    maxAge: 86_400,
    strictPreflight: false,
  });
}

/** Whether a page of the service itself sent the request, for which no permission is needed. */
function isOwn({ headers, host }: FastifyRequest, origin: string): boolean {
  return headers["sec-fetch-site"] === "same-origin" || origin.replace(/^.*:\/\//, "") === host;
}

function isPreflight({ method, headers }: FastifyRequest): boolean {
  return method === "OPTIONS" && headers["access-control-request-method"] !== undefined;
}
