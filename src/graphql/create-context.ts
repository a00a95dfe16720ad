import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { FastifyReply, FastifyRequest } from "fastify";
import { responsePathAsArray, type FormattedExecutionResult } from "graphql";
import { clientAddress } from "../addresses/client-address.ts";
import { requireScope, type Caller, type TokenScope } from "../caller/caller.ts";
import { bearerToken } from "../caller/token.ts";
import { ServiceError } from "../errors/errors.ts";
import { clientGone, largeAnswerBytes, type AnswerMemory } from "../http/answer-memory.ts";
import { requestOrigin } from "../http/request-origin.ts";
import type { RequestTurns } from "../http/request-turns.ts";
import type { FieldPlaces, RequestContext } from "./request-context.ts";

/** The dependencies of a context. */
export interface ContextDependencies {
  readonly em: SqlEntityManager;
  readonly authenticate: Authenticate;
  /**
   * Finds the owner of an upload with a ticket.
   * @throws {ServiceError} UNAUTHENTICATED, CONFLICT if it was used, or USER_DISABLED
   */
  readonly authenticateTicket: (ticket: string) => Promise<Caller>;
  /**
   * Called before a file is read, or stored if the request is small; once for each request and user.
   * @throws {ServiceError} if this user may not upload from this address now
   */
  readonly beforeUpload: (owner: Caller, clientAddress: string) => Promise<void>;
  readonly answers: AnswerMemory;
  readonly turns: RequestTurns;
}

/**
 * Finds the user of a token.
 * @param clientAddress from where a subject of the identity provider becomes a user
 * @param userId if given, the token must belong to this user
 * @throws {ServiceError} UNAUTHENTICATED, or USER_DISABLED
 */
type Authenticate = (token: string, clientAddress: string, userId?: string) => Promise<Caller>;

/**
 * Creates the context of a request. The caller is looked up when a resolver first needs it, once.
 * @param publicUrl the origin of links; undefined: the origin under which the client reached the service
 */
export function createContext(
  request: FastifyRequest,
  reply: FastifyReply,
  { em, authenticate, authenticateTicket, beforeUpload, answers, turns }: ContextDependencies,
  publicUrl: string | undefined,
): RequestContext {
  const gone = new AbortController();
  reply.raw.once("close", () => {
    if (reply.raw.writableFinished) return;
    gone.abort(clientGone());
  });
  let caller: Promise<Caller> | undefined;
  const callers = new Map<string, Promise<Caller>>();
  const authenticated = new Map<string, Caller>();
  const admissions = new Map<number, Promise<void>>();
  let fork: SqlEntityManager | undefined;
  let usualScope: TokenScope = "WRITE";
  let answerBytes = 0;
  let selected: FieldPlaces = new Map();
  let turn: Disposable | undefined;
  let keptResult: FormattedExecutionResult | undefined;
  const findCaller = async (): Promise<Caller> => await (caller ??= callerOf(request, authenticate, turns));
  return {
    requestId: request.id,
    logger: () => request.log,
    em: () => (fork ??= em.fork()),
    signal: gone.signal,
    origin: publicUrl ?? requestOrigin(request),
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
      await once(callers, JSON.stringify([userId, token]), async () => {
        const user = await authenticate(token, clientAddress(request), userId);
        requireScope(user, "UPLOAD");
        authenticated.set(userId, user);
        logWithUser(request, user);
        return user;
      }),
    authenticateTicket: async (ticket) =>
      await once(callers, JSON.stringify([ticket]), async () => {
        const user = await authenticateTicket(ticket);
        authenticated.set(String(user.id), user);
        logWithUser(request, user);
        return user;
      }),
    admitUpload: async (owner) =>
      await once(admissions, owner.id, async () => await beforeUpload(owner, clientAddress(request))),
    expectAnswer: (bytes, fields) => {
      answerBytes = bytes;
      selected = fields;
    },
    selects: (field, path) => {
      const around = responsePathAsArray(path).filter((key) => typeof key === "string");
      return selected.get(field)?.some((place) => around.every((key, at) => place.path[at] === key)) ?? false;
    },
    expectsLargeAnswer: () => answerBytes >= largeAnswerBytes,
    keepResult: (result) => void (keptResult = result),
    keptResult: () => keptResult,
    takeTurn: async () => void (turn = await turns.take(request, reply)),
    leaveTurn: () => turn?.[Symbol.dispose](),
    inTurn: async (run, options) => await turns.run(request, reply, run, options),
    roomForAnswer: async (isDone) => await answers.reserve(reply.raw, answerBytes, isDone),
  };
}

/** The user of the Bearer token. */
async function callerOf(request: FastifyRequest, authenticate: Authenticate, turns: RequestTurns): Promise<Caller> {
  const token = bearerToken(request.raw.headersDistinct.authorization);
  if (token === undefined) {
    const message = request.headers.authorization
      ? "The Authorization header must have the form: Bearer <token>."
      : "Send your token in the header: Authorization: Bearer <token>.";
    throw new ServiceError("UNAUTHENTICATED", message);
  }
  const user = await authenticate(token, clientAddress(request));
  turns.know(request, user);
  logWithUser(request, user);
  return user;
}

async function once<K, V>(results: Map<K, Promise<V>>, key: K, find: () => Promise<V>): Promise<V> {
  const result = results.get(key) ?? find();
  results.set(key, result);
  return await result;
}

/** Adds the user to all later log lines of this request. */
function logWithUser(request: FastifyRequest, { id }: Caller): void {
  request.log = request.log.child({ user: id });
}
