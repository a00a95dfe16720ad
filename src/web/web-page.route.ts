import type { FastifyInstance } from "fastify";
import Negotiator from "negotiator";
import { ServiceError } from "../errors/errors.ts";
import { answerText } from "../http/answer-text.ts";
import { serviceAddresses } from "../http/front-page.route.ts";
import { prefersHtml } from "../http/html-page.ts";
import { securityHeaders, type SecurityHeaders } from "../http/security-headers.ts";
import { addVary } from "../http/vary.ts";
import type { Config } from "../settings/config.ts";
import type { PageFiles } from "./page-files.ts";

const policy = securityHeaders({
  defaultSrc: ["'none'"],
  scriptSrc: ["'self'"],
  styleSrc: ["'self'"],
  imgSrc: ["'self'", "data:"],
  mediaSrc: ["'self'", "blob:"],
  connectSrc: ["'self'"],
  workerSrc: ["'self'"],
  baseUri: ["'none'"],
  formAction: ["'self'"],
  frameAncestors: ["'none'"],
  // No text can become a script: the page has one policy, for the addresses of its workers.
  requireTrustedTypesFor: ["'script'"],
  trustedTypes: ["app"],
});

/** A worker has the policy of its own file: it sends the take that it stores. */
const assetHeaders = securityHeaders({ defaultSrc: ["'none'"], connectSrc: ["'self'"], frameAncestors: ["'none'"] });

/** The page may use the microphone, and nothing else that needs a permission. */
const pageHeaders: SecurityHeaders = [
  ["permissions-policy", "microphone=(self), camera=(), geolocation=(), payment=(), usb=()"],
  ...policy,
];

/**
 * `GET /`: the page that records, uploads and plays, for browsers; the addresses of the service in JSON, for programs.
 * `GET /assets/<name>`: what the page loads. A name changes with the content, so these files can be kept for good.
 */
export function webPageRoute(
  app: FastifyInstance,
  { html, assets }: PageFiles,
  { publicUrl }: Pick<Config, "publicUrl">,
): void {
  app.route({
    method: ["GET", "HEAD"],
    url: "/",
    config: { securityHeaders: pageHeaders },
    handler: async (request, reply) => {
      addVary(reply, "Accept");
      if (!prefersHtml(request.headers))
        return await reply.header("cache-control", "no-cache").send(serviceAddresses(publicUrl));
      const page = { body: html, contentType: "text/html; charset=utf-8", cacheControl: "no-cache" };
      return await answerText(request, reply.header("x-robots-tag", "noindex"), page);
    },
  });
  app.route<{ Params: { name: string } }>({
    method: ["GET", "HEAD"],
    url: "/assets/:name",
    config: { securityHeaders: assetHeaders },
    handler: async (request, reply) => {
      const file = assets.get(request.params.name);
      if (!file) throw new ServiceError("NOT_FOUND", "Nothing exists at this address. Reload the page.");
      const encoding = new Negotiator(request.raw).encoding(["br", "gzip", "identity"]);
      addVary(reply.header("cache-control", "public, max-age=31536000, immutable"), "Accept-Encoding");
      if (encoding !== "br" && encoding !== "gzip") return await reply.type(file.contentType).send(file.plain);
      return await reply.type(file.contentType).header("content-encoding", encoding).send(file[encoding]);
    },
  });
}
