import type { Pool } from "pg";
import type { Logger } from "pino";
import { isDatabaseBusy, isRecoveryConflict } from "../errors/database-failures.ts";
import { openPool } from "./database.ts";

/** Most seconds for a connection or a statement of a standby. The primary is there, so nobody waits longer. */
const timeoutSeconds = 2;
/** How a read of a standby ended: `missing` if it does not have the row, or not yet. */
export type StandbyOutcome = "read" | "missing" | "failed";

/** Options of {@link Standby}. */
interface StandbyOptions {
  readonly poolSize: number;
  /** After a failure, one statement in this time tries whether the standby is back. Default: 10 seconds. */
  readonly pauseMs?: number;
  readonly onOutcome?: ((outcome: StandbyOutcome) => void) | undefined;
}

/**
 * A copy of the database that may be behind it, for reads of rows that never change. Whatever it lacks or fails at, the
 * primary has. It need not be there when the service starts.
 */
export class Standby implements AsyncDisposable {
  readonly #pool: Pool;
  readonly #pauseMs: number;
  readonly #logger: Logger;
  readonly #onOutcome: (outcome: StandbyOutcome) => void;
  #hasFailed = false;
  #triedAgainAt = 0;

  constructor(url: string, { poolSize, pauseMs = 10_000, onOutcome = () => {} }: StandbyOptions, logger: Logger) {
    this.#pool = openPool(url, { poolSize, timeoutSeconds }, logger);
    this.#pauseMs = pauseMs;
    this.#logger = logger;
    this.#onOutcome = onOutcome;
  }

  /**
   * Runs a read. Returns false if the primary has to do it.
   * @param read tells whether the row was there
   * @throws the signal's reason, if it is aborted meanwhile
   */
  async has(read: (pool: Pool) => Promise<boolean>, signal: AbortSignal): Promise<boolean> {
    if (this.#hasFailed) {
      const now = performance.now();
      if (now < this.#triedAgainAt + this.#pauseMs) return false;
      this.#triedAgainAt = now; // the others keep to the primary until this attempt has succeeded
    }
    try {
      const found = await read(this.#pool);
      if (this.#hasFailed) this.#logger.info("the standby of the database is read again");
      this.#hasFailed = false;
      this.#onOutcome(found ? "read" : "missing");
      return found;
    } catch (error) {
      signal.throwIfAborted();
      this.#onOutcome("failed");
      // The standby works, but had to end this statement to follow its primary, or all connections to it are in use.
      if (isRecoveryConflict(error) || isDatabaseBusy(error)) return false;
      if (!this.#hasFailed)
        this.#logger.warn({ err: error }, "the standby of the database fails; reading from the primary");
      this.#hasFailed = true;
      this.#triedAgainAt = performance.now();
      return false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.end();
  }
}
