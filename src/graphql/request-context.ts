import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { FormattedExecutionResult, GraphQLResolveInfo } from "graphql";
import type { Caller, TokenScope } from "../caller/caller.ts";
import type { Logger } from "../telemetry/logger.ts";

/** The response paths, such as `me`, `records`, `nodes`, `tags`, at which an operation selects each field. */
export type FieldPlaces = ReadonlyMap<string, readonly { readonly path: readonly string[] }[]>;

/**
 * The context of one request for its resolvers. Apollo copies it for each operation, so everything that may change is a
 * function.
 */
export interface RequestContext {
  /** The id of the request in the log and in errors. */
  readonly requestId: string;
  /** The request's logger. Its lines have the user as soon as that is known. */
  readonly logger: () => Pick<Logger, "info" | "warn" | "error">;
  /** The EntityManager of this request, created on first use. */
  readonly em: () => SqlEntityManager;
  /** Aborted when the client has disconnected. */
  readonly signal: AbortSignal;
  /** The origin under which the client reached the service, such as `https://music.example.com`. */
  readonly origin: string;
  /** Size of the request body according to `Content-Length`; undefined if it is missing. */
  readonly requestBytes: number | undefined;
  /** The client's network address. */
  readonly clientAddress: string;
  /**
   * The user of the Bearer token, looked up once.
   * @param scopes the token needs one of them; by default READ if {@link readOnly} was called, else WRITE
   * @throws {ServiceError} UNAUTHENTICATED if there is none, FORBIDDEN if the token lacks the scope
   */
  caller(...scopes: readonly TokenScope[]): Promise<Caller>;
  /**
   * Marks this request as read-only. Unless a field declares another scope, a token then needs READ instead of WRITE.
   */
  readOnly(): void;
  /** Like {@link caller}, for credentials in the arguments of an upload. The token needs UPLOAD. */
  authenticate(userId: string, token: string): Promise<Caller>;
  /** The owner of an upload with this ticket, with the scope UPLOAD. */
  authenticateTicket(ticket: string): Promise<Caller>;
  /**
   * The user with this id if {@link authenticate} or {@link authenticateTicket} has found them, else the user of the
   * Bearer token, with any scope.
   */
  callerAs(userId: string): Promise<Caller>;
  /**
   * Checks, once for each user, whether one more upload may begin.
   * @throws {ServiceError} SHUTTING_DOWN, BUSY or RATE_LIMITED
   */
  admitUpload(owner: Caller): Promise<void>;
  /**
   * Says what the operation selects.
   * @param bytes what its answer takes at most, in memory
   * @param fields the fields in it, by names such as `Recording.tags`
   */
  expectAnswer(bytes: number, fields: FieldPlaces): void;
  /** Whether the operation selects a field, such as `Recording.tags`, anywhere inside the field at `path`. */
  selects(field: string, path: GraphQLResolveInfo["path"]): boolean;
  /** Whether the answer may be too large to be made in one step. */
  expectsLargeAnswer(): boolean;
  /** Keeps the result of a large answer, of which the route writes the JSON. */
  keepResult(result: FormattedExecutionResult): void;
  /** The result that was kept. */
  keptResult(): FormattedExecutionResult | undefined;
  /**
   * Waits until this request may use the database beside others (`request-turns.ts`).
   * @throws {ServiceError} BUSY if its turn does not come in time
   */
  takeTurn(): Promise<void>;
  /** Lets others have their turn. Call it before the request waits for its client, or for memory. */
  leaveTurn(): void;
  /**
   * Runs what needs the database in a turn of its own, in a request that has left its turn.
   * @param options.evenIfGone whether it has to run also if the client no longer waits
   * @throws {ServiceError} BUSY if its turn does not come in time
   */
  readonly inTurn: <T>(run: () => Promise<T>, options?: { readonly evenIfGone: boolean }) => Promise<T>;
  /**
   * Waits until there is memory for the answer.
   * @param isDone whether the answer is about something that has been done: then it is never refused
   * @throws {ServiceError} BUSY when there is none in time
   */
  roomForAnswer(isDone?: boolean): Promise<void>;
}

/** The most bytes of a small request. So much of any file may be in buffers. */
const smallRequestBytes = 64 * 1024;

/** Whether a request states that it is small. */
export function isSmall({ requestBytes = Infinity }: Pick<RequestContext, "requestBytes">): boolean {
  return requestBytes <= smallRequestBytes;
}
