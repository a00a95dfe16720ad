import { tryAgainLater, type ServiceError } from "../errors/errors.ts";

/** Below this a request is never refused for its size: thousands of such are no burden. */
const smallBytes = 4096;

/**
 * The memory that requests take before anybody has vouched for them: bodies that arrive and wait for the rest, and JSON
 * that is being worked on. All of them share a fixed number of bytes. When it is used up, the largest that is still
 * arriving is refused as BUSY: so silent and dripping clients give way, and small requests get through.
 */
export class UnvouchedBytes {
  readonly #maxBytes: number;
  #bytes = 0;
  readonly #arriving = new Set<HeldBytes>();

  constructor(maxBytes = 32 * 1024 * 1024) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Begins to count a request.
   * @param refuse is called at most once, and only until the request has arrived: it has to let go of what it keeps
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
  add(bytes: number): void;
  /** It cannot be refused any more. */
  arrived(): void;
  release(): void;
}
