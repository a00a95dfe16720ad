import fastifyCors from "@fastify/cors";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { isAllowedOrigin, isLocalOrigin } from "../addresses/cors-origins.ts";
import type { Config } from "../settings/config.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** False for a route that sets its own CORS headers. */
    cors?: false;
  }
}

/** The headers that clients of resumable uploads read. */
const uploadHeaders = [
  "Location",
  "Upload-Offset",
  "Upload-Length",
  "Upload-Defer-Length",
  "Upload-Expires",
  "Tus-Resumable",
  "Tus-Version",
  "Tus-Extension",
  "Tus-Max-Size",
];

/** Maximum number of refused origins that are logged. A stranger can invent any number. */
const maxLoggedOrigins = 100;

/** Maximum length of an origin in the log. */
const maxLoggedLength = 200;

/**
 * Allows pages of other origins to call the service: those in CORS_ORIGINS and, outside production, those on the same
 * machine. Every response has the CORS headers, including errors and unknown addresses. A route with `config: { cors:
 * false }` sets its own. The service uses no cookies, so a page can only do what the tokens that it knows allow.
 */
export async function allowOtherOrigins(
  app: FastifyInstance,
  { corsOrigins, production }: Pick<Config, "corsOrigins" | "production">,
): Promise<void> {
  const isAllowed = (origin: string) => isAllowedOrigin(corsOrigins, origin) || (!production && isLocalOrigin(origin));
  const logged = new Set<string>();
  app.addHook("onRequest", (request, reply, done) => {
    const { origin } = request.headers;
    if (origin === undefined || request.routeOptions.config?.cors === false) return done();
    if (isAllowed(origin)) {
      // For pages on the internet that call a service in a private network.
      if (request.headers["access-control-request-private-network"] === "true") {
        void reply.header("access-control-allow-private-network", "true");
      }
      return done();
    }
    if (isOwn(request, origin)) return done();
    if (logged.size < maxLoggedOrigins && !logged.has(origin)) {
      logged.add(origin);
      const message = "refused a page of this origin; to allow it, add the origin to CORS_ORIGINS";
      request.log.warn({ origin: origin.slice(0, maxLoggedLength) }, message);
    }
    // The missing header refuses the request. A status other than 2xx would look like a failure of the service.
    if (isPreflight(request)) void reply.code(204).header("vary", "Origin").send();
    else done();
  });
  await app.register(fastifyCors, {
    origin: corsOrigins.includes("*") ? "*" : (origin, done) => done(null, origin !== undefined && isAllowed(origin)),
    methods: ["GET", "HEAD", "POST", "PATCH", "DELETE"],
    exposedHeaders: ["Retry-After", "X-Request-Id", ...uploadHeaders],
    maxAge: 86_400,
    strictPreflight: false,
  });
}

/** Whether a page of the service itself sent the request. It needs no permission. */
function isOwn({ headers, host }: FastifyRequest, origin: string): boolean {
  return headers["sec-fetch-site"] === "same-origin" || origin.replace(/^.*:\/\//, "") === host;
}

function isPreflight({ method, headers }: FastifyRequest): boolean {
  return method === "OPTIONS" && headers["access-control-request-method"] !== undefined;
}
