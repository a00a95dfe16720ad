import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { ServerResponse } from "node:http";
import { addressKey } from "../addresses/address-key.ts";
import { clientAddress } from "../addresses/client-address.ts";
import { stepsToLoudness } from "../audio/mp3/mp3-gain.ts";
import { audiowaveformJson, decodeWaveform, zoomed, type Waveform } from "../audio/meter/waveform.ts";
import type { Caller } from "../caller/caller.ts";
import { bearerToken } from "../caller/token.ts";
import { noSuchRecord } from "../record/record-refusals.ts";
import type { Config } from "../settings/config.ts";
import { ServiceError } from "../errors/errors.ts";
import { answerError } from "../http/answer-errors.ts";
import { answerText } from "../http/answer-text.ts";
import type { ByteInterval } from "../http/byte-range.ts";
import { sendBytes, slowPieceBytes, type ByteSource } from "../http/send-bytes.ts";
import type { RequestTurns } from "../http/request-turns.ts";
import type { WaitingAnswers } from "../http/waiting-answers.ts";
import { DownloadCounter } from "./download-counter.ts";
import { mp3FileName } from "../record/file-name.ts";
import { findDetailedWaveform, findWaveforms } from "../record/find-record.ts";
import { readLeveled } from "../record/leveled-mp3.ts";
import type { Mp3Store } from "../record/mp3-store.ts";
import type { OpenedRecord } from "./find-opened-record.ts";
import { openPlainLink, openPlayLink, openShareLink } from "./open-link.ts";
import { answerOtherMethod, answerRecord, crossOriginHeaders, readBody, type RecordAnswer } from "./record-answer.ts";
import {
  asksForInline,
  linkParameters,
  loudnessIn,
  parseRecordAddress,
  parseSecret,
  samplesPerPixelIn,
} from "../record/parse-link.ts";
import { countingBytes, type Metrics } from "../telemetry/metrics.ts";
import type { DownloadTally } from "./download-tally.ts";

interface RecordRequest {
  Params: { recordId?: string; secret?: string; signed?: string };
}

/** A recording opened by a link. */
interface OpenLink {
  readonly row: OpenedRecord;
  /** Headers of every response for the recording through this link. */
  readonly headers: Readonly<Record<string, string>>;
  readonly cacheControl: string;
  /** Set for a share link, whose downloads are counted. */
  readonly linkId?: string;
  /** Whether the link plays if it does not say how it wants to be opened. */
  readonly isForPlaying?: true;
}

/** Finds the user of a token, and creates none. */
type Authenticate = (token: string) => Promise<Caller>;

type OpenRequest = (request: FastifyRequest<RecordRequest>) => Promise<OpenLink>;

/**
 * Caches must revalidate on every use, because the recording may have become private, or the link may have been revoked
 * or expired.
 */
const revalidatedOnUse = "private, no-cache";

/** An isolated page may only embed documents that also require isolation. */
const embeddableHeaders = { "cross-origin-embedder-policy": "require-corp" };

/**
 * For the document that a browser creates around an MP3 in a tab or frame: its player may load the MP3, and nothing
 * else.
 */
const mediaPolicy = "default-src 'none';media-src 'self';style-src 'unsafe-inline'";

/**
 * The routes of links. Register them in their own scope.
 * - Plain links: `GET` and `HEAD /record?id=<record>&user=<user>`, or `/record/<record>/<any name>.mp3?user=<user>` for
 *   players that require a file name. If the recording is private, the link only works with the owner's Bearer token.
 * - Share links: `/l/<secret>` and `/l/<secret>/<any name>.mp3`. They open private recordings too, until they expire
 *   (410).
 * - Play links: `/play/<signed>`. They play one recording, also a private one, for some hours.
 *
 * `inline=1` plays instead of downloading; `loudness=-16` changes the level. Each link also has its waveform, and
 * `samplesPerPixel=512` zooms into it.
 */
export function recordRoute(
  app: FastifyInstance,
  {
    em,
    authenticate,
    store,
    downloads,
    metrics,
    waiting,
    turns,
    config,
  }: {
    em: SqlEntityManager;
    authenticate: Authenticate;
    store: Mp3Store;
    downloads: DownloadTally;
    metrics?: Metrics | undefined;
    waiting: WaitingAnswers;
    turns: RequestTurns;
    config: Pick<Config, "recordCacheControl" | "maxWaitingBytes">;
  },
): void {
  // The CORS rules of the API do not apply to links.
  app.addHook("onRoute", (route) => {
    route.config = { ...route.config, cors: false };
  });
  // Runs first, so that errors have these headers too.
  app.addHook("onRequest", async (request: FastifyRequest, reply) => {
    void reply.headers({ ...crossOriginHeaders, ...embeddableHeaders });
    const other = answerOtherMethod(request.method);
    if (other) await send(reply, other, request);
  });
  const plain: OpenRequest = async (request) => await openPlain(em, authenticate, request, config.recordCacheControl);
  const shared: OpenRequest = async (request) => await openShared(em, request);
  const played: OpenRequest = async (request) => await openPlayed(em, request);
  const counter = new DownloadCounter();
  // Memory of the downloads that read large pieces, which is fastest. When it is used up, others read small pieces.
  let readingBytes = 0;
  for (const [path, open] of [
    ["/record", plain],
    ["/record/:recordId", plain],
    ["/record/:recordId/:name", plain],
    ["/l/:secret", shared],
    ["/l/:secret/:name", shared],
    ["/play/:signed", played],
  ] as const) {
    app.all<RecordRequest>(path, async (request, reply) => {
      const { method } = request;
      const { row, headers, cacheControl, linkId, isForPlaying } = await turns.run(
        request,
        reply,
        async () => await open(request),
      );
      const parameters = linkParameters(request.url);
      const isInline = asksForInline(parameters, isForPlaying);
      const wantedLufs = loudnessIn(parameters);
      const addedSteps = wantedLufs === undefined ? 0 : stepsToLoudness(row, wantedLufs);
      const record = {
        id: row.id,
        gainSteps: row.gainSteps + addedSteps,
        sizeBytes: row.sizeBytes,
        lastModified: row.createdAt,
        fileName: mp3FileName(row.title, row.fileName),
        inline: isInline,
        cacheControl: isInline ? cacheControl : askedAgain(cacheControl),
      };
      const answer = answerRecord(method === "HEAD" ? "HEAD" : "GET", request.headers, record);
      const asker = { address: clientAddress(request), headers: request.headers };
      if (linkId !== undefined && counter.begins(linkId, asker, answer, sentWhole(reply.raw))) {
        downloads.add(linkId);
      }
      let sentBytes = 0;
      const counted = (body: AsyncIterable<Buffer>): AsyncIterable<Buffer> =>
        countingBytes(body, {
          onFirst: () => {
            if (sentBytes === 0) metrics?.downloadBegan(reply.elapsedTime / 1000);
          },
          onEnd: (bytes) => (sentBytes += bytes),
        });
      if (metrics && answer.body.length > 0) {
        void sentWhole(reply.raw).then((whole) => metrics.downloadEnded(whole ? "complete" : "cut", sentBytes));
      }
      const bytes: ByteSource = async function* (signal, { from, isSlow }) {
        const wantedBytes = store.readBytes(row);
        const isLarge = !isSlow && readingBytes + wantedBytes <= config.maxWaitingBytes;
        if (isLarge) readingBytes += wantedBytes;
        try {
          const pieceBytes = isLarge ? undefined : slowPieceBytes;
          const read = (range: ByteInterval): AsyncGenerator<Buffer, void, undefined> =>
            store.read(row, range, signal, pieceBytes);
          const body = readBody(answer.body, from, (range) => readLeveled(read, row, addedSteps, range));
          if (metrics) yield* counted(body);
          else yield* body;
        } finally {
          if (isLarge) readingBytes -= wantedBytes;
        }
      };
      return await send(reply.headers(headers), answer, request, { bytes, waiting });
    });
  }

  for (const [path, open] of [
    ["/record/:recordId/waveform.json", plain],
    ["/l/:secret/waveform.json", shared],
    // Punctuation of the text around a link.
    ["/record/:recordId/:waveform(^waveform\\.json\\W+$)", plain],
    ["/l/:secret/:waveform(^waveform\\.json\\W+$)", shared],
  ] as const) {
    app.all<RecordRequest>(path, async (request, reply) => {
      const { waveform, row, headers, cacheControl } = await turns.run(request, reply, async () => {
        const opened = await open(request);
        const samplesPerPixel = samplesPerPixelIn(linkParameters(request.url));
        return { ...opened, waveform: await waveformOf(em, opened.row.id, samplesPerPixel) };
      });
      if (!waveform) throw noSuchRecord();
      return await answerText(request, reply.headers(headers), {
        body: JSON.stringify(audiowaveformJson(waveform)),
        contentType: "application/json; charset=utf-8",
        lastModified: row.createdAt,
        cacheControl,
      });
    });
  }
}

/** The waveform of a recording at a zoom, by default all of it at once; undefined if it was deleted in the meantime. */
async function waveformOf(em: SqlEntityManager, id: string, samplesPerPixel?: number): Promise<Waveform | undefined> {
  if (samplesPerPixel === undefined) {
    const overview = (await findWaveforms(em, [id])).get(id);
    return overview && decodeWaveform(overview);
  }
  const detail = await findDetailedWaveform(em, id);
  return detail && zoomed(decodeWaveform(detail), samplesPerPixel);
}

/** A download must be revalidated each time, usually with a 304 without bytes, because its name may have changed. */
function askedAgain(cacheControl: string): string {
  if (/\bno-store\b/i.test(cacheControl)) return cacheControl;
  return /\bpublic\b/i.test(cacheControl) ? "public, no-cache" : "private, no-cache";
}

/** Opens a plain link for a request. */
async function openPlain(
  em: SqlEntityManager,
  authenticate: Authenticate,
  request: FastifyRequest<RecordRequest>,
  cacheControl: string,
): Promise<OpenLink> {
  const address = parseRecordAddress(linkParameters(request.url), request.params.recordId);
  const { row, isPublic } = await openPlainLink(em, address, async () => {
    const token = bearerToken(request.raw.headersDistinct.authorization);
    return token === undefined ? undefined : await authenticate(token);
  });
  return isPublic
    ? { row, headers: {}, cacheControl }
    : { row, headers: { vary: "Authorization" }, cacheControl: revalidatedOnUse };
}

/** Opens a share link for a request. */
async function openShared(em: SqlEntityManager, { params }: FastifyRequest<RecordRequest>): Promise<OpenLink> {
  const { row, linkId } = await openShareLink(em, parseSecret(params.secret));
  return { row, headers: {}, cacheControl: revalidatedOnUse, linkId };
}

/** Opens a play link for a request. */
async function openPlayed(em: SqlEntityManager, { params }: FastifyRequest<RecordRequest>): Promise<OpenLink> {
  const { row } = await openPlayLink(em, params.signed ?? "");
  return { row, headers: {}, cacheControl: revalidatedOnUse, isForPlaying: true };
}

/** Resolves when the response has ended, with whether all of it was sent. */
async function sentWhole(response: ServerResponse): Promise<boolean> {
  if (!response.closed) await new Promise<void>((resolve) => response.once("close", resolve));
  return response.writableFinished;
}

/** The errors for the bodies of refusals, by status. */
const refusals: Readonly<Record<number, (() => ServiceError) | undefined>> = {
  405: () =>
    new ServiceError(
      "METHOD_NOT_ALLOWED",
      "A recording can only be read with GET and HEAD. To send one, use the API at /graphql.",
    ),
  412: () =>
    new ServiceError("PRECONDITION_FAILED", "The recording does not meet the conditions in the request headers."),
  416: () => new ServiceError("RANGE_NOT_SATISFIABLE", "The range is outside the recording."),
};

async function send(
  reply: FastifyReply,
  { status, headers, body }: RecordAnswer,
  request: FastifyRequest,
  sending?: { bytes: ByteSource; waiting: WaitingAnswers },
): Promise<FastifyReply> {
  void reply.code(status).headers(headers);
  const failure = refusals[status];
  if (failure) return await answerError(request, reply.removeHeader("content-length"), failure());
  void reply.header("content-security-policy", mediaPolicy);
  // These headers are meant for pages with controls. They forbid frames, and tabs that a frame has opened.
  for (const name of ["x-frame-options", "cross-origin-opener-policy"]) void reply.removeHeader(name);
  if (!sending || body.length === 0) return await reply.send();
  const { bytes, waiting } = sending;
  try {
    const head = { status, headers: reply.getHeaders() };
    await sendBytes(reply.raw, head, bytes, { waiting, address: addressKey(clientAddress(request)) });
  } catch (error) {
    // Before the head has been sent, the error can still be answered. Afterwards the connection has been cut.
    if (!reply.raw.headersSent) {
      for (const name of Object.keys(headers)) void reply.removeHeader(name);
      void reply.headers(crossOriginHeaders);
      throw error;
    }
    request.log[levelOf(error)]({ err: error }, "a download ended early");
  }
  return reply.hijack();
}

function levelOf(error: unknown): "debug" | "info" | "error" {
  if (!(error instanceof ServiceError)) return "error";
  return error.code === "CLIENT_CLOSED_REQUEST" ? "debug" : "info";
}
