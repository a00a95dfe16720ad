import { ServiceError } from "../errors/errors.ts";

/** What an answer that waits costs beside its bytes: its connection, request and response. */
const connectionBytes = 128 * 1024;

interface Waiting {
  readonly address: string;
  readonly bytes: number;
  readonly end: (reason: ServiceError) => void;
}

/**
 * The answers whose clients take nothing for the moment, such as players that pause. They may wait for as long as there
 * is memory for what they hold; then the one ends that has waited longest, of the address that holds most. All end when
 * the service stops.
 */
export class WaitingAnswers {
  /** How long a client may take for one piece before its answer counts as waiting. */
  readonly patienceMs: number;
  readonly #maxBytes: number;
  readonly #maxWaitMs: number;
  readonly #stopping: AbortSignal;
  /** In the order in which they began to wait. */
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

  /** How many answers wait. */
  get count(): number {
    return this.#waiting.size;
  }

  /**
   * Lets an answer wait until what is returned is disposed of.
   * @param address whose answer it is: one address cannot crowd out the others
   * @param bytes memory that it holds meanwhile
   * @param end ends it early, with the reason
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
  /** Memory that all of them may hold. */
  readonly maxBytes: number;
  /** Aborted when the service begins to stop. */
  readonly stopping: AbortSignal;
  readonly patienceMs?: number;
  /** How long a client may take nothing at all. */
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
