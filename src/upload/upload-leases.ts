import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql } from "kysely";
import { queryBuilder } from "../database/query-builder.ts";
import type { RecordTables } from "../record/record.entity.ts";
import type { Logger } from "../telemetry/logger.ts";

/** How long a receiving recording is kept after its upload last renewed the lease. */
export const leaseSeconds = 90;
const renewalSeconds = 20;

/**
 * Number of dead uploads that one statement deletes. Each may have chunks of several hundred megabytes, and a statement
 * has little time.
 */
const deletionsAtOnce = 4;

/** Interval of attempts to delete what an upload left while the database was unavailable. */
const retrySeconds = 2;

/**
 * Renews the leases of running uploads, and deletes the recordings of uploads whose process has died. Every replica
 * does this. The lease in the row, on the database's clock, distinguishes a dead upload from one that runs elsewhere.
 */
export class UploadLeases implements AsyncDisposable {
  readonly #em: SqlEntityManager;
  readonly #logger: Logger;
  readonly #alive = new Set<string>();
  readonly #abandoned = new Set<string>();
  #retry: NodeJS.Timeout | undefined;
  readonly #timer: NodeJS.Timeout;
  #working: Promise<void> = Promise.resolve();
  /** The next sweep, which is waiting. One is enough, because more would do the same. */
  #next: Promise<void> | undefined;

  constructor(em: SqlEntityManager, logger: Logger) {
    this.#em = em;
    this.#logger = logger;
    this.#timer = setInterval(() => void this.sweep(), renewalSeconds * 1000).unref();
  }

  /** Renews the lease of this recording until the result is disposed of. */
  hold(recordId: string): Disposable {
    this.#alive.add(recordId);
    return { [Symbol.dispose]: () => void this.#alive.delete(recordId) };
  }

  /** Deletes what an upload of this process has left, as soon as the database is available. */
  abandon(recordId: string): void {
    this.#abandoned.add(recordId);
    this.#retry ??= setInterval(() => void this.sweep(), retrySeconds * 1000).unref();
  }

  /** Renews the leases of the uploads of this process, then deletes what dead uploads of any process have left. */
  async sweep(): Promise<void> {
    this.#next ??= this.#sweepAfter(this.#working);
    this.#working = this.#next;
    await this.#working;
  }

  async #sweepAfter(working: Promise<void>): Promise<void> {
    await working;
    this.#next = undefined;
    await this.#renewAndSweep();
  }

  async #renewAndSweep(): Promise<void> {
    try {
      const db = queryBuilder<RecordTables>(this.#em);
      if (this.#alive.size > 0) {
        await db
          .updateTable("AudioRecord")
          .set({ leaseUntil: sql<Date>`now() + make_interval(secs => ${leaseSeconds})` })
          .where("id", "in", [...this.#alive])
          .where("state", "=", "receiving")
          .execute();
      }
      const abandoned = [...this.#abandoned];
      let removed = 0;
      for (let more = true; more;) {
        const { numDeletedRows } = await db
          .deleteFrom("AudioRecord")
          .where("state", "=", "receiving")
          .where("id", "in", (eb) =>
            eb
              .selectFrom("AudioRecord")
              .select("id")
              .where("state", "=", "receiving")
              .where((eb) =>
                eb.or([eb("leaseUntil", "<", sql<Date>`now()`), eb("id", "=", eb.fn.any(eb.val(abandoned)))]),
              )
              .limit(deletionsAtOnce)
              .forUpdate()
              .skipLocked(),
          )
          .executeTakeFirst();
        removed += Number(numDeletedRows);
        more = numDeletedRows === BigInt(deletionsAtOnce);
      }
      for (const id of abandoned) this.#abandoned.delete(id);
      if (this.#abandoned.size === 0) this.#stopRetrying();
      if (removed > 0) this.#logger.warn({ records: removed }, "deleted the unfinished recordings of dead uploads");
    } catch (error) {
      this.#logger.warn({ err: error }, "could not renew the leases of uploads; will try again later");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#stopRetrying();
    await this.#working;
  }

  #stopRetrying(): void {
    clearInterval(this.#retry);
    this.#retry = undefined;
  }
}
