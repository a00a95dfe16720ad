import { ApolloServer, HeaderMap, type ApolloServerPlugin, type GraphQLRequestListener } from "@apollo/server";
import {
  ApolloServerPluginCacheControlDisabled,
  ApolloServerPluginInlineTraceDisabled,
} from "@apollo/server/plugin/disabled";
import { InMemoryLRUCache } from "@apollo/utils.keyvaluecache";
import type { FastifyBodyParser, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { OperationTypeNode, type DocumentNode, type GraphQLSchema } from "graphql";
import type { IncomingHttpHeaders } from "node:http";
import type { Config } from "../settings/config.ts";
import type { Caller } from "../caller/caller.ts";
import { isSmall, type RequestContext } from "./request-context.ts";
import { ServiceError, shuttingDown } from "../errors/errors.ts";
import { keepOfBody } from "../http/arriving-body.ts";
import { prefersHtml, sendPage } from "../http/html-page.ts";
import type { UnvouchedBytes } from "../memory/unvouched-bytes.ts";
import { createContext, type ContextDependencies } from "./create-context.ts";
import { answerErrors } from "./answer-errors.ts";
import {
  notJson,
  requireAcceptable,
  requireOperation,
  requireOperationIn,
  withoutEmptyNameIn,
  requirePreflight,
  requireSmallJson,
} from "./graphql-request.ts";
import { landingPage, pageForPeople, sandboxHeaders } from "./landing-page.ts";
import { keepLargeResult, writeInTurns } from "./large-answers.ts";
import { readPartOf, type GraphQLRequestBody } from "./multipart-fields.ts";
import { readMultipartRequest, refuseByLength, type MultipartLimits } from "./multipart-request.ts";
import { queryLimits } from "./query-limits.ts";
import { refuseBeforeRunning, replaceTooComplex } from "./refuse-before-running.ts";
import { uploadCredentials, type UploadCredentials } from "./upload-credentials.ts";
import { uploadOnceRule } from "./upload-once-rule.ts";
import { warmUp } from "./warm-up.ts";

type GraphqlConfig = Pick<Config, "introspection" | "sandbox" | "publicUrl" | "maxUploadBytes" | "stallTimeoutSeconds">;

/** The dependencies of the route. */
interface GraphqlDependencies extends ContextDependencies {
  readonly schema: GraphQLSchema;
  /** Aborted when the service begins to stop. Nothing new is begun then. */
  readonly stopping: AbortSignal;
  readonly unvouched: UnvouchedBytes;
  readonly config: GraphqlConfig;
}

/** Maximum number of characters of all persisted queries together. */
const maxPersistedCharacters = 1024 * 1024;

/**
 * Maximum number of characters of all documents that are cached as syntax trees. A tree takes about 60 bytes per
 * character.
 */
const maxDocumentCharacters = 256 * 1024;

/** Size of a document in the cache. Apollo's own measure ignores the text, and so any length of comments. */
function charactersOf({ loc }: DocumentNode): number {
  return loc?.source.body.length ?? maxDocumentCharacters;
}

/**
 * `POST /graphql` and `GET /graphql`: the API, and Apollo Sandbox for browsers if it is on. Register it in its own
 * scope.
 */
export async function graphqlRoute(app: FastifyInstance, dependencies: GraphqlDependencies): Promise<void> {
  const { schema, stopping, unvouched, config } = dependencies;
  const apollo = new ApolloServer<RequestContext>({
    schema,
    introspection: config.introspection,
    cache: new InMemoryLRUCache({ maxSize: maxPersistedCharacters }),
    documentStore: new InMemoryLRUCache({ maxSize: maxDocumentCharacters, sizeCalculation: charactersOf }),
    includeStacktraceInErrorResponses: false,
    stopOnTerminationSignals: false,
    hideSchemaDetailsFromClientErrors: !config.introspection,
    parseOptions: { maxTokens: queryLimits.maxTokens },
    validationRules: [uploadOnceRule],
    plugins: [
      landingPage(config),
      checkAndAnswer({ stopping, hidesSchema: !config.introspection }),
      // It would be called for every field of every answer, to find that none may be cached.
      ApolloServerPluginCacheControlDisabled(),
      ApolloServerPluginInlineTraceDisabled(),
    ],
  });
  await apollo.start();
  await warmUp(schema);
  app.addHook("onClose", async () => await apollo.stop());

  const limits = {
    maxFileBytes: config.maxUploadBytes,
    maxOperationsBytes: 64 * 1024,
    maxMapBytes: 16 * 1024,
    stallSeconds: config.stallTimeoutSeconds,
    unvouched,
  };
  app.addHook("onRequest", ({ headers }, _reply, done) => {
    refuseEncodedBody(headers);
    done();
  });
  app.addContentTypeParser("application/json", { parseAs: "string" }, parseJson(app));
  // Not read here: the multipart reader reads it from the socket as fast as it is converted.
  app.addContentTypeParser("multipart/form-data", (_request, _payload, done) => done(null));
  app.route({
    method: ["GET", "HEAD", "POST"],
    url: "/graphql",
    ...(config.sandbox && { config: { securityHeaders: sandboxHeaders } }),
    handler: async (request, reply) => {
      const isPerson = request.method !== "POST" && prefersHtml(request.headers);
      if (isPerson && !config.sandbox) {
        return await sendPage(reply.header("cache-control", "no-cache"), pageForPeople(config));
      }
      const context = createContext(request, reply, dependencies, config.publicUrl);
      const search = request.url.slice(request.url.split("?", 1)[0]!.length);
      const multipart = isMultipart(request);
      // For a person, Apollo sends the Sandbox page. If it does not consider the client a person, it does its own
      // checks.
      if (!isPerson) {
        requireAcceptable(request.headers.accept);
        requirePreflight(request.raw);
        if (request.method !== "POST") requireOperationIn(search);
      }
      if (multipart && stopping.aborted) throw shuttingDown();
      const read = async () => (multipart ? await readUpload(request, reply, context, limits) : readJson(request));
      const body = request.method === "POST" ? await read() : {};
      try {
        await context.takeTurn();
        const answer = await apollo.executeHTTPGraphQLRequest({
          httpGraphQLRequest: {
            method: request.method === "HEAD" ? "GET" : request.method,
            // The body was read and checked, so Apollo gets it as JSON, whatever its original type.
            headers: toHeaderMap(request.headers, isPerson ? undefined : "application/json"),
            search: withoutEmptyNameIn(search),
            body,
          },
          context: async () => context,
        });
        context.leaveTurn();
        void reply.header("cache-control", "no-store");
        for (const [name, value] of answer.headers) void reply.header(name, value);
        void reply.code(answer.status ?? 200);
        const result = context.keptResult();
        if (result) return await writeInTurns(result);
        return answer.body.kind === "complete" ? answer.body.string : await reply.send(answer.body.asyncIterator);
      } finally {
        context.leaveTurn();
        dependencies.answers.ended(reply.raw);
      }
    },
  });
}

/**
 * What is read of a JSON body; the rest of it is let go.
 * @throws {ServiceError} BAD_REQUEST when it is no GraphQL request
 */
function readJson(request: FastifyRequest): GraphQLRequestBody {
  const { body } = request;
  requireOperation(body);
  const kept = readPartOf(body);
  keepOfBody(request, kept);
  return kept;
}

/**
 * Checks operations before they run, and translates their errors. One listener for all requests: each one, and each
 * of its steps, costs every request a promise.
 */
function checkAndAnswer({
  stopping,
  hidesSchema,
}: {
  readonly stopping: AbortSignal;
  readonly hidesSchema: boolean;
}): ApolloServerPlugin<RequestContext> {
  const listener: GraphQLRequestListener<RequestContext> = {
    validationDidStart: async (requestContext) => replaceTooComplex(requestContext),
    didResolveOperation: async (requestContext) => {
      const { operation, contextValue } = requestContext;
      // Queries need a token with READ. Other operations need WRITE, unless a field declares another scope.
      if (operation?.operation === OperationTypeNode.QUERY) contextValue.readOnly();
      // While the service stops, queries still work.
      if (stopping.aborted && operation?.operation === OperationTypeNode.MUTATION) throw shuttingDown();
      await refuseBeforeRunning(requestContext);
    },
    willSendResponse: async (requestContext) => {
      answerErrors(requestContext, hidesSchema);
      keepLargeResult(requestContext);
    },
  };
  return { requestDidStart: async () => listener };
}

/** Parses JSON as Fastify does, after checking its size, and detects a multipart body with the wrong content type. */
function parseJson(app: FastifyInstance): FastifyBodyParser<string> {
  const parse = app.getDefaultJsonParser("error", "error");
  return (request, body, done) => {
    if (!body.startsWith("--")) {
      requireSmallJson(body);
      return parse(request, body, (error, json) => done(error && notJson(body), json));
    }
    const message =
      "The body is multipart/form-data, but the Content-Type says JSON. Do not set the Content-Type yourself: the client " +
      "sets it together with the boundary.";
    return done(new ServiceError("BAD_REQUEST", message));
  };
}

function isMultipart({ headers }: FastifyRequest): boolean {
  return /^multipart\/form-data\b/i.test(headers["content-type"] ?? "");
}

/** Content codings that do not change the bytes. Some clients put a charset into this header. */
const plainCodings = /^(?:identity|none|utf-?8)?$/i;

/** @throws {ServiceError} UNSUPPORTED_MEDIA for a compressed body (RFC 9110 section 12.5.3) */
function refuseEncodedBody({ "content-encoding": coding = "" }: IncomingHttpHeaders): void {
  if (plainCodings.test(coding.trim())) return;
  const message = "The request body is compressed. Send it uncompressed, without the header Content-Encoding.";
  throw new ServiceError("UNSUPPORTED_MEDIA", message, { acceptEncoding: "identity" });
}

/**
 * Reads a multipart request up to its file. It refuses what it can before the file is read: a body that is too large,
 * an invalid token, an upload for which there is no room. Which token counts is known when `operations` has been read:
 * user id and token in the arguments take precedence over a header, which may come from a proxy. A small request has arrived by
 * then, and is executed like one of JSON if it has an `Authorization` header. Without one, its arguments are checked here, because a
 * token that is no UUID is answered as a wrong one.
 */
async function readUpload(
  request: FastifyRequest,
  reply: FastifyReply,
  context: RequestContext,
  limits: MultipartLimits,
): Promise<GraphQLRequestBody> {
  refuseByLength(request.headers, limits);
  const authorize = async (operations: GraphQLRequestBody): Promise<void> => {
    const credentials = uploadCredentials(operations);
    if (!credentials) return;
    await context.takeTurn();
    try {
      await context.admitUpload(await ownerOf(credentials, context));
    } finally {
      context.leaveTurn();
    }
  };
  const isLikeJson = isSmall(context) && request.headers.authorization !== undefined;
  const body = await readMultipartRequest(request.raw, reply.raw, limits, isLikeJson ? undefined : authorize);
  return readPartOf(body);
}

async function ownerOf(credentials: UploadCredentials, context: RequestContext): Promise<Caller> {
  if (credentials === "from the header") return await context.caller("UPLOAD");
  if ("ticket" in credentials) return await context.authenticateTicket(credentials.ticket);
  return await context.authenticate(credentials.userId, credentials.token);
}

/** @param contentType in place of the given one */
function toHeaderMap(headers: IncomingHttpHeaders, contentType: string | undefined): HeaderMap {
  const map = new HeaderMap();
  for (const name in headers) {
    const value = headers[name];
    if (value !== undefined) map.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  if (contentType !== undefined) map.set("content-type", contentType);
  return map;
}
