import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ServiceError } from "../errors/errors.ts";
import { answerText } from "../http/answer-text.ts";
import { pathOfOrigin, requestOrigin } from "../http/request-origin.ts";
import type { RequestTurns } from "../http/request-turns.ts";
import { securityHeaders } from "../http/security-headers.ts";
import { openPlainLink, openShareLink, type OpenedLink } from "../link/open-link.ts";
import { crossOriginHeaders } from "../link/record-answer.ts";
import { findPeaks } from "../record/find-record.ts";
import { noSuchRecord } from "../record/record-refusals.ts";
import { linkParameters, parseLink, parseRecordAddress, parseSecret } from "../record/parse-link.ts";
import {
  embedUrl,
  listenUrl,
  pictureUrl,
  recordUrl,
  shareStreamUrl,
  shareUrl,
  streamUrl,
  type LinkTarget,
} from "../record/record-url.ts";
import type { Config } from "../settings/config.ts";
import {
  frameStyleSource,
  pageStyleSource,
  printFramePage,
  printListenPage,
  type ListenableRecording,
  type ListenAddresses,
} from "./listen-page.ts";
import { oembedOf } from "./oembed.ts";
import { barCount, drawWaveform } from "./waveform-picture.ts";

interface ListenRequest {
  Params: { recordId?: string; secret?: string };
}

/** A recording that a link opens without a token. */
interface Opened extends OpenedLink {
  readonly target: LinkTarget;
}

const common = { defaultSrc: ["'none'"], mediaSrc: ["'self'"], baseUri: ["'none'"], formAction: ["'none'"] };
const pageHeaders = securityHeaders({ ...common, styleSrc: [pageStyleSource], frameAncestors: ["'none'"] });
// Without frame-ancestors, because its * does not match the pages of apps, such as capacitor://localhost.
const frameHeaders = securityHeaders({ ...common, styleSrc: [frameStyleSource] });

/** Any page may show these, also an isolated one. */
const openToPages = { ...crossOriginHeaders, "cross-origin-embedder-policy": "require-corp" };

/** Expiry, revocation and a new title hold at once. */
const askedAgain = "private, no-cache";

/**
 * Pages for people who get a link, and what programs need to show it. Register them in their own scope.
 * - `GET /listen?id=<record>&user=<user>` and `/listen/<secret>`: the page. A private recording has none without a
 *   secret.
 * - `GET /embed?...` and `/embed/<secret>`: the same for the frame of another page.
 * - `GET /record/<record>/waveform.png?user=<user>` and `/l/<secret>/waveform.png`: the picture for previews.
 * - `GET /oembed?url=<a link>`: oEmbed 1.0.
 *
 * None of them counts as a download.
 */
export function listenRoutes(
  app: FastifyInstance,
  {
    em,
    turns,
    config,
  }: { em: SqlEntityManager; turns: RequestTurns; config: Pick<Config, "publicUrl" | "recordCacheControl"> },
): void {
  const { publicUrl } = config;
  const opened = async (target: LinkTarget): Promise<Opened> => ({ ...(await open(em, target)), target });
  const show = async (target: LinkTarget, request: FastifyRequest, reply: FastifyReply): ReturnType<typeof shown> =>
    await turns.run(request, reply, async () => await shown(em, await opened(target), request, publicUrl));
  const methods = ["GET", "HEAD"];

  for (const url of ["/listen", "/listen/:secret"]) {
    app.route<ListenRequest>({
      method: methods,
      url,
      config: { securityHeaders: pageHeaders },
      handler: async (request, reply) => {
        const { recording, addresses } = await show(targetOf(request), request, reply);
        return await sendHtml(request, reply, printListenPage(recording, addresses));
      },
    });
  }

  const ofOthers = { cors: false } as const;
  const openToOthers = async (_request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    void reply.headers(openToPages).removeHeader("x-frame-options").removeHeader("cross-origin-opener-policy");
  };
  for (const url of ["/embed", "/embed/:secret"]) {
    app.route<ListenRequest>({
      method: methods,
      url,
      config: { ...ofOthers, securityHeaders: frameHeaders },
      onRequest: openToOthers,
      handler: async (request, reply) => {
        const { recording, addresses } = await show(targetOf(request), request, reply);
        return await sendHtml(request, reply, printFramePage(recording, addresses));
      },
    });
  }

  for (const url of ["/record/:recordId/waveform.png", "/l/:secret/waveform.png"]) {
    app.route<ListenRequest>({
      method: methods,
      url,
      config: ofOthers,
      onRequest: openToOthers,
      handler: async (request, reply) => {
        const { row, isPublic, peaks } = await turns.run(request, reply, async () => {
          const link = await opened(targetOf(request));
          return { ...link, peaks: await findPeaks(em, link.row.id, barCount) };
        });
        if (!peaks) throw noSuchRecord();
        return await answerText(request, reply, {
          body: await drawWaveform(peaks),
          contentType: "image/png",
          lastModified: row.createdAt,
          cacheControl: isPublic ? config.recordCacheControl : askedAgain,
        });
      },
    });
  }

  app.route<{ Querystring: Readonly<Record<string, unknown>> }>({
    method: methods,
    url: "/oembed",
    config: ofOthers,
    onRequest: openToOthers,
    handler: async (request, reply) => {
      const { query } = request;
      if (query["format"] !== undefined && query["format"] !== "json") {
        // oEmbed 1.0 asks for this status.
        throw new ServiceError("NOT_IMPLEMENTED", "Only JSON is available: format=json.", { argument: "format" });
      }
      const url = typeof query["url"] === "string" ? URL.parse(query["url"]) : null;
      if (!url) {
        throw new ServiceError("BAD_USER_INPUT", "The address needs a link to a recording: url=<link>.", {
          argument: "url",
        });
      }
      const { recording, addresses, origin } = await show(parseLink(url), request, reply);
      const room = { maxWidth: roomIn(query["maxwidth"]), maxHeight: roomIn(query["maxheight"]) };
      return await answerText(request, reply, {
        body: JSON.stringify(oembedOf(recording, addresses, origin, room)),
        contentType: "application/json; charset=utf-8",
        cacheControl: askedAgain,
      });
    },
  });
}

/** A length in pixels that a program gives; without one there is no limit. */
function roomIn(given: unknown): number {
  return typeof given === "string" && /^[1-9]\d{0,4}$/.test(given) ? Number(given) : Infinity;
}

function targetOf({ url, params }: FastifyRequest<ListenRequest>): LinkTarget {
  if (params.secret === undefined) return parseRecordAddress(linkParameters(url), params.recordId);
  const secret = parseSecret(params.secret);
  if (secret === undefined) throw noSuchRecord();
  return { secret };
}

/** Opens a link as somebody without a token does: a private recording is one that does not exist. */
async function open(em: SqlEntityManager, target: LinkTarget): Promise<OpenedLink> {
  if ("secret" in target) return await openShareLink(em, target.secret);
  return await openPlainLink(em, target, async () => undefined);
}

async function shown(
  em: SqlEntityManager,
  { row, isPublic, expiresAt = null, target }: Opened,
  request: FastifyRequest,
  publicUrl: string | undefined,
): Promise<{ recording: ListenableRecording; addresses: ListenAddresses; origin: string }> {
  const peaks = await findPeaks(em, row.id, barCount);
  if (!peaks) throw noSuchRecord();
  const { title, sizeBytes, createdAt } = row;
  const durationSeconds = row.sourceSamples / row.sourceSampleRateHz;
  const origin = publicUrl ?? requestOrigin(request);
  const page = listenUrl(origin, target);
  return {
    recording: { title, durationSeconds, sizeBytes, createdAt, expiresAt, peaks },
    addresses: {
      ...pathsOf(pathOfOrigin(origin), target),
      page,
      embed: embedUrl(origin, target),
      picture: pictureUrl(origin, target),
      oembed: `${origin}/oembed?url=${encodeURIComponent(page)}`,
      audio: isPublic && !("secret" in target) ? streamUrl(origin, target) : undefined,
    },
    origin,
  };
}

/** @param prefix the path under which a proxy has the service, or nothing */
function pathsOf(prefix: string, target: LinkTarget): Pick<ListenAddresses, "play" | "download" | "isCounted"> {
  if ("secret" in target) {
    const [play, download] = [shareStreamUrl(prefix, target.secret), shareUrl(prefix, target.secret)];
    return { play, download, isCounted: true };
  }
  return { play: streamUrl(prefix, target), download: recordUrl(prefix, target), isCounted: false };
}

async function sendHtml(request: FastifyRequest, reply: FastifyReply, body: string): Promise<FastifyReply> {
  const contentType = "text/html; charset=utf-8";
  return await answerText(request, reply.header("x-robots-tag", "noindex"), {
    body,
    contentType,
    cacheControl: askedAgain,
  });
}
