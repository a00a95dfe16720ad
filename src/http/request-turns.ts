import type { FastifyReply, FastifyRequest } from "fastify";
import type { ServerResponse } from "node:http";
import { addressKey } from "../addresses/address-key.ts";
import { clientAddress } from "../addresses/client-address.ts";
import type { Caller } from "../caller/caller.ts";
import { bearerToken, hashToken } from "../caller/token.ts";
import { tryAgainLater } from "../errors/errors.ts";
import type { LoopTurns } from "../queue/loop-turns.ts";
import { FairQueue } from "../queue/fair-queue.ts";
import { Tally } from "../queue/tally.ts";
import { clientGone } from "./answer-memory.ts";

/** Maximum number of tokens whose users are known. */
const maxKnown = 4096;

/** How often the service looks for requests that have waited for too long, or for nobody, in milliseconds. */
const lookEveryMs = 250;

/** Options of {@link RequestTurns}. */
interface TurnOptions {
  /** Number of connections to the database that the requests share. */
  readonly poolSize: number;
  /** How long a request waits for its turn. */
  readonly maxWaitSeconds: number;
  /** What a token needs beforehand from elsewhere. No turn is held meanwhile. */
  readonly prepare?: ((token: string) => Promise<void>) | undefined;
  /** Where requests begin that have had to arrive first. */
  readonly loopTurns: LoopTurns<string>;
}

/** A request that waits for its turn. */
interface Waiter {
  readonly lane: string;
  readonly since: number;
  /** No listener for its end: there may be thousands that wait, and each would have one. */
  readonly response: ServerResponse | undefined;
  readonly begin: () => void;
  readonly refuse: (reason: unknown) => void;
}

/**
 * Gives requests their turn, so that a flood of them delays itself and nobody else. Only a few requests at a time use
 * the database, and those of one lane not all of its connections; the rest wait here, where the lanes take turns. A
 * lane is a user, or what comes from one address for the same purpose without a token that has been seen to be valid.
 */
export class RequestTurns {
  readonly #maxTurns: number;
  readonly #maxTurnsOfLane: number;
  readonly #maxWaitMs: number;
  readonly #prepare: TurnOptions["prepare"];
  readonly #loopTurns: LoopTurns<string>;
  readonly #underWay = new Tally<string>();
  readonly #waiting = new FairQueue<string, Waiter>();
  /** One timer for all that wait: there may be thousands. */
  #isLooking = false;
  /** User ids by the hash of a token. It only chooses the lane: the token is looked up again for each request. */
  readonly #known = new Map<string, number>();
  /** The hashes of the tokens of requests, which take several turns. */
  readonly #hashes = new WeakMap<FastifyRequest, string>();

  constructor({ poolSize, maxWaitSeconds, prepare, loopTurns }: TurnOptions) {
    this.#maxTurns = 4 * poolSize;
    this.#maxTurnsOfLane = Math.max(1, Math.floor((poolSize * 3) / 4));
    this.#maxWaitMs = maxWaitSeconds * 1000;
    this.#prepare = prepare;
    this.#loopTurns = loopTurns;
  }

  /**
   * Waits for the turn of a request. Dispose of the result when it is over, or before the request waits for its client.
   * @param options.evenIfGone whether it waits also if its client does not
   * @throws {ServiceError} BUSY if it does not come in time, CLIENT_CLOSED_REQUEST when nobody waits any more
   */
  async take(
    request: FastifyRequest,
    { raw: response }: FastifyReply,
    { evenIfGone } = { evenIfGone: false },
  ): Promise<Disposable> {
    const token = tokenOf(request);
    if (token !== undefined) await this.#prepare?.(token);
    const lane = this.#laneOf(request);
    if (!this.#mayBegin(lane)) await this.#wait(lane, evenIfGone ? undefined : response);
    else this.#underWay.add(lane);
    if (!this.#loopTurns.isFree) await new Promise<void>((begin) => this.#loopTurns.wait(lane, begin));
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        this.#underWay.subtract(lane);
        this.#beginNext();
      },
    };
  }

  /**
   * Runs what a request needs of the database in its turn. The response is sent afterwards: its client may be slow.
   * @throws {ServiceError} what {@link take} throws
   */
  async run<T>(
    request: FastifyRequest,
    reply: FastifyReply,
    work: () => Promise<T>,
    options?: { readonly evenIfGone: boolean },
  ): Promise<T> {
    using _turn = await this.take(request, reply, options);
    return await work();
  }

  #mayBegin(lane: string): boolean {
    return this.#underWay.total < this.#maxTurns && this.#underWay.of(lane) < this.#maxTurnsOfLane;
  }

  /** @param response undefined: it waits whatever becomes of the client */
  async #wait(lane: string, response: ServerResponse | undefined): Promise<void> {
    if (response?.closed) throw clientGone();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.add(lane, { lane, since: performance.now(), response, begin: resolve, refuse: reject });
    this.#lookLater();
    await promise;
  }

  #lookLater(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    setTimeout(() => this.#refuseSome(), lookEveryMs).unref();
  }

  #beginNext(): void {
    let next = this.#waiting.takeFirstOf((lane) => this.#mayBegin(lane));
    while (next?.response?.closed) {
      next.refuse(clientGone());
      next = this.#waiting.takeFirstOf((lane) => this.#mayBegin(lane));
    }
    if (!next) return;
    this.#underWay.add(next.lane);
    next.begin();
  }

  #refuseSome(): void {
    const latest = performance.now() - this.#maxWaitMs;
    for (const waiter of this.#waiting) {
      const isGone = waiter.response?.closed ?? false;
      if ((waiter.since > latest && !isGone) || !this.#waiting.delete(waiter.lane, waiter)) continue;
      waiter.refuse(isGone ? clientGone() : tryAgainLater("BUSY", "Too many requests are waiting", 5));
    }
    this.#isLooking = false;
    if (this.#waiting.size > 0) this.#lookLater();
  }

  /** Notes whose token the request has, when it has been found to be valid. */
  know(request: FastifyRequest, { id }: Pick<Caller, "id">): void {
    const token = tokenOf(request);
    if (token === undefined) return;
    const hash = this.#hashOf(request, token);
    if (this.#known.get(hash) === id) return;
    this.#known.set(hash, id);
    if (this.#known.size <= maxKnown) return;
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest);
      break;
    }
  }

  #hashOf(request: FastifyRequest, token: string): string {
    const known = this.#hashes.get(request);
    if (known !== undefined) return known;
    const hash = hashToken(token).toString("base64");
    this.#hashes.set(request, hash);
    return hash;
  }

  #laneOf(request: FastifyRequest): string {
    const token = tokenOf(request);
    const userId = token === undefined ? undefined : this.#known.get(this.#hashOf(request, token));
    if (userId !== undefined) return `user ${userId}`;
    const purpose = token === undefined ? purposeOf(request) : token.includes(".") ? "JWT" : "token";
    return `${addressKey(clientAddress(request))} ${purpose}`;
  }
}

/** Few purposes, so that one address cannot have all turns. */
function purposeOf({ routeOptions: { url = "" } }: FastifyRequest): string {
  if (url === "/graphql") return "API";
  return /^\/(?:record|play)\b/.test(url) ? "recording" : "share";
}

function tokenOf({ raw }: FastifyRequest): string | undefined {
  return raw.headers.authorization === undefined ? undefined : bearerToken(raw.headersDistinct.authorization);
}
