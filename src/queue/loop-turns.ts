import { FairQueue } from "./fair-queue.ts";
import { afterThis, LoopTime } from "./loop-time.ts";

/** How long work may begin in one turn of the event loop, in milliseconds. */
const turnMs = 5;

/**
 * Spreads work over several turns of the event loop. What arrives at the same time, on hundreds of connections, would
 * otherwise all be begun in one turn, and everything else would wait for it. Owners take turns.
 */
export class LoopTurns<Owner> {
  readonly #time = new LoopTime(turnMs);
  readonly #waiting = new FairQueue<Owner, () => void>();
  #isUnderWay = false;

  /** Whether work may begin at once. */
  get isFree(): boolean {
    return this.#waiting.size === 0 && this.#time.isLeft;
  }

  /** Calls back when work of this owner may begin. */
  wait(owner: Owner, begin: () => void): void {
    this.#waiting.add(owner, begin);
    if (!this.#isUnderWay) setImmediate(() => this.#beginNext());
    this.#isUnderWay = true;
  }

  #beginNext(): void {
    this.#isUnderWay = this.#waiting.size > 0;
    if (!this.#isUnderWay) return;
    if (!this.#time.isLeft) {
      setImmediate(() => this.#beginNext());
      return;
    }
    this.#waiting.takeFirstOf(() => true)?.();
    afterThis(() => this.#beginNext());
  }
}
