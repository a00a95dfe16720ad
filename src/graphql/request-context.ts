import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Caller, TokenScope } from "../caller/caller.ts";
import type { Logger } from "../telemetry/logger.ts";

/** What one request carries to its resolvers. Apollo copies it for each operation: what may change is a function. */
export interface RequestContext {
  /** Stands in the log and in the answer to a fault. */
  readonly requestId: string;
  /** The request's logger, which knows the user as soon as one is known. */
  readonly logger: () => Pick<Logger, "info" | "warn" | "error">;
  /** This request's own EntityManager, made when it is first asked for. */
  readonly em: () => SqlEntityManager;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
  /** The address under which the client reached the service, such as `https://music.example.com`. */
  readonly origin: string;
  /** Bytes of the request's body, as `Content-Length` says; undefined without it. */
  readonly requestBytes: number | undefined;
  /** The client's network address. */
  readonly clientAddress: string;
  /**
   * The user of the Bearer token, looked up once.
   * @param scopes of which the token needs one; without any: READ if {@link readOnly} was called, else WRITE
   * @throws {ServiceError} UNAUTHENTICATED when there is none, FORBIDDEN when the token lacks the scope
   */
  caller(...scopes: readonly TokenScope[]): Promise<Caller>;
  /** Says that this request changes nothing: unless a field says otherwise, a token needs READ instead of WRITE. */
  readOnly(): void;
  /** Like {@link caller}, for an upload's credentials given as arguments: the token needs UPLOAD. */
  authenticate(userId: string, token: string): Promise<Caller>;
  /** The user of this id if {@link authenticate} has met them, else of the Bearer token, whatever it allows. */
  callerAs(userId: string): Promise<Caller>;
  /**
   * Asks, once for each user, whether there is room for one more upload.
   * @throws {ServiceError} SHUTTING_DOWN, BUSY or RATE_LIMITED
   */
  admitUpload(owner: Caller): Promise<void>;
}
