import type { Pool, PoolClient } from "pg";

type Query = (this: unknown, ...args: unknown[]) => unknown;

/** Records the statements that the connections of a pool send, until it is disposed of. */
export class SentStatements implements Disposable {
  readonly #texts: string[] = [];
  readonly #pool: Pool;
  readonly #heard = new Set<{ query?: Query }>();

  constructor(pool: Pool) {
    this.#pool = pool;
    pool.on("acquire", this.#listen);
  }

  /** Statements since the last call, without those of timers and of new connections. */
  take(): string[] {
    return this.#texts
      .splice(0)
      .filter((text) => !/^set |^(?:update|delete from) "audio_record".*"lease_until"/s.test(text));
  }

  [Symbol.dispose](): void {
    this.#pool.off("acquire", this.#listen);
    // The method of the class is visible again.
    for (const connection of this.#heard) delete connection.query;
  }

  readonly #listen = (client: PoolClient): void => {
    const connection = client as unknown as { query: Query };
    if (this.#heard.has(connection)) return;
    this.#heard.add(connection);
    const query = connection.query;
    const texts = this.#texts;
    connection.query = function (...args) {
      texts.push(textOf(args[0]));
      return query.apply(this, args);
    };
  };
}

/** A query is a text, a configuration with one, or an object that submits itself. */
function textOf(query: unknown): string {
  if (typeof query === "string") return query;
  return (query as { text?: string }).text ?? "copy";
}
