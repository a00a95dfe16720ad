import { tryAgainLater, type ServiceError } from "../errors.ts";

/** Uploads that may wait; more than that would wait in vain. */
const maxWaiting = 1000;
const maxWaitingPerUser = 250;

interface Waiting {
  readonly userId: number;
  admit(): void;
}

/** How many uploads may be under way, for the service and for each user; those over it wait in order. */
export class UploadSlots {
  readonly #limits: {
    readonly maxUploads: number;
    readonly maxUploadsPerUser: number;
    readonly queueTimeoutSeconds: number;
  };
  readonly #running = new Map<number, number>();
  #runningInAll = 0;
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
  async acquire(userId: number, signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    this.refuseWhenFull(userId);
    if (this.#hasRoomFor(userId)) this.#occupy(userId);
    else await this.#wait(userId, signal);
    return { [Symbol.dispose]: () => this.#release(userId) };
  }

  #hasRoomFor(userId: number): boolean {
    const { maxUploads, maxUploadsPerUser } = this.#limits;
    return this.#runningInAll < maxUploads && (this.#running.get(userId) ?? 0) < maxUploadsPerUser;
  }

  #occupy(userId: number): void {
    this.#runningInAll++;
    this.#running.set(userId, (this.#running.get(userId) ?? 0) + 1);
  }

  #release(userId: number): void {
    this.#runningInAll--;
    const left = (this.#running.get(userId) ?? 1) - 1;
    if (left === 0) this.#running.delete(userId);
    else this.#running.set(userId, left);
    const next = this.#queue.find((waiting) => this.#hasRoomFor(waiting.userId));
    if (next) next.admit();
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

function busy(): ServiceError {
  return tryAgainLater("BUSY", "Too many uploads are under way", 10);
}
