import type { ServerResponse } from "node:http";

/** Shorter responses are not counted: the system takes them at once. */
const smallCharacters = 64 * 1024;

/** Minimum time that a client has for its response, in milliseconds. */
const graceMs = 2000;

/** Maximum number of unsent characters, and the maximum time for which a client may read nothing. */
export interface UnreadLimits {
  readonly maxCharacters: number;
  readonly stallSeconds: number;
}

/**
 * The responses that are complete but not sent yet. If a client reads nothing of its response for a while, the response
 * is abandoned and its connection closed. If all responses together are too large, the oldest ones are abandoned.
 * Downloads are sent while they are read and are not included.
 */
export class UnreadAnswers {
  readonly #limits: UnreadLimits;
  #characters = 0;
  /** Oldest first. */
  readonly #large = new Map<ServerResponse, { readonly characters: number; readonly since: number }>();

  constructor(limits: UnreadLimits) {
    this.#limits = limits;
  }

  /** Call it before a response is written. */
  add(response: ServerResponse, characters: number): void {
    response.setTimeout(this.#limits.stallSeconds * 1000, () => response.destroy());
    // Runs before node:http's own listener, which sets the timeout of idle connections.
    response.prependOnceListener("finish", () => response.setTimeout(0));
    if (characters < smallCharacters) return;
    const since = performance.now();
    this.#large.set(response, { characters, since });
    this.#characters += characters;
    response.once("close", () => this.#forget(response));
    for (const [oldest, answer] of this.#large) {
      if (this.#characters <= this.#limits.maxCharacters || since - answer.since < graceMs) break;
      this.#forget(oldest);
      oldest.destroy();
    }
  }

  #forget(response: ServerResponse): void {
    this.#characters -= this.#large.get(response)?.characters ?? 0;
    this.#large.delete(response);
  }
}
