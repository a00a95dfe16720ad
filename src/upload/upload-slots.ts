import { tryAgainLater, type ServiceError } from "../errors/errors.ts";

/** Uploads that may wait; more than that would wait in vain. */
const maxWaiting = 1000;
const maxWaitingPerUser = 250;

/** For each upload that may run, so many may be under way with those that rest; of one user or address a smaller part. */
const underWayForEach = 8;
const underWayForEachOfAddress = 4;
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

/** How a client sends. */
interface Client {
  readonly isSlow: boolean;
  readonly bytesPerSecond: number;
  /** Ends its upload. */
  end(): void;
}

/** Who uploads, from where. */
export interface Uploader {
  readonly userId: number;
  /** The client's, as a key. */
  readonly address: string;
  readonly client: Client;
}

interface Waiting {
  readonly uploader: Uploader;
  admit(): void;
}

/**
 * How many uploads may run, for the service and for each user; those over it wait in order. Those that rest do not count
 * among them, but among those under way: when these are too many, in all or from one address, the slowest has to end.
 */
export class UploadSlots {
  readonly #limits: {
    readonly maxUploads: number;
    readonly maxUploadsPerUser: number;
    readonly queueTimeoutSeconds: number;
  };
  /** By user. */
  readonly #running = new Tally<number>();
  /** Those that run and those that rest, by user and by address. */
  readonly #underWay = new Tally<number>();
  readonly #underWayFrom = new Tally<string>();
  readonly #uploaders = new Set<Uploader>();
  /** Those of them that were told to end. */
  readonly #ending = new Set<Uploader>();
  /** When one that waited was admitted, last. */
  #movedAt = -Infinity;
  #lookingForRoom: NodeJS.Timeout | undefined;
  #queue: Waiting[] = [];

  constructor(limits: { maxUploads: number; maxUploadsPerUser: number; queueTimeoutSeconds: number }) {
    this.#limits = limits;
  }

  /**
   * Asks whether an upload could run or wait now.
   * @throws {ServiceError} BUSY when the queue is full
   */
  refuseWhenFull(userId: number): void {
    if (!this.#mayRun(userId) || this.#isFull()) this.#refuseWhenQueueIsFull(userId);
  }

  #refuseWhenQueueIsFull(userId: number): void {
    const ofUser = this.#queue.filter(({ uploader }) => uploader.userId === userId).length;
    if (this.#queue.length >= maxWaiting || ofUser >= maxWaitingPerUser) throw busy();
  }

  /**
   * Waits for a slot; dispose of it when the upload is over.
   * @throws {ServiceError} BUSY when the queue is full or does not move
   * @throws the signal's reason if it is aborted meanwhile
   */
  async acquire(uploader: Uploader, signal: AbortSignal): Promise<UploadSlot> {
    signal.throwIfAborted();
    if (this.#hasRoomFor(uploader)) this.#occupy(uploader);
    else await this.#wait(uploader, signal);
    return this.#slotOf(uploader);
  }

  #slotOf(uploader: Uploader): UploadSlot {
    const { userId, address } = uploader;
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
        this.#underWayFrom.subtract(address);
        this.#uploaders.delete(uploader);
        this.#ending.delete(uploader);
        this.#admitNext();
      },
    };
  }

  #hasRoomFor(uploader: Uploader): boolean {
    return this.#mayRun(uploader.userId) && !this.#isFull() && !this.#isAddressFull(uploader);
  }

  /** Whether one more of this user's may run now, were there any number of others under way. */
  #mayRun(userId: number): boolean {
    const { maxUploads, maxUploadsPerUser } = this.#limits;
    return (
      this.#running.total < maxUploads &&
      this.#running.of(userId) < maxUploadsPerUser &&
      this.#underWay.of(userId) < maxUploadsPerUser * underWayForEachOfUser
    );
  }

  /** Whether too many are under way. */
  #isFull(): boolean {
    return this.#underWay.total >= this.#limits.maxUploads * underWayForEach;
  }

  #isAddressFull({ address }: Uploader): boolean {
    return this.#underWayFrom.of(address) >= this.#limits.maxUploads * underWayForEachOfAddress;
  }

  #occupy(uploader: Uploader): void {
    this.#running.add(uploader.userId);
    this.#underWay.add(uploader.userId);
    this.#underWayFrom.add(uploader.address);
    this.#uploaders.add(uploader);
  }

  #admitNext(): void {
    this.#queue.find(({ uploader }) => this.#hasRoomFor(uploader))?.admit();
  }

  /** Ends slow uploads for those who wait because too many are under way: the slowest, one for each of them. */
  #makeRoom(): void {
    const blocked = this.#queue.filter(({ uploader }) => this.#isFull() || this.#isAddressFull(uploader));
    for (const { uploader } of blocked.slice(this.#ending.size)) {
      const isInTheWay = (other: Uploader) => !this.#isAddressFull(uploader) || other.address === uploader.address;
      let slowest: Uploader | undefined;
      for (const other of this.#uploaders) {
        if (this.#ending.has(other) || !isInTheWay(other) || !other.client.isSlow) continue;
        if (!slowest || other.client.bytesPerSecond < slowest.client.bytesPerSecond) slowest = other;
      }
      if (!slowest) continue;
      this.#ending.add(slowest);
      slowest.client.end();
    }
  }

  async #wait(uploader: Uploader, signal: AbortSignal): Promise<void> {
    this.#refuseWhenQueueIsFull(uploader.userId);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting: Waiting = {
      uploader,
      admit: () => {
        this.#movedAt = performance.now();
        this.#occupy(uploader);
        this.#queue = this.#queue.filter((other) => other !== waiting);
        resolve();
      },
    };
    const giveUp = (reason: unknown) => {
      this.#queue = this.#queue.filter((other) => other !== waiting);
      reject(reason);
    };
    const onAbort = () => giveUp(signal.reason);
    const since = performance.now();
    const patienceMs = this.#limits.queueTimeoutSeconds * 1000;
    const onTimeout = () => {
      const leftMs = Math.max(since, this.#movedAt) + patienceMs - performance.now();
      if (leftMs <= 0) giveUp(busy());
      else timer = setTimeout(onTimeout, leftMs);
    };
    let timer = setTimeout(onTimeout, patienceMs);
    signal.addEventListener("abort", onAbort, { once: true });
    this.#queue.push(waiting);
    this.#makeRoom();
    this.#lookingForRoom ??= setInterval(() => this.#makeRoom(), 1000);
    try {
      await promise;
    } finally {
      if (this.#queue.length === 0) {
        clearInterval(this.#lookingForRoom);
        this.#lookingForRoom = undefined;
      }
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }
}

/** How many there are, in all and for each key. */
class Tally<Key> {
  total = 0;
  readonly #ofKey = new Map<Key, number>();

  of(key: Key): number {
    return this.#ofKey.get(key) ?? 0;
  }

  add(key: Key): void {
    this.total++;
    this.#ofKey.set(key, this.of(key) + 1);
  }

  subtract(key: Key): void {
    this.total--;
    const left = this.of(key) - 1;
    if (left === 0) this.#ofKey.delete(key);
    else this.#ofKey.set(key, left);
  }
}

function busy(): ServiceError {
  return tryAgainLater("BUSY", "Too many uploads are running", 10);
}
