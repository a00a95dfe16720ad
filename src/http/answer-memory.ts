import type { ServerResponse } from "node:http";
import { ServiceError, tryAgainLater } from "../errors/errors.ts";

/** Answers that take less than this are not counted: the system takes them at once. */
export const largeAnswerBytes = 64 * 1024;

/** Minimum time that a client has for its response, in milliseconds. */
const graceMs = 2000;

/** How much memory answers may take, and for how long. */
interface AnswerLimits {
  /** No less than the largest answer needs. */
  readonly maxBytes?: number;
  /** How long an answer waits for room before it is refused. */
  readonly waitSeconds?: number;
  /** How long a client may take nothing of its answer. */
  readonly stallSeconds: number;
}

interface Held {
  readonly bytes: number;
  /** Since when the client may read it; undefined while it is made. */
  readonly readySince?: number;
}

interface Waiting {
  readonly response: ServerResponse;
  readonly bytes: number;
  readonly begin: () => void;
}

/**
 * The memory that large answers share, from before they are made until their clients have read them. One that finds no
 * room waits, the smallest first. If giving up answers that are made would do, the one that was made first is given up
 * with its connection, but not within two seconds. Small answers pass at once. Downloads are sent as they are read,
 * and are not among these.
 */
export class AnswerMemory {
  readonly #limits: Required<AnswerLimits>;
  #bytes = 0;
  /** Those that are made stand in the order in which they were. */
  readonly #held = new Map<ServerResponse, Held>();
  /** The smallest first. */
  readonly #waiting: Waiting[] = [];
  #nextLook: NodeJS.Timeout | undefined;

  constructor({ maxBytes = 128 * 1024 * 1024, waitSeconds = 10, stallSeconds }: AnswerLimits) {
    this.#limits = { maxBytes, waitSeconds, stallSeconds };
  }

  /**
   * Waits for room to make an answer.
   * @param bytes that it takes at most
   * @param isDone whether the answer is about something that has been done: then it waits for as long as it takes
   * @throws {ServiceError} BUSY when there is none in time, CLIENT_CLOSED_REQUEST when nobody waits any more
   */
  async reserve(response: ServerResponse, bytes: number, isDone = false): Promise<void> {
    if (bytes < largeAnswerBytes) return;
    if (response.closed) throw clientGone();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = { response, bytes: Math.min(bytes, this.#limits.maxBytes), begin: resolve };
    const larger = this.#waiting.findIndex((other) => other.bytes > waiting.bytes);
    this.#waiting.splice(larger < 0 ? this.#waiting.length : larger, 0, waiting);
    const timer = isDone ? undefined : setTimeout(() => reject(busy()), this.#limits.waitSeconds * 1000);
    const onClose = (): void => reject(clientGone());
    response.once("close", onClose);
    this.#makeRoom();
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      response.off("close", onClose);
      const index = this.#waiting.indexOf(waiting);
      if (index >= 0) this.#waiting.splice(index, 1);
    }
  }

  /** To be called when an answer of so many bytes is about to be written. */
  made(response: ServerResponse, bytes: number): void {
    response.setTimeout(this.#limits.stallSeconds * 1000, () => response.destroy());
    // Runs before node:http's own listener, which sets the timeout of idle connections.
    response.prependOnceListener("finish", () => response.setTimeout(0));
    this.#forget(response);
    if (bytes >= largeAnswerBytes && !response.closed) this.#hold(response, { bytes, readySince: performance.now() });
    this.#makeRoom();
  }

  /** To be called when nothing is made for this response any more, whatever has become of it. */
  ended(response: ServerResponse): void {
    if (!response.closed) return; // it is still to be written
    this.#forget(response);
    this.#makeRoom();
  }

  #makeRoom(): void {
    for (;;) {
      const [next] = this.#waiting;
      if (this.#bytes + (next?.bytes ?? 0) > this.#limits.maxBytes) {
        if (!this.#giveUpOldest()) return;
      } else if (next) {
        this.#waiting.shift();
        if (next.response.closed) continue;
        this.#hold(next.response, { bytes: next.bytes });
        next.begin();
      } else return;
    }
  }

  /** Whether there was one that had its time; if it comes later, room is made then. */
  #giveUpOldest(): boolean {
    const made = [...this.#held].filter(([, { readySince }]) => readySince !== undefined);
    const [oldest] = made;
    const madeBytes = made.reduce((sum, [, { bytes }]) => sum + bytes, 0);
    const neededBytes = this.#waiting[0]?.bytes ?? 0;
    // Where not even all of them would do, none is given up.
    if (!oldest || this.#bytes - madeBytes + neededBytes > this.#limits.maxBytes) return false;
    const [response, { readySince = 0 }] = oldest;
    const leftMs = readySince + graceMs - performance.now();
    if (leftMs > 0) {
      clearTimeout(this.#nextLook);
      this.#nextLook = setTimeout(() => this.#makeRoom(), leftMs).unref();
      return false;
    }
    this.#forget(response);
    response.destroy();
    return true;
  }

  #hold(response: ServerResponse, held: Held): void {
    this.#held.set(response, held);
    this.#bytes += held.bytes;
    response.once("close", () => {
      // What is still made for a client that has gone takes its memory all the same, until `ended`.
      if (!response.writableEnded && this.#held.get(response)?.readySince === undefined) return;
      this.#forget(response);
      this.#makeRoom();
    });
  }

  #forget(response: ServerResponse): void {
    this.#bytes -= this.#held.get(response)?.bytes ?? 0;
    this.#held.delete(response);
  }
}

function busy(): ServiceError {
  return tryAgainLater("BUSY", "Too many large responses are being created. Ask for less in one request", 5);
}

/** What a request ends with whose client has gone. */
export function clientGone(): ServiceError {
  return new ServiceError(
    "CLIENT_CLOSED_REQUEST",
    "The client closed the connection before the response was complete.",
  );
}
