import { tryAgainLater, type ServiceError } from "../errors/errors.ts";

/** Requests smaller than this are never refused for their size: thousands of them fit. */
export const smallBytes = 4096;

/**
 * Counts the memory of requests whose sender is not authenticated yet: incomplete bodies, and JSON that is being
 * processed. All of them share a fixed number of bytes. When these are used up, the largest request that is still
 * arriving fails with BUSY. So silent and trickling clients make room, and small requests succeed.
 */
export class UnvouchedBytes {
  readonly #maxBytes: number;
  #bytes = 0;
  readonly #arriving = new Set<HeldBytes>();

  constructor(maxBytes = 32 * 1024 * 1024) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Begins to count the memory of a request.
   * @param refuse called at most once, and only before the request has arrived; it must release the memory of the
   * request
   */
  hold(refuse: (busy: ServiceError) => void): HeldBytes {
    const held: HeldBytes = {
      bytes: 0,
      refuse,
      add: (bytes) => {
        if (released) return;
        held.bytes += bytes;
        this.#bytes += bytes;
        if (this.#bytes > this.#maxBytes) this.#refuseLargest();
      },
      arrived: () => void this.#arriving.delete(held),
      release: () => {
        if (released) return;
        released = true;
        this.#bytes -= held.bytes;
        this.#arriving.delete(held);
      },
    };
    let released = false;
    this.#arriving.add(held);
    return held;
  }

  #refuseLargest(): void {
    let largest: HeldBytes | undefined;
    for (const held of this.#arriving) if (held.bytes > (largest?.bytes ?? smallBytes)) largest = held;
    if (!largest) return;
    largest.release();
    largest.refuse(tryAgainLater("BUSY", "Too many requests are arriving at the same time", 5));
  }
}

/** The memory of one request. */
export interface HeldBytes {
  readonly refuse: (busy: ServiceError) => void;
  bytes: number;
  /** Counts more, or fewer if negative. */
  add(bytes: number): void;
  /** Marks the request as complete. From then on it cannot be refused. */
  arrived(): void;
  release(): void;
}
