import type { ServerResponse } from "node:http";

/** Answers shorter than this are not counted: the system takes them at once. */
const smallCharacters = 64 * 1024;

/** How long a client certainly has for its answer, in milliseconds. */
const graceMs = 2000;

/** How much may be on its way, and how long a client may take nothing of it. */
export interface UnreadLimits {
  readonly maxCharacters: number;
  readonly stallSeconds: number;
}

/**
 * The answers that are made and not sent yet. One whose client takes nothing for a while is given up with its
 * connection; when all of them together are too much, the oldest ones are. Downloads are sent as they are read, and not
 * among these.
 */
export class UnreadAnswers {
  readonly #limits: UnreadLimits;
  #characters = 0;
  /** The oldest first. */
  readonly #large = new Map<ServerResponse, { readonly characters: number; readonly since: number }>();

  constructor(limits: UnreadLimits) {
    this.#limits = limits;
  }

  /** To be called when an answer is about to be written. */
  add(response: ServerResponse, characters: number): void {
    response.setTimeout(this.#limits.stallSeconds * 1000, () => response.destroy());
    // Before node:http's own listener, which sets the time that an idle connection is kept.
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
