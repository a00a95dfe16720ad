import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Logger } from "./logger.ts";
import type { Caller } from "./user/authenticate-user.ts";

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
   * @throws {ServiceError} UNAUTHENTICATED when there is none, FORBIDDEN when the token lacks the request's scope
   */
  caller(): Promise<Caller>;
  /** Says that this request changes nothing: from now on a token needs READ, where it needed WRITE. */
  readOnly(): void;
  /** Like {@link caller}, for credentials given as arguments. */
  authenticate(userId: string, token: string): Promise<Caller>;
  /** The user of this id if {@link authenticate} has met them, else {@link caller}. */
  callerAs(userId: string): Promise<Caller>;
  /**
   * Asks, once for each user, whether there is room for one more upload.
   * @throws {ServiceError} SHUTTING_DOWN, BUSY or RATE_LIMITED
   */
  admitUpload(owner: Caller): Promise<void>;
}
