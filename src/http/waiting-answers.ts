import { ServiceError } from "../errors/errors.ts";

/** Memory of a waiting response in addition to its bytes: connection, request and response. */
const connectionBytes = 128 * 1024;

interface Waiting {
  readonly address: string;
  readonly bytes: number;
  readonly end: (reason: ServiceError) => void;
}

/**
 * The responses whose clients are currently reading nothing, such as paused players. They may wait while there is
 * memory for them. When it is used up, the response that has waited longest ends, among those of the address that holds
 * most memory. All of them end when the service stops.
 */
export class WaitingAnswers {
  /** Time for one piece after which a response counts as waiting, in milliseconds. */
  readonly patienceMs: number;
  readonly #maxBytes: number;
  readonly #maxWaitMs: number;
  readonly #stopping: AbortSignal;
  /** Oldest first. */
  readonly #waiting = new Set<Waiting>();
  #bytes = 0;

  constructor({ maxBytes, stopping, patienceMs = 2000, maxWaitMs = 86_400_000 }: WaitingLimits) {
    this.patienceMs = patienceMs;
    this.#maxBytes = maxBytes;
    this.#maxWaitMs = maxWaitMs;
    this.#stopping = stopping;
    stopping.addEventListener("abort", () => {
      for (const answer of this.#waiting) answer.end(stopped());
    });
  }

  /** Number of waiting responses. */
  get count(): number {
    return this.#waiting.size;
  }

  /**
   * Registers a waiting response, until the returned object is disposed of.
   * @param address the client's address; one address cannot crowd out the others
   * @param bytes the memory that it holds while it waits
   * @param end ends the response early, with the reason
   */
  wait(address: string, bytes: number, end: (reason: ServiceError) => void): Disposable {
    const answer = { address, bytes: bytes + connectionBytes, end };
    const timer = setTimeout(() => end(tooLong()), this.#maxWaitMs);
    this.#waiting.add(answer);
    this.#bytes += answer.bytes;
    if (this.#stopping.aborted) end(stopped());
    while (this.#bytes > this.#maxBytes && this.#waiting.size > 1) {
      const longest = this.#longestOfBusiestAddress();
      this.#leave(longest);
      longest.end(noMemory());
    }
    return {
      [Symbol.dispose]: () => {
        clearTimeout(timer);
        this.#leave(answer);
      },
    };
  }

  #longestOfBusiestAddress(): Waiting {
    const bytesOf = new Map<string, number>();
    for (const { address, bytes } of this.#waiting) bytesOf.set(address, (bytesOf.get(address) ?? 0) + bytes);
    const most = Math.max(...bytesOf.values());
    return [...this.#waiting].find(({ address }) => bytesOf.get(address) === most)!;
  }

  #leave(answer: Waiting): void {
    if (this.#waiting.delete(answer)) this.#bytes -= answer.bytes;
  }
}

interface WaitingLimits {
  /** Maximum memory of all waiting responses. */
  readonly maxBytes: number;
  /** Aborted when the service begins to stop. */
  readonly stopping: AbortSignal;
  readonly patienceMs?: number;
  /** Maximum time for which a client may read nothing. */
  readonly maxWaitMs?: number;
}

function noMemory(): ServiceError {
  return new ServiceError(
    "BUSY",
    "A download that waited for its client ended to free memory for others (MAX_WAITING_BYTES).",
  );
}

function stopped(): ServiceError {
  return new ServiceError(
    "SHUTTING_DOWN",
    "A download that waited for its client ended because the service is stopping.",
  );
}

function tooLong(): ServiceError {
  return new ServiceError("CLIENT_CLOSED_REQUEST", "The client read nothing for too long.");
}
