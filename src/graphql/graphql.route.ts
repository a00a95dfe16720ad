import { ApolloServer, HeaderMap, type ApolloServerPlugin } from "@apollo/server";
import { ApolloServerPluginLandingPageDisabled } from "@apollo/server/plugin/disabled";
import { ApolloServerPluginLandingPageLocalDefault } from "@apollo/server/plugin/landingPage/default";
import { InMemoryLRUCache } from "@apollo/utils.keyvaluecache";
import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { FastifyBodyParser, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { OperationTypeNode, type DocumentNode, type GraphQLSchema } from "graphql";
import type { IncomingHttpHeaders } from "node:http";
import { requireScope, type Caller, type TokenScope } from "../caller/caller.ts";
import { bearerToken } from "../caller/token.ts";
import type { Config } from "../settings/config.ts";
import type { RequestContext } from "./request-context.ts";
import { clientAddress } from "../addresses/client-address.ts";
import { ServiceError, shuttingDown } from "../errors/errors.ts";
import { keepOfBody } from "../http/arriving-body.ts";
import type { AnswerMemory } from "../http/answer-memory.ts";
import { prefersHtml, sendPage, type Page } from "../http/html-page.ts";
import { securityHeaders } from "../http/security-headers.ts";
import type { UnvouchedBytes } from "../memory/unvouched-bytes.ts";
import { answerErrorsPlugin } from "./answer-errors.ts";
import { exampleDocument } from "./example-document.ts";
import {
  requireAcceptable,
  requireOperation,
  requireOperationIn,
  withoutEmptyNameIn,
  requirePreflight,
  requireSmallJson,
} from "./graphql-request.ts";
import { readPartOf, type GraphQLRequestBody } from "./multipart-fields.ts";
import { readMultipartRequest, refuseByLength, type MultipartLimits } from "./multipart-request.ts";
import { queryLimits } from "./query-limits.ts";
import { refuseBeforeRunning } from "./refuse-before-running.ts";
import { uploadCredentials } from "./upload-credentials.ts";
import { uploadOnceRule } from "./upload-once-rule.ts";

type GraphqlConfig = Pick<Config, "introspection" | "sandbox" | "publicUrl" | "maxUploadBytes" | "stallTimeoutSeconds">;

/**
 * Finds the user of a token.
 * @param userId if given, the token must belong to this user
 * @throws {ServiceError} UNAUTHENTICATED, or USER_DISABLED
 */
type Authenticate = (token: string, userId?: string) => Promise<Caller>;

/** The dependencies of the route. */
interface GraphqlDependencies {
  readonly schema: GraphQLSchema;
  readonly em: SqlEntityManager;
  readonly authenticate: Authenticate;
  /**
   * Called before a file is read, once for each request and user.
   * @throws {ServiceError} if this user may not upload from this address now
   */
  readonly beforeUpload: (owner: Caller, clientAddress: string) => Promise<void>;
  /** Aborted when the service begins to stop. Nothing new is begun then. */
  readonly stopping: AbortSignal;
  readonly unvouched: UnvouchedBytes;
  readonly answers: AnswerMemory;
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
export async function graphqlRoute(
  app: FastifyInstance,
  { schema, em, authenticate, beforeUpload, stopping, unvouched, answers, config }: GraphqlDependencies,
): Promise<void> {
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
      scopeOfOperation,
      refuseMutationsWhen(stopping),
      refuseBeforeRunning,
      answerErrorsPlugin(!config.introspection),
    ],
  });
  await apollo.start();
  app.addHook("onClose", async () => await apollo.stop());

  const limits = {
    maxFileBytes: config.maxUploadBytes,
    maxOperationsBytes: 64 * 1024,
    maxMapBytes: 16 * 1024,
    stallSeconds: config.stallTimeoutSeconds,
    unvouched,
  };
  app.addHook("onRequest", async ({ headers }) => refuseEncodedBody(headers));
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
      const context = createContext(request, reply, { em, authenticate, beforeUpload, answers, config });
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
      const answer = await apollo.executeHTTPGraphQLRequest({
        httpGraphQLRequest: {
          method: request.method === "HEAD" ? "GET" : request.method,
          // The body was read and checked, so Apollo gets it as JSON, whatever its original type.
          headers: toHeaderMap({ ...request.headers, ...(!isPerson && { "content-type": "application/json" }) }),
          search: withoutEmptyNameIn(search),
          body,
        },
        context: async () => context,
      });
      for (const [name, value] of answer.headers) void reply.header(name, value);
      void reply.code(answer.status ?? 200);
      return answer.body.kind === "complete" ? answer.body.string : reply.send(answer.body.asyncIterator);
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

function createContext(
  request: FastifyRequest,
  reply: FastifyReply,
  {
    em,
    authenticate,
    beforeUpload,
    answers,
    config,
  }: Pick<GraphqlDependencies, "em" | "authenticate" | "beforeUpload" | "answers" | "config">,
): RequestContext {
  const gone = new AbortController();
  reply.raw.once("close", () => {
    if (reply.raw.writableFinished) return;
    gone.abort(
      new ServiceError("CLIENT_CLOSED_REQUEST", "The client closed the connection before the response was complete."),
    );
  });
  let caller: Promise<Caller> | undefined;
  const callers = new Map<string, Promise<Caller>>();
  const authenticated = new Map<string, Caller>();
  const admissions = new Map<number, Promise<void>>();
  let fork: SqlEntityManager | undefined;
  let usualScope: TokenScope = "WRITE";
  let answerBytes = 0;
  const findCaller = async (): Promise<Caller> => await (caller ??= callerOf(request, authenticate));
  return {
    requestId: request.id,
    logger: () => request.log,
    em: () => (fork ??= em.fork()),
    signal: gone.signal,
    origin: config.publicUrl ?? requestOrigin(request),
    requestBytes:
      request.headers["content-length"] === undefined ? undefined : Number(request.headers["content-length"]),
    clientAddress: clientAddress(request),
    readOnly: () => void (usualScope = "READ"),
    caller: async (scope = usualScope, ...others) => {
      const user = await findCaller();
      requireScope(user, scope, ...others);
      return user;
    },
    callerAs: async (userId) => authenticated.get(userId) ?? (await findCaller()),
    authenticate: async (userId, token) =>
      await once(callers, `${userId} ${token}`, async () => {
        const user = await authenticate(token, userId);
        requireScope(user, "UPLOAD");
        authenticated.set(userId, user);
        logWithUser(request, user);
        return user;
      }),
    admitUpload: async (owner) =>
      await once(admissions, owner.id, async () => await beforeUpload(owner, clientAddress(request))),
    expectAnswer: (bytes) => void (answerBytes = bytes),
    roomForAnswer: async (isDone) => await answers.reserve(reply.raw, answerBytes, isDone),
  };
}

/** Queries need a token with READ. Other operations need WRITE, unless a field declares another scope. */
const scopeOfOperation: ApolloServerPlugin<RequestContext> = {
  requestDidStart: async () => ({
    didResolveOperation: async ({ operation, contextValue }) => {
      if (operation?.operation === OperationTypeNode.QUERY) contextValue.readOnly();
    },
  }),
};

async function once<K, V>(results: Map<K, Promise<V>>, key: K, find: () => Promise<V>): Promise<V> {
  const result = results.get(key) ?? find();
  results.set(key, result);
  return await result;
}

/** Adds the user to all later log lines of this request. */
function logWithUser(request: FastifyRequest, { id }: Caller): void {
  request.log = request.log.child({ user: id });
}

/** Parses JSON as Fastify does, after checking its size, and detects a multipart body with the wrong content type. */
function parseJson(app: FastifyInstance): FastifyBodyParser<string> {
  const parse = app.getDefaultJsonParser("error", "error");
  return (request, body, done) => {
    if (!body.startsWith("--")) {
      requireSmallJson(body);
      return parse(request, body, done);
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
 * user id and token in the arguments take precedence over a header, which may come from a proxy.
 */
async function readUpload(
  request: FastifyRequest,
  reply: FastifyReply,
  context: RequestContext,
  limits: MultipartLimits,
): Promise<GraphQLRequestBody> {
  refuseByLength(request.headers, limits);
  const body = await readMultipartRequest(request.raw, reply.raw, limits, async (operations) => {
    const credentials = uploadCredentials(operations);
    if (!credentials) return;
    const owner =
      credentials === "from the header"
        ? await context.caller("UPLOAD")
        : await context.authenticate(credentials.userId, credentials.token);
    await context.admitUpload(owner);
  });
  return readPartOf(body);
}

/** The user of the Bearer token. */
async function callerOf(request: FastifyRequest, authenticate: Authenticate): Promise<Caller> {
  const token = bearerToken(request.raw.headersDistinct.authorization);
  if (token === undefined) {
    const message = request.headers.authorization
      ? "The Authorization header must have the form: Bearer <token>."
      : "Send your token in the header: Authorization: Bearer <token>.";
    throw new ServiceError("UNAUTHENTICATED", message);
  }
  const user = await authenticate(token);
  logWithUser(request, user);
  return user;
}

/** Refuses mutations while the service stops. Queries still work. */
function refuseMutationsWhen(stopping: AbortSignal): ApolloServerPlugin {
  return {
    requestDidStart: async () => ({
      didResolveOperation: async ({ operation }) => {
        if (stopping.aborted && operation?.operation === OperationTypeNode.MUTATION) throw shuttingDown();
      },
    }),
  };
}

/** The origin under which the client reached the service. Headers of a proxy count only if the proxy is trusted. */
function requestOrigin({ protocol, host, socket }: FastifyRequest): string {
  const origin = `${protocol}://${host}`;
  return /^https?$/.test(protocol) &&
    URL.canParse(origin) &&
    new URL(origin).host === host.toLowerCase().replace(/:(80|443)$/, "")
    ? new URL(origin).origin
    : `http://localhost:${socket.localPort}`;
}

function toHeaderMap(headers: IncomingHttpHeaders): HeaderMap {
  const map = new HeaderMap();
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) map.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  return map;
}

function pageForPeople({ publicUrl = "" }: GraphqlConfig): Page {
  return {
    heading: "This address is for programs",
    paragraphs: ["Apps send GraphQL requests to this address with POST. A browser shows nothing here."],
    links: { "The schema of the API": `${publicUrl}/schema.graphql` },
  };
}

function landingPage({ sandbox }: GraphqlConfig): ApolloServerPlugin {
  if (!sandbox) return ApolloServerPluginLandingPageDisabled();
  return ApolloServerPluginLandingPageLocalDefault({
    document: exampleDocument,
    embed: { runTelemetry: false, initialState: { sharedHeaders: { "apollo-require-preflight": "true" } } },
    includeCookies: false,
    footer: false,
  });
}

/** Headers of the Sandbox page. The service sends the page; its script, frame and images come from Apollo. */
const sandboxHeaders = securityHeaders({
  defaultSrc: ["'none'"],
  scriptSrc: ["'unsafe-inline'", "https://*.apollographql.com"],
  styleSrc: ["'unsafe-inline'", "https://*.apollographql.com", "https://fonts.googleapis.com"],
  fontSrc: ["https://fonts.gstatic.com"],
  imgSrc: ["data:", "https://*.apollographql.com"],
  manifestSrc: ["https://*.apollographql.com"],
  frameSrc: ["https://*.apollographql.com"],
  connectSrc: ["'self'", "https://*.apollographql.com"],
  frameAncestors: ["'none'"],
});
