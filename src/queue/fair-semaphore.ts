import { shuttingDown, tryAgainLater } from "../errors/errors.ts";
import { FairQueue } from "./fair-queue.ts";
import { Tally } from "./tally.ts";

/** Limits of a {@link FairSemaphore}. */
export interface SemaphoreLimits {
  /** Maximum of permits in use. */
  readonly permits: number;
  /** Maximum of one owner's permits in use; by default all. */
  readonly permitsPerOwner?: number;
  /** Maximum of waiting requests, in total and per owner; by default unlimited. */
  readonly maxWaiting?: number;
  readonly maxWaitingPerOwner?: number;
  /** A request fails after it has waited for this time, if no waiting request was granted in that time. */
  readonly timeoutSeconds: number;
  /** Reason in the message of a request that may not wait, or not longer. */
  readonly busy: string;
}

/** A request for a permit. */
interface PermitRequest<Owner> {
  /** Owners take turns. */
  readonly owner: Owner;
  /**
   * The request follows an earlier permit, and never times out. Requests for a first permit go before it, unless it is
   * almost done.
   */
  readonly again?: boolean;
  /** Whether the permit is needed for little more. Such a request goes before all others. */
  readonly isAlmostDone?: () => boolean;
  /**
   * Takes what the request needs besides the permit, and is disposed of with it. While it returns undefined, the
   * request waits and others pass it. By default nothing is needed.
   */
  readonly takeBesides?: () => Disposable | undefined;
}

/** A permit; dispose of it to return it. */
export interface Permit extends Disposable {
  /**
   * Lends the permit to others until the result is disposed of. Then it is in use again at once, even if more permits
   * than the maximum are in use for a while. Suspensions nest: the permit is in use again when the last one is over.
   */
  suspend(): Disposable;
}

interface Waiter<Owner> {
  readonly request: PermitRequest<Owner>;
  grant(permit: Permit): void;
  refuse(reason: unknown): void;
}

/** Permits granted in a row to those that go first while others wait. */
const urgentInARow = 3;

const nothing: Disposable = { [Symbol.dispose]() {} };

/**
 * A counting semaphore with a fair queue: owners take turns, however many requests each of them has. The requests of
 * one owner are granted in order of arrival, but those that are almost done come first, then those for a first permit. After
 * three in a row of these, one of the others is granted.
 */
export class FairSemaphore<Owner> implements Disposable {
  readonly #limits: Required<SemaphoreLimits>;
  readonly #inUse = new Tally<Owner>();
  /** Requests for a first permit, and requests for a further one. */
  readonly #firsts = new FairQueue<Owner, Waiter<Owner>>();
  readonly #others = new FairQueue<Owner, Waiter<Owner>>();
  #urgentInARow = 0;
  /** When a waiting request was last granted. */
  #movedAt = -Infinity;
  #closed = false;

  constructor(limits: SemaphoreLimits) {
    const unlimited = { permitsPerOwner: Infinity, maxWaiting: Infinity, maxWaitingPerOwner: Infinity };
    this.#limits = { ...unlimited, ...limits };
  }

  /** Number of permits in use. */
  get inUse(): number {
    return this.#inUse.total;
  }

  /** Number of waiting requests. */
  get waiting(): number {
    return this.#firsts.size + this.#others.size;
  }

  /** Number of waiting requests for a first permit, and of those that are almost done. */
  get waitingUrgently(): number {
    return this.#firsts.size + [...this.#others].filter(isAlmostDone).length;
  }

  /** Whether this owner may have one more permit in use. */
  isFree(owner: Owner): boolean {
    const { permits, permitsPerOwner } = this.#limits;
    return this.#inUse.total < permits && this.#inUse.of(owner) < permitsPerOwner;
  }

  /** @throws {ServiceError} `BUSY` if no further request of this owner may wait */
  refuseWhenFull(owner: Owner): void {
    const { maxWaiting, maxWaitingPerOwner, busy } = this.#limits;
    const ofOwner = this.#firsts.sizeOf(owner) + this.#others.sizeOf(owner);
    if (this.waiting >= maxWaiting || ofOwner >= maxWaitingPerOwner) throw tryAgainLater("BUSY", busy, 10);
  }

  /** Returns a permit if one is free now. */
  tryAcquire({ owner, takeBesides }: PermitRequest<Owner>): Permit | undefined {
    if (this.#closed || !this.isFree(owner)) return undefined;
    const besides = takeBesides ? takeBesides() : nothing;
    return besides && this.#permit(owner, besides);
  }

  /**
   * Waits for a permit.
   * @throws the signal's reason if it is aborted first
   * @throws {ServiceError} `BUSY` if too many requests wait, or if none of them was granted for too long;
   * `SHUTTING_DOWN` if the semaphore is disposed of
   */
  async acquire(request: PermitRequest<Owner>, signal: AbortSignal): Promise<Permit> {
    signal.throwIfAborted();
    if (this.#closed) throw shuttingDown();
    return this.tryAcquire(request) ?? (await this.#wait(request, signal));
  }

  /** Refuses all waiting and all later requests. */
  [Symbol.dispose](): void {
    this.#closed = true;
    for (const queue of [this.#firsts, this.#others]) {
      for (const waiter of queue) {
        queue.delete(waiter.request.owner, waiter);
        waiter.refuse(shuttingDown());
      }
    }
  }

  #permit(owner: Owner, besides: Disposable): Permit {
    let isHeld = true;
    let suspensions = 0;
    this.#inUse.add(owner);
    return {
      suspend: () => {
        suspensions += 1;
        if (isHeld && suspensions === 1) {
          this.#inUse.subtract(owner);
          this.#grantWaiting();
        }
        return once(() => {
          suspensions -= 1;
          if (isHeld && suspensions === 0) this.#inUse.add(owner);
        });
      },
      ...once(() => {
        isHeld = false;
        if (suspensions === 0) this.#inUse.subtract(owner);
        besides[Symbol.dispose]();
        this.#grantWaiting();
      }),
    };
  }

  async #wait(request: PermitRequest<Owner>, signal: AbortSignal): Promise<Permit> {
    const { owner, again = false } = request;
    this.refuseWhenFull(owner);
    const queue = again ? this.#others : this.#firsts;
    const { promise, resolve, reject } = Promise.withResolvers<Permit>();
    const waiter: Waiter<Owner> = { request, grant: resolve, refuse: reject };
    const leave = (reason: unknown) => {
      if (queue.delete(owner, waiter)) reject(reason);
    };
    const onAbort = () => leave(signal.reason);
    signal.addEventListener("abort", onAbort);
    using _timeout = again ? undefined : this.#whenStuck(() => leave(tryAgainLater("BUSY", this.#limits.busy, 10)));
    queue.add(owner, waiter);
    try {
      return await promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Calls back when no waiting request has been granted for the timeout. Dispose of the result to stop that. */
  #whenStuck(callBack: () => void): Disposable {
    const since = performance.now();
    const patienceMs = this.#limits.timeoutSeconds * 1000;
    const look = () => {
      const leftMs = Math.max(since, this.#movedAt) + patienceMs - performance.now();
      if (leftMs <= 0) callBack();
      else timer = setTimeout(look, leftMs);
    };
    let timer = setTimeout(look, patienceMs);
    return once(() => clearTimeout(timer));
  }

  #grantWaiting(): void {
    while (this.#inUse.total < this.#limits.permits && this.#grantOne()) this.#movedAt = performance.now();
  }

  /** Grants one waiting request, if one can be granted. */
  #grantOne(): boolean {
    const isGranted = (waiter: Waiter<Owner>) => {
      const permit = this.tryAcquire(waiter.request);
      if (permit) waiter.grant(permit);
      return permit !== undefined;
    };
    const mayBeUrgent = this.#urgentInARow < urgentInARow || this.#others.size === 0;
    const isUrgent =
      mayBeUrgent &&
      (this.#others.takeFirst((waiter) => isAlmostDone(waiter) && isGranted(waiter)) ??
        this.#firsts.takeFirst(isGranted)) !== undefined;
    this.#urgentInARow = isUrgent ? this.#urgentInARow + 1 : 0;
    if (isUrgent || this.#others.takeFirst(isGranted) !== undefined) return true;
    return !mayBeUrgent && this.#firsts.takeFirst(isGranted) !== undefined;
  }
}

function isAlmostDone({ request }: Pick<Waiter<unknown>, "request">): boolean {
  return request.isAlmostDone?.() === true;
}

/** Runs an action when the result is disposed of for the first time. */
function once(action: () => void): Disposable {
  const stack = new DisposableStack();
  stack.defer(action);
  return { [Symbol.dispose]: () => stack.dispose() };
}
