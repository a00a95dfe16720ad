import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { IncomingMessage } from "node:http";
import { validate as isUuid } from "uuid";
import { clientAddress } from "../addresses/client-address.ts";
import { qualityNames } from "../audio/mp3/quality.ts";
import type { Caller } from "../caller/caller.ts";
import { ServiceError } from "../errors/errors.ts";
import { createContext, type ContextDependencies } from "../graphql/create-context.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { answerError, failureOf } from "../http/answer-errors.ts";
import { logFailure } from "../http/failures.ts";
import type { Config } from "../settings/config.ts";
import { visibilities } from "../settings/visibility.ts";
import { beginResumable, type ResumableOptions, type StatedUpload } from "./begin-resumable.ts";
import { recordDocument } from "./recording-document.ts";
import { uploadPath } from "./resumable-upload.type.ts";
import { requireLength, type Portion, type Progress, type ResumableUploader } from "./resumable-uploader.ts";
import { cancelUpload, findUploadBySecret, requireOwnerOfReady, type ShownUpload } from "./resumable-uploads.ts";

const version = "1.0.0";
const bytesType = "application/offset+octet-stream";

interface Dependencies extends ContextDependencies {
  /** Runs a GraphQL query of the service's own for a caller. */
  readonly runAs: (
    caller: Caller,
    context: RequestContext,
    document: string,
    variables: Readonly<Record<string, unknown>>,
  ) => Promise<unknown>;
  readonly uploader: ResumableUploader;
  readonly options: ResumableOptions;
  readonly config: Pick<Config, "publicUrl" | "maxUploadBytes" | "stallTimeoutSeconds">;
}

interface UploadRequest {
  Params: { secret: string };
}

/**
 * Resumable uploads with the tus protocol 1.0 (tus.io) and its extensions creation, creation-with-upload,
 * creation-defer-length, termination and expiration: `POST /uploads`, and `HEAD`, `PATCH` and `DELETE` of
 * `/uploads/<secret>`. Register it in its own scope.
 */
export function resumableUploadRoute(app: FastifyInstance, dependencies: Dependencies): void {
  const { em, uploader, config } = dependencies;
  // Read from the socket as fast as it is converted.
  app.addContentTypeParser("*", (_request, _payload, done) => done(null));
  app.addHook("onRequest", async (request, reply) => {
    void reply.headers({ "tus-resumable": version, "cache-control": "no-store" });
    if (request.method === "OPTIONS" || (request.headers["tus-resumable"] ?? version) === version) return;
    void reply.header("tus-version", version);
    throw new ServiceError("PRECONDITION_FAILED", `This service speaks version ${version} of the tus protocol.`);
  });
  app.setErrorHandler(async (error: Error, request, reply) => {
    const failure = failureOf(error, reply);
    logFailure(request.log, failure);
    const { offset } = failure.details;
    if (typeof offset === "number") void reply.header("upload-offset", offset);
    return await answerError(request, reply, failure);
  });

  const options = {
    "tus-version": version,
    "tus-extension": "creation,creation-with-upload,creation-defer-length,termination,expiration",
    "tus-max-size": config.maxUploadBytes,
  };
  for (const url of [uploadPath, `${uploadPath}/:secret`]) {
    app.options(url, async (_request, reply) => await reply.code(204).headers(options).send());
  }

  app.post(uploadPath, async (request, reply) => await create(request, reply, dependencies));

  const byMethod: Readonly<Record<string, (request: FastifyRequest<UploadRequest>, reply: FastifyReply) => unknown>> = {
    HEAD: async (request, reply) => {
      const upload = await uploader.settled(await find(request, reply, dependencies));
      return await reply.code(200).headers(stateOf(upload)).send();
    },
    PATCH: async (request, reply) => {
      if (!isPortion(request)) {
        throw new ServiceError("UNSUPPORTED_MEDIA", `Send the bytes of the file as ${bytesType}.`);
      }
      const offsetBytes = wholeNumber(request, "upload-offset");
      if (offsetBytes === undefined) throw new ServiceError("BAD_REQUEST", "The header Upload-Offset is missing.");
      const upload = await find(request, reply, dependencies);
      const isRepeated = upload.recordState === "ready" && offsetBytes === upload.offsetBytes;
      if (isRepeated) {
        // What is told of the recording may have changed since the upload: somebody who was shut out must not learn it.
        await inTurn(request, reply, dependencies, async () => await requireOwnerOfReady(em.fork(), upload));
        return await answerReady(request, reply, upload, dependencies);
      }
      return await append(request, reply, upload, offsetBytes, dependencies);
    },
    DELETE: async (request, reply) => {
      const upload = await find(request, reply, dependencies);
      await cancelUpload(em.fork(), upload.ownerId, upload.id);
      return await reply.code(204).send();
    },
  };
  for (const [method, handler] of Object.entries(byMethod)) {
    app.route<UploadRequest>({ method, url: `${uploadPath}/:secret`, handler });
  }
  app.post<UploadRequest>(`${uploadPath}/:secret`, async (request, reply) => {
    const handler = byMethod[String(request.headers["x-http-method-override"]).toUpperCase()];
    if (!handler) throw new ServiceError("METHOD_NOT_ALLOWED", "Use HEAD, PATCH or DELETE.");
    return await handler(request, reply);
  });
}

async function create(request: FastifyRequest, reply: FastifyReply, dependencies: Dependencies): Promise<unknown> {
  const { config, options } = dependencies;
  const sizeBytes = wholeNumber(request, "upload-length") ?? null;
  if (sizeBytes === null && request.headers["upload-defer-length"] !== "1") {
    throw new ServiceError("BAD_REQUEST", "Send the header Upload-Length, or Upload-Defer-Length: 1.");
  }
  const { ticket, ...metadata } = metadataOf(request);
  const stated = { ...metadata, sizeBytes };
  const { upload, context } = await inTurn(request, reply, dependencies, async () => {
    const context = createContext(request, reply, dependencies, config.publicUrl);
    const owner = ticket === undefined ? await context.caller("UPLOAD") : await context.authenticateTicket(ticket);
    return { ...(await beginResumable(stated, owner, context, options)), context };
  });
  void reply.headers({ ...stateOf(upload), location: `${context.origin}${uploadPath}/${upload.secret}` });
  if (!isPortion(request)) return await reply.code(201).send();
  return await append(request, reply, upload, 0, dependencies, 201);
}

/** The upload of a request. Those who guess addresses wait for each other. */
async function find(
  request: FastifyRequest<UploadRequest>,
  reply: FastifyReply,
  dependencies: Dependencies,
): Promise<ShownUpload> {
  return await inTurn(
    request,
    reply,
    dependencies,
    async () => await findUploadBySecret(dependencies.em.fork(), request.params.secret),
  );
}

/** Runs what needs the database and no byte of the client. */
async function inTurn<T>(
  request: FastifyRequest,
  reply: FastifyReply,
  { turns }: Dependencies,
  run: () => Promise<T>,
): Promise<T> {
  using _turn = await turns.take(request, reply);
  return await run();
}

async function append(
  request: FastifyRequest,
  reply: FastifyReply,
  upload: ShownUpload,
  offsetBytes: number,
  dependencies: Dependencies,
  status?: 201,
): Promise<unknown> {
  const { uploader, config, em } = dependencies;
  const lengthBytes = wholeNumber(request, "upload-length");
  if (lengthBytes !== undefined) requireLength(lengthBytes, config.maxUploadBytes);
  const stated = request.headers["content-length"];
  const portion: Portion = {
    offsetBytes,
    lengthBytes,
    bytes: arrivingBytes(request.raw, config.stallTimeoutSeconds),
    statedBytes: stated === undefined ? undefined : Number(stated),
    clientAddress: clientAddress(request),
    logger: request.log,
  };
  const progress: Progress = await uploader.append(upload, portion);
  if (!progress.isReady)
    return await reply
      .code(status ?? 204)
      .headers(stateOf(progress))
      .send();
  const ready = await findUploadBySecret(em.fork(), upload.secret);
  return await answerReady(request, reply, ready, dependencies, status);
}

/** Answers with the upload and its recording, as the GraphQL query in {@link recordDocument} does. */
async function answerReady(
  request: FastifyRequest,
  reply: FastifyReply,
  upload: ShownUpload,
  dependencies: Dependencies,
  status = 200,
): Promise<unknown> {
  const context = createContext(request, reply, dependencies, dependencies.config.publicUrl);
  // Whoever knows the address may know what was made with it.
  const caller: Caller = {
    id: upload.ownerId,
    name: "",
    createdAt: new Date(0),
    isVouchedFor: false,
    tokenId: null,
    scopes: ["READ"],
    expiresAt: null,
    playKey: null,
  };
  const data = await dependencies.runAs(caller, context, recordDocument, { id: upload.id });
  return await reply.code(status).headers(stateOf(upload)).type("application/json; charset=utf-8").send({ data });
}

function stateOf({
  offsetBytes,
  lengthBytes,
  expiresAt,
}: Pick<ShownUpload, "offsetBytes" | "lengthBytes" | "expiresAt">): Record<string, string | number> {
  return {
    "upload-offset": offsetBytes,
    "upload-expires": expiresAt.toUTCString(),
    ...(lengthBytes === null ? { "upload-defer-length": 1 } : { "upload-length": lengthBytes }),
  };
}

/** Whether the body of a request is a portion of a file. */
export function isPortion({ headers }: Pick<FastifyRequest, "headers">): boolean {
  return headers["content-type"]?.split(";", 1)[0]!.trim().toLowerCase() === bytesType;
}

function wholeNumber({ headers }: FastifyRequest, name: string): number | undefined {
  const field = headers[name];
  if (field === undefined) return undefined;
  const value = /^\d{1,16}$/.test(String(field)) ? Number(field) : NaN;
  if (Number.isSafeInteger(value)) return value;
  throw new ServiceError("BAD_REQUEST", `The header ${name} must be a whole number.`);
}

/** The header Upload-Metadata: names, each with its value in Base64, separated by commas. */
function metadataOf({ headers }: FastifyRequest): Omit<StatedUpload, "sizeBytes"> & { ticket: string | undefined } {
  const field = String(headers["upload-metadata"] ?? "");
  const pairs = new Map<string, string>();
  for (const pair of field.split(",").map((text) => text.trim())) {
    const [name = "", value = ""] = pair.split(" ", 2);
    if (name !== "") pairs.set(name, Buffer.from(value, "base64").toString("utf8"));
  }
  const oneOf = <T extends string>(name: string, values: readonly T[]): T | null => {
    const given = pairs.get(name);
    if (given === undefined) return null;
    const value = values.find((other) => other === given.toUpperCase());
    if (value !== undefined) return value;
    throw new ServiceError("BAD_USER_INPUT", `${name} must be one of ${values.join(", ")}.`, { argument: name });
  };
  const idempotencyKey = pairs.get("idempotencyKey") ?? null;
  if (idempotencyKey !== null && !isUuid(idempotencyKey)) {
    throw new ServiceError("BAD_USER_INPUT", "idempotencyKey must be a UUID.", { argument: "idempotencyKey" });
  }
  return {
    fileName: pairs.get("filename") ?? pairs.get("name") ?? "",
    title: pairs.get("title") ?? null,
    quality: oneOf("quality", qualityNames),
    visibility: oneOf("visibility", visibilities),
    idempotencyKey,
    sourceSha256: pairs.get("sourceSha256") ?? null,
    ticket: pairs.get("ticket"),
  };
}

/**
 * Yields the bytes of a request's body, as fast as they are read.
 * @throws {ServiceError} UPLOAD_STALLED if none arrive for too long; an error of the connection if that is lost
 */
async function* arrivingBytes(raw: IncomingMessage, stallSeconds: number): AsyncGenerator<Buffer, void, undefined> {
  const pieces: AsyncIterator<Buffer> = raw.iterator({ destroyOnReturn: false });
  for (;;) {
    const stalled = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      // After a busy turn of the event loop, bytes may be waiting. They are read before this is called.
      setImmediate(() =>
        stalled.reject(new ServiceError("UPLOAD_STALLED", "No bytes arrived. Go on with the upload.")),
      );
    }, stallSeconds * 1000);
    const next = await Promise.race([pieces.next(), stalled.promise]).finally(() => clearTimeout(timer));
    if (next.done) return;
    yield next.value;
  }
}
