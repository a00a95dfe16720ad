/** A part of each turn of the event loop, which all who share it use up together. */
export class LoopTime {
  readonly #milliseconds: number;
  #endsAt: number | undefined;

  constructor(milliseconds: number) {
    this.#milliseconds = milliseconds;
  }

  /** Whether there is time left in this turn of the event loop. It begins to pass when this is first asked. */
  get isLeft(): boolean {
    const now = performance.now();
    if (this.#endsAt === undefined) {
      this.#endsAt = now + this.#milliseconds;
      setImmediate(() => (this.#endsAt = undefined));
    }
    return now < this.#endsAt;
  }
}

/** Calls back when all that follows at once from what is done now has been done. */
export function afterThis(callBack: () => void): void {
  // A tick that a microtask asks for comes after all microtasks.
  queueMicrotask(() => process.nextTick(callBack));
}
