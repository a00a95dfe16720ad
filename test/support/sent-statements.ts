import type { Client, Pool } from "pg";

type Query = (this: Client, ...args: unknown[]) => unknown;

/** Listens to what every connection of a pool sends, while it is in use. */
export class SentStatements implements Disposable {
  readonly #texts: string[] = [];
  readonly #prototype: { query: Query };
  readonly #query: Query;

  constructor(pool: Pool) {
    const texts = this.#texts;
    // The pool's own class: the ORM may have another copy of the driver than this file would import.
    const prototype = (pool as unknown as { Client: { prototype: { query: Query } } }).Client.prototype;
    const query = prototype.query;
    this.#prototype = prototype;
    this.#query = query;
    prototype.query = function (...args) {
      texts.push(textOf(args[0]));
      return query.apply(this, args);
    };
  }

  /** Statements since the last call, without those that the clock or a new connection sends. */
  take(): string[] {
    return this.#texts
      .splice(0)
      .filter((text) => !/^set |^(?:update|delete from) "audio_record".*"lease_until"/s.test(text));
  }

  [Symbol.dispose](): void {
    this.#prototype.query = this.#query;
  }
}

/** A query is a text, a configuration with one, or an object that submits itself. */
function textOf(query: unknown): string {
  if (typeof query === "string") return query;
  return (query as { text?: string }).text ?? "copy";
}
