import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { Readable } from "node:stream";
import type { Pool } from "pg";
import { audiowaveformJson, decodeWaveform } from "../audio/waveform.ts";
import type { Config } from "../config.ts";
import { ServiceError } from "../errors.ts";
import { answerError } from "../http/answer-errors.ts";
import { mp3FileName } from "./file-name.ts";
import { readMp3 } from "./mp3-chunks.ts";
import { answerOtherMethod, answerRecord, readBody, type RecordAnswer } from "./record-answer.ts";
import { parseRecordId, parseUserId, type RecordAddress } from "./record-url.ts";

interface RecordRequest {
  Querystring: Record<string, unknown>;
  Params: { recordId?: string };
}

interface RecordRow {
  readonly id: string;
  readonly headBytes: number;
  readonly chunkBytes: number;
  /** A bigint and a timestamp come as text. */
  readonly sizeBytes: string;
  readonly createdAt: string;
  readonly fileName: string;
}

/**
 * The link: `GET` and `HEAD /record?id=<record>&user=<user>`, or with an ending for players that want one,
 * `/record/<record>/<any name>.mp3?user=<user>`. `&inline=1` plays instead of downloading. Beside it the waveform.
 */
export function recordRoute(
  app: FastifyInstance,
  { pool, config }: { pool: Pool; config: Pick<Config, "recordCacheControl"> },
): void {
  for (const url of ["/record", "/record/:recordId/:name"]) {
    app.all<RecordRequest>(url, async (request, reply) => {
      const { method } = request;
      const other = answerOtherMethod(method);
      if (other) return await send(reply, other, request);
      const row = await findRow(pool, addressOf(request));
      const record = {
        id: row.id,
        sizeBytes: Number(row.sizeBytes),
        lastModified: new Date(row.createdAt),
        fileName: mp3FileName(row.fileName),
        inline: request.query.inline !== undefined && request.query.inline !== "0",
        cacheControl: config.recordCacheControl,
      };
      const answer = answerRecord(method === "HEAD" ? "HEAD" : "GET", request.headers, record);
      const gone = new AbortController();
      reply.raw.once("close", () => gone.abort());
      return await send(reply, answer, request, (range) =>
        readMp3(pool, { ...row, sizeBytes: record.sizeBytes }, range, gone.signal),
      );
    });
  }

  app.get<RecordRequest>("/record/:recordId/waveform.json", async (request, reply) => {
    const { recordId, userId } = addressOf(request);
    const { rows } = await pool.query<{ waveform: Buffer }>(
      "select waveform from audio_record where id = $1 and owner_id = $2 and state = 'ready' and waveform is not null",
      [recordId, userId],
    );
    if (!rows[0]) throw notFound();
    void reply.headers({ "cache-control": config.recordCacheControl, "access-control-allow-origin": "*" });
    return audiowaveformJson(decodeWaveform(rows[0].waveform));
  });
}

/** The record and user that the request names, also in the ancestor's spelling. */
function addressOf({ query, params }: FastifyRequest<RecordRequest>): RecordAddress {
  const recordId = parseRecordId(params.recordId ?? query.id ?? query.audio_id);
  const userId = parseUserId(query.user ?? query.user_id);
  if (recordId === undefined)
    throw new ServiceError("BAD_USER_INPUT", "The link needs the record's id, a UUID: id=<record>.");
  if (userId === undefined)
    throw new ServiceError("BAD_USER_INPUT", "The link needs the user's id, a number: user=<user>.");
  return { recordId, userId };
}

async function findRow(pool: Pool, { recordId, userId }: RecordAddress): Promise<RecordRow> {
  const { rows } = await pool.query<RecordRow>(
    `select id, head_bytes as "headBytes", chunk_bytes as "chunkBytes", size_bytes as "sizeBytes",
       created_at as "createdAt", file_name as "fileName"
     from audio_record where id = $1 and owner_id = $2 and state = 'ready'`,
    [recordId, userId],
  );
  if (!rows[0]) throw notFound();
  return rows[0];
}

/** The same for a record that does not exist and one that is somebody else's. */
function notFound(): ServiceError {
  return new ServiceError("NOT_FOUND", "There is no such recording.");
}

/** What the body of a refusal says beside its status. */
const refusals: Readonly<Record<number, (() => ServiceError) | undefined>> = {
  405: () => new ServiceError("METHOD_NOT_ALLOWED", "A recording can be read with GET and HEAD only."),
  412: () => new ServiceError("PRECONDITION_FAILED", "The recording does not meet the request's conditions."),
  416: () => new ServiceError("RANGE_NOT_SATISFIABLE", "The range lies outside the recording."),
};

async function send(
  reply: FastifyReply,
  { status, headers, body }: RecordAnswer,
  request: FastifyRequest<RecordRequest>,
  read: Parameters<typeof readBody>[1] = () => Readable.from([]),
): Promise<FastifyReply> {
  void reply.code(status).headers(headers);
  const failure = refusals[status];
  if (failure && request.method !== "HEAD")
    return await answerError(request, reply.removeHeader("content-length"), failure());
  if (request.method === "HEAD" || body.length === 0) return await reply.send();
  return await reply.send(Readable.from(readBody(body, read), { objectMode: false, highWaterMark: 1 }));
}
