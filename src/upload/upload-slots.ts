import { FairSemaphore, type Permit } from "../queue/fair-semaphore.ts";
import { Tally } from "../queue/tally.ts";

/**
 * Number of active uploads, including suspended ones, for each upload that may run at the same time. One user or one
 * address may have a part of them.
 */
const activePerSlot = 8;
const activePerSlotOfAddress = 4;
const activePerSlotOfUser = 4;

/** Uploads that may wait for a slot. Each has some 100 kB in buffers: its client is not noticed if it leaves. */
const maxWaiting = 256;
const maxWaitingPerUser = 100;

/** Interval between searches for slow uploads to end, while uploads wait. */
const searchEveryMs = 1000;

/** Permission to run one upload. Dispose of it when the upload is over. */
export type UploadSlot = Permit;

/** The speed of a client. */
interface Client {
  readonly isSlow: boolean;
  readonly bytesPerSecond: number;
  /** Ends the client's upload. */
  end(): void;
}

/** The user and the address of an upload. */
export interface Uploader {
  readonly userId: number;
  /** The client's address, as a key. */
  readonly address: string;
  readonly client: Client;
}

/**
 * Limits how many uploads run at the same time, in total and per user. Users take turns. A suspended upload, for
 * example one with a slow client, does not run, but it is active. If too many are active, in total or from one address,
 * the slowest has to end.
 */
export class UploadSlots {
  readonly #limits: { readonly maxUploads: number; readonly maxUploadsPerUser: number };
  readonly #running: FairSemaphore<number>;
  /** Uploads that run or are suspended, by user and by address. */
  readonly #active = new Tally<number>();
  readonly #activeFrom = new Tally<string>();
  readonly #uploaders = new Set<Uploader>();
  /** Active uploads that were told to end. */
  readonly #ending = new Set<Uploader>();
  readonly #waiting = new Set<Uploader>();
  #search: NodeJS.Timeout | undefined;

  constructor(limits: { maxUploads: number; maxUploadsPerUser: number; queueTimeoutSeconds: number }) {
    this.#limits = limits;
    this.#running = new FairSemaphore({
      permits: limits.maxUploads,
      permitsPerOwner: limits.maxUploadsPerUser,
      maxWaiting,
      maxWaitingPerOwner: maxWaitingPerUser,
      timeoutSeconds: limits.queueTimeoutSeconds,
      busy: "Too many uploads are running",
    });
  }

  /** Number of uploads that wait for a slot. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * Checks whether an upload could run or wait now.
   * @throws {ServiceError} BUSY if the queue is full
   */
  refuseWhenFull(userId: number): void {
    if (!this.#running.isFree(userId) || this.#isFull() || this.#isUserFull(userId))
      this.#running.refuseWhenFull(userId);
  }

  /** Takes a slot if one is free; dispose of it when the upload is over. */
  tryAcquire(uploader: Uploader): UploadSlot | undefined {
    return this.#running.tryAcquire(this.#requestOf(uploader));
  }

  /**
   * Waits for a slot; dispose of it when the upload is over.
   * @throws {ServiceError} BUSY if the queue is full or does not move
   * @throws the signal's reason if it is aborted first
   */
  async acquire(uploader: Uploader, signal: AbortSignal): Promise<UploadSlot> {
    signal.throwIfAborted();
    const slot = this.tryAcquire(uploader);
    if (slot) return slot;
    this.#running.refuseWhenFull(uploader.userId);
    this.#waiting.add(uploader);
    this.#makeRoom();
    this.#search ??= setInterval(() => this.#makeRoom(), searchEveryMs);
    try {
      return await this.#running.acquire(this.#requestOf(uploader), signal);
    } finally {
      this.#waiting.delete(uploader);
      if (this.#waiting.size === 0) {
        clearInterval(this.#search);
        this.#search = undefined;
      }
    }
  }

  #requestOf(uploader: Uploader) {
    return { owner: uploader.userId, takeBesides: () => this.#begin(uploader) };
  }

  /** Counts an upload as active until the result is disposed of; undefined if too many are active. */
  #begin(uploader: Uploader): Disposable | undefined {
    if (this.#isFull() || this.#isUserFull(uploader.userId) || this.#isAddressFull(uploader.address)) return undefined;
    this.#active.add(uploader.userId);
    this.#activeFrom.add(uploader.address);
    this.#uploaders.add(uploader);
    return {
      [Symbol.dispose]: () => {
        this.#active.subtract(uploader.userId);
        this.#activeFrom.subtract(uploader.address);
        this.#uploaders.delete(uploader);
        this.#ending.delete(uploader);
      },
    };
  }

  #isFull(): boolean {
    return this.#active.total >= this.#limits.maxUploads * activePerSlot;
  }

  #isUserFull(userId: number): boolean {
    return this.#active.of(userId) >= this.#limits.maxUploadsPerUser * activePerSlotOfUser;
  }

  #isAddressFull(address: string): boolean {
    return this.#activeFrom.of(address) >= this.#limits.maxUploads * activePerSlotOfAddress;
  }

  /** Ends one slow upload, the slowest first, for each upload that waits because too many are active. */
  #makeRoom(): void {
    const blocked = [...this.#waiting].filter(({ address }) => this.#isFull() || this.#isAddressFull(address));
    for (const { address } of blocked.slice(this.#ending.size)) {
      const isInTheWay = (other: Uploader) => !this.#isAddressFull(address) || other.address === address;
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
}
