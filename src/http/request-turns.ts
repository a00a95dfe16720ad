import type { FastifyReply, FastifyRequest } from "fastify";
import { addressKey } from "../addresses/address-key.ts";
import { clientAddress } from "../addresses/client-address.ts";
import type { Caller } from "../caller/caller.ts";
import { bearerToken, hashToken } from "../caller/token.ts";
import { tryAgainLater } from "../errors/errors.ts";
import { FairSemaphore } from "../queue/fair-semaphore.ts";
import { clientGone } from "./answer-memory.ts";

/** Maximum number of tokens whose users are known. */
const maxKnown = 4096;

/** Limits of {@link RequestTurns}. */
export interface TurnLimits {
  /** Number of connections to the database that the requests share. */
  readonly poolSize: number;
  /** How long a request waits for its turn. */
  readonly maxWaitSeconds: number;
}

/**
 * Gives requests their turn, so that a flood of them delays itself and nobody else. Only a few requests at a time use the
 * database, and those of one lane not all of its connections; the rest wait here, where the lanes take turns. A lane is
 * a user, or what comes from one address for the same purpose without a token that has been seen to be valid.
 */
export class RequestTurns {
  readonly #turns: FairSemaphore<string>;
  readonly #maxWaitMs: number;
  /** User ids by the hash of a token. It only chooses the lane: the token is looked up again for each request. */
  readonly #known = new Map<string, number>();

  constructor({ poolSize, maxWaitSeconds }: TurnLimits) {
    this.#maxWaitMs = maxWaitSeconds * 1000;
    this.#turns = new FairSemaphore({
      permits: 4 * poolSize,
      permitsPerOwner: Math.max(1, Math.floor((poolSize * 3) / 4)),
      timeoutSeconds: maxWaitSeconds,
      busy: "Too many requests are waiting",
    });
  }

  /**
   * Waits for the turn of a request. Dispose of the result when it is over, or before the request waits for its client.
   * @throws {ServiceError} BUSY if it does not come in time, CLIENT_CLOSED_REQUEST when nobody waits any more
   */
  async take(request: FastifyRequest, { raw: response }: FastifyReply): Promise<Disposable> {
    const owner = this.#laneOf(request);
    const turn = this.#turns.tryAcquire({ owner });
    if (turn) return turn;
    const waiting = new AbortController();
    const onClose = (): void => waiting.abort(clientGone());
    response.once("close", onClose);
    const timer = setTimeout(
      () => waiting.abort(tryAgainLater("BUSY", "Too many requests are waiting", 5)),
      this.#maxWaitMs,
    );
    try {
      if (response.closed) onClose();
      return await this.#turns.acquire({ owner }, waiting.signal);
    } finally {
      clearTimeout(timer);
      response.off("close", onClose);
    }
  }

  /** Notes whose token the request has, when it has been found to be valid. */
  know(request: FastifyRequest, { id }: Pick<Caller, "id">): void {
    const token = tokenOf(request);
    if (token === undefined) return;
    const hash = hashToken(token).toString("base64");
    if (this.#known.get(hash) === id) return;
    this.#known.set(hash, id);
    if (this.#known.size <= maxKnown) return;
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest);
      break;
    }
  }

  #laneOf(request: FastifyRequest): string {
    const token = tokenOf(request);
    const userId = token === undefined ? undefined : this.#known.get(hashToken(token).toString("base64"));
    if (userId !== undefined) return `user ${userId}`;
    const purpose = token === undefined ? request.routeOptions.url : token.includes(".") ? "JWT" : "token";
    return `${addressKey(clientAddress(request))} ${purpose}`;
  }
}

function tokenOf({ raw }: FastifyRequest): string | undefined {
  return raw.headers.authorization === undefined ? undefined : bearerToken(raw.headersDistinct.authorization);
}
