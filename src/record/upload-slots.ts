import { tryAgainLater, type ServiceError } from "../errors.ts";

/** Uploads that may wait; more than that would wait in vain. */
const maxWaiting = 1000;
const maxWaitingPerUser = 250;

/** For each upload that may run, so many may be under way with those that rest; of one user not as large a part. */
const underWayForEach = 8;
const underWayForEachOfUser = 4;

/** The right to run one upload; dispose of it when the upload is over. */
export interface UploadSlot extends Disposable {
  /** The upload has nothing to do, because its client is slow or no encoder is free: somebody else's may run meanwhile. */
  rest(why: Wait): void;
  /** That wait is over. If no other is left, the upload goes on, even if that makes one too many for a while. */
  wake(why: Wait): void;
}

/** What an upload can wait for. */
type Wait = "client" | "encoder";

interface Waiting {
  readonly userId: number;
  admit(): void;
}

/** How many uploads may run, for the service and for each user; those over it wait in order. Those that rest do not count. */
export class UploadSlots {
  readonly #limits: {
    readonly maxUploads: number;
    readonly maxUploadsPerUser: number;
    readonly queueTimeoutSeconds: number;
  };
  readonly #running = new Tally();
  /** Those that run and those that rest. */
  readonly #underWay = new Tally();
  #queue: Waiting[] = [];

  constructor(limits: { maxUploads: number; maxUploadsPerUser: number; queueTimeoutSeconds: number }) {
    this.#limits = limits;
  }

  /**
   * Asks whether an upload could run or wait now.
   * @throws {ServiceError} BUSY when the queue is full
   */
  refuseWhenFull(userId: number): void {
    if (this.#hasRoomFor(userId)) return;
    const ofUser = this.#queue.filter((waiting) => waiting.userId === userId).length;
    if (this.#queue.length >= maxWaiting || ofUser >= maxWaitingPerUser) throw busy();
  }

  /**
   * Waits for a slot; dispose of it when the upload is over.
   * @throws {ServiceError} BUSY when the queue is full or none came free in time
   * @throws the signal's reason when it is aborted meanwhile
   */
  async acquire(userId: number, signal: AbortSignal): Promise<UploadSlot> {
    signal.throwIfAborted();
    this.refuseWhenFull(userId);
    if (this.#hasRoomFor(userId)) this.#occupy(userId);
    else await this.#wait(userId, signal);
    return this.#slotOf(userId);
  }

  #slotOf(userId: number): UploadSlot {
    let held = true;
    const waits = new Set<Wait>();
    return {
      rest: (why) => {
        if (!held || waits.has(why)) return;
        if (waits.add(why).size > 1) return;
        this.#running.subtract(userId);
        this.#admitNext();
      },
      wake: (why) => {
        if (held && waits.delete(why) && waits.size === 0) this.#running.add(userId);
      },
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        if (waits.size === 0) this.#running.subtract(userId);
        this.#underWay.subtract(userId);
        this.#admitNext();
      },
    };
  }

  #hasRoomFor(userId: number): boolean {
    const { maxUploads, maxUploadsPerUser } = this.#limits;
    return (
      this.#running.total < maxUploads &&
      this.#running.of(userId) < maxUploadsPerUser &&
      this.#underWay.total < maxUploads * underWayForEach &&
      this.#underWay.of(userId) < maxUploadsPerUser * underWayForEachOfUser
    );
  }

  #occupy(userId: number): void {
    this.#running.add(userId);
    this.#underWay.add(userId);
  }

  #admitNext(): void {
    this.#queue.find((waiting) => this.#hasRoomFor(waiting.userId))?.admit();
  }

  async #wait(userId: number, signal: AbortSignal): Promise<void> {
    const { queueTimeoutSeconds } = this.#limits;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting: Waiting = {
      userId,
      admit: () => {
        this.#occupy(userId);
        this.#queue = this.#queue.filter((other) => other !== waiting);
        resolve();
      },
    };
    const giveUp = (reason: unknown) => {
      this.#queue = this.#queue.filter((other) => other !== waiting);
      reject(reason);
    };
    const onAbort = () => giveUp(signal.reason);
    const timer = setTimeout(() => giveUp(busy()), queueTimeoutSeconds * 1000);
    signal.addEventListener("abort", onAbort, { once: true });
    this.#queue.push(waiting);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }
}

/** How many there are, in all and for each user. */
class Tally {
  total = 0;
  readonly #ofUser = new Map<number, number>();

  of(userId: number): number {
    return this.#ofUser.get(userId) ?? 0;
  }

  add(userId: number): void {
    this.total++;
    this.#ofUser.set(userId, this.of(userId) + 1);
  }

  subtract(userId: number): void {
    this.total--;
    const left = this.of(userId) - 1;
    if (left === 0) this.#ofUser.delete(userId);
    else this.#ofUser.set(userId, left);
  }
}

function busy(): ServiceError {
  return tryAgainLater("BUSY", "Too many uploads are under way", 10);
}
