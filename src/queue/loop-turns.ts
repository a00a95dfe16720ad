import { FairQueue } from "./fair-queue.ts";
import { afterThis, LoopTime } from "./loop-time.ts";

/** How long work may begin in one turn of the event loop, in milliseconds. */
const turnMs = 5;

/** While connections arrive, one piece of work begins in so many milliseconds. */
const arrivalMs = 3;

/** Maximum number of pieces of work that wait for arrivals: each may have memory. */
const maxHeldUp = 1000;

/**
 * Spreads work over several turns of the event loop. What arrives at the same time, on hundreds of connections, would
 * otherwise all be begun in one turn, and everything else would wait for it. Owners take turns.
 *
 * Only who has arrived can take turns, and Node.js accepts one connection in each turn of the event loop (libuv 1.45 and
 * later). If work began in each of them, a new connection would wait for a request of every connection before it,
 * whoever they belong to. So while connections arrive, turns of the event loop stay short: little work begins.
 */
export class LoopTurns<Owner> {
  readonly #time = new LoopTime(turnMs);
  readonly #waiting = new FairQueue<Owner, () => void>();
  #isUnderWay = false;
  /** When the next piece of work begins while connections arrive; undefined when none has arrived. */
  #nextAt: number | undefined;
  #hasArrived = false;

  /** Whether work may begin at once. */
  get isFree(): boolean {
    return this.#waiting.size === 0 && this.#nextAt === undefined && this.#time.isLeft;
  }

  /** Calls back when work of this owner may begin. */
  wait(owner: Owner, begin: () => void): void {
    this.#waiting.add(owner, begin);
    if (this.#isUnderWay || this.#nextAt !== undefined) return;
    this.#isUnderWay = true;
    setImmediate(() => this.#beginNext());
  }

  /** Tells that a connection has arrived: others may wait behind it. */
  arrive(): void {
    this.#hasArrived = true;
    if (this.#nextAt !== undefined) return;
    this.#nextAt = performance.now() + arrivalMs;
    setImmediate(() => this.#lookForArrivals());
  }

  #lookForArrivals(): void {
    if (!this.#hasArrived || this.#waiting.size > maxHeldUp) {
      this.#nextAt = undefined;
      if (this.#isUnderWay) return;
      this.#isUnderWay = true;
      this.#beginNext();
      return;
    }
    this.#hasArrived = false;
    if (performance.now() >= this.#nextAt!) {
      this.#waiting.takeFirstOf(() => true)?.();
      this.#nextAt = performance.now() + arrivalMs;
    }
    setImmediate(() => this.#lookForArrivals());
  }

  #beginNext(): void {
    this.#isUnderWay = this.#waiting.size > 0 && this.#nextAt === undefined;
    if (!this.#isUnderWay) return;
    if (!this.#time.isLeft) {
      setImmediate(() => this.#beginNext());
      return;
    }
    this.#waiting.takeFirstOf(() => true)?.();
    afterThis(() => this.#beginNext());
  }
}
