import type { FastifyInstance } from "fastify";
import { readdir, readFile } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import type { RenderOptions } from "altair-static";
import { ServiceError } from "../errors/errors.ts";
import { answerText } from "../http/answer-text.ts";
import { pathOfOrigin } from "../http/request-origin.ts";
import { securityHeaders } from "../http/security-headers.ts";
import type { Config } from "../settings/config.ts";
import { explorerDocument, exampleHeaders } from "./example-document.ts";

const contentTypes: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".ico": "image/x-icon",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".woff": "font/woff",
  ".woff2": "font/woff2",
};

/** The name of the script that starts the explorer. */
const startScript = "start.js";

/** The explorer loads its own files and calls this service, and nothing else. */
const directives = {
  defaultSrc: ["'none'"],
  scriptSrc: ["'self'"],
  styleSrc: ["'self'", "'unsafe-inline'"],
  imgSrc: ["'self'", "data:"],
  fontSrc: ["'self'", "data:"],
  connectSrc: ["'self'"],
  workerSrc: ["'self'"],
  frameSrc: ["'self'"],
  baseUri: ["'self'"],
  formAction: ["'none'"],
};
const explorerHeaders = securityHeaders({ ...directives, frameAncestors: ["'none'"] });
/** The explorer runs the scripts of a user in a frame of it, without an origin. */
const frameHeaders = securityHeaders({ ...directives, sandbox: ["allow-scripts"], frameAncestors: ["'self'"] });

/** What is sent, read from the package when somebody first asks for it. */
interface Explorer {
  readonly page: string;
  readonly script: string;
  /** Paths of the other files, by their names in an address. */
  readonly files: ReadonlyMap<string, string>;
}

/**
 * `GET /explore`: Altair, a GraphQL client that needs no internet, with the documents of {@link explorerDocument}.
 * `GET /explore/<file>`: what it loads.
 */
export function explorerRoute(app: FastifyInstance, { publicUrl }: Pick<Config, "publicUrl">): void {
  let loading: Promise<Explorer> | undefined;
  const loaded = async () => await (loading ??= loadExplorer(publicUrl === undefined ? "" : pathOfOrigin(publicUrl)));
  /** What was read once, for all who ask: some files have megabytes. */
  const read: Record<string, Promise<Buffer>> = {};
  const methods = ["GET", "HEAD"];
  const cacheControl = "no-cache";
  app.route({
    method: methods,
    url: "/explore",
    config: { securityHeaders: explorerHeaders },
    handler: async (request, reply) => {
      const { page: body } = await loaded();
      const contentType = "text/html; charset=utf-8";
      return await answerText(request, reply.header("x-robots-tag", "noindex"), { body, contentType, cacheControl });
    },
  });
  for (const folder of ["", "iframe-sandbox/"]) {
    app.route<{ Params: { "*": string } }>({
      method: methods,
      url: `/explore/${folder}*`,
      config: { securityHeaders: folder === "" ? explorerHeaders : frameHeaders },
      handler: async (request, reply) => {
        const { script, files } = await loaded();
        const name = folder + request.params["*"];
        const path = files.get(name);
        const contentType = contentTypes[extname(name)];
        if (contentType === undefined || (path === undefined && name !== startScript)) {
          throw new ServiceError("NOT_FOUND", "The explorer has no such file. Open /explore.");
        }
        // A frame without an origin asks for its files as a stranger.
        if (folder !== "") void reply.header("cross-origin-resource-policy", "cross-origin");
        const body = path === undefined ? script : await (read[name] ??= readFile(path));
        return await answerText(request, reply, { body, contentType, cacheControl });
      },
    });
  }
}

/** @param prefix the path under which a proxy has the service, or nothing */
async function loadExplorer(prefix: string): Promise<Explorer> {
  const { getDistDirectory, renderAltair, renderInitSnippet } = await import("altair-static");
  const options: RenderOptions = {
    baseURL: `${prefix}/explore/`,
    endpointURL: `${prefix}/graphql`,
    serveInitialOptionsInSeperateRequest: startScript,
    instanceStorageNamespace: "web-user-music_",
    initialName: "Examples",
    initialQuery: explorerDocument,
    initialVariables: "{}",
    initialHeaders: { ...exampleHeaders },
    disableAccount: true,
    persistedSettings: {
      "banners.disable": true,
      "alert.disableUpdateNotification": true,
      disablePushNotification: true,
    },
  };
  const folder = getDistDirectory();
  const entries = await readdir(folder, { recursive: true });
  const files = new Map(entries.map((entry) => [entry.replaceAll(sep, "/"), join(folder, entry)]));
  return { page: renderAltair(options), script: renderInitSnippet(options), files };
}
