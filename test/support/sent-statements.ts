import { jest } from "@jest/globals";
import type { Pool, PoolClient } from "pg";
import { startService, type TestService } from "./service.ts";

type Query = (this: unknown, ...args: unknown[]) => unknown;

/** Starts the whole service without what it repeats from time to time: those statements would be counted among others. */
export async function startServiceWithoutIntervals(env: Readonly<Record<string, string>> = {}): Promise<TestService> {
  jest.useFakeTimers({
    doNotFake: [
      "clearImmediate",
      "clearTimeout",
      "Date",
      "hrtime",
      "nextTick",
      "performance",
      "queueMicrotask",
      "setImmediate",
      "setTimeout",
    ],
  });
  try {
    return await startService(env);
  } finally {
    jest.useRealTimers(); // the intervals that have begun stay without a clock
  }
}

/** Records the statements that the connections of a pool send, until it is disposed of. */
export class SentStatements implements Disposable {
  readonly #texts: string[] = [];
  readonly #pool: Pool;
  readonly #heard = new Set<{ query?: Query }>();

  constructor(pool: Pool) {
    this.#pool = pool;
    pool.on("acquire", this.#listen);
  }

  /**
   * Statements since the last call, without those of new connections, of what is noted once a minute, and of the deletion of
   * old counts after the start.
   */
  take(): string[] {
    const besides =
      /^set |^update "access_token" set "last_used_at"|^delete from "(rate_limit|write_allowance)" where "key" in/;
    return this.#texts.splice(0).filter((text) => !besides.test(text));
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
