import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql } from "kysely";
import { queryBuilder } from "../database/query-builder.ts";
import type { RecordTables } from "../record/record.entity.ts";
import type { Logger } from "../telemetry/logger.ts";

/** How long a receiving recording is kept after its upload last renewed the lease. */
export const leaseSeconds = 90;
const renewalSeconds = 20;

/** Interval of attempts to renew leases, or to delete what uploads left, after a failure. */
const retrySeconds = 2;

/** Limits of one deleting statement, so that it stays far below the statement timeout. */
const recordsAtOnce = 20;
const chunksAtOnce = 64;

/**
 * Renews the leases of running uploads, and deletes the recordings of uploads whose process has died. Every replica
 * does this. The lease in the row, on the database's clock, distinguishes a dead upload from one that runs elsewhere.
 * After the database was away, leases of running uploads may have expired, too: this process then lets a whole lease
 * pass, in which other replicas renew theirs.
 */
export class UploadLeases implements AsyncDisposable {
  readonly #em: SqlEntityManager;
  readonly #logger: Logger;
  readonly #watchSeconds: number;
  readonly #onSwept: ((records: number) => void) | undefined;
  readonly #alive = new Set<string>();
  readonly #abandoned = new Set<string>();
  #retry: NodeJS.Timeout | undefined;
  #isStopping = false;
  readonly #timer: NodeJS.Timeout;
  #working: Promise<void> = Promise.resolve();
  /** The next sweep, which is waiting. One is enough, because more would do the same. */
  #next: Promise<void> | undefined;
  /** Since when this process has reached the database whenever it should; undefined if the last attempt failed. */
  #watchingSince: number | undefined;
  #reachedAt = -Infinity;

  /** @param watchSeconds how long this process must have reached the database before it takes an upload for dead */
  constructor(em: SqlEntityManager, logger: Logger, watchSeconds = leaseSeconds, onSwept?: (records: number) => void) {
    this.#em = em;
    this.#logger = logger;
    this.#watchSeconds = watchSeconds;
    this.#onSwept = onSwept;
    this.#timer = setInterval(() => void this.sweep(), renewalSeconds * 1000).unref();
  }

  /** Seconds since leases were last renewed; 0 before the first time. */
  get ageSeconds(): number {
    return Number.isFinite(this.#reachedAt) ? (performance.now() - this.#reachedAt) / 1000 : 0;
  }

  /** Renews the lease of this recording until the result is disposed of. */
  hold(recordId: string): Disposable {
    this.#alive.add(recordId);
    return { [Symbol.dispose]: () => void this.#alive.delete(recordId) };
  }

  /** Deletes what an upload of this process has left, as soon as the database is available. */
  abandon(recordId: string): void {
    this.#abandoned.add(recordId);
    this.#retrySoon();
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
    try {
      await this.#renew();
    } catch (error) {
      this.#watchingSince = undefined;
      this.#retrySoon();
      this.#logger.warn({ err: error }, "could not renew the leases of uploads; will try again soon");
      return;
    }
    try {
      await this.#markDead();
      if (this.#abandoned.size === 0) this.#stopRetrying();
      const removed = await this.#deleteDead();
      if (removed > 0) this.#onSwept?.(removed);
      if (removed > 0) this.#logger.warn({ records: removed }, "deleted the unfinished recordings of dead uploads");
    } catch (error) {
      this.#logger.warn({ err: error }, "could not delete what dead uploads have left; will try again later");
    }
  }

  /** Renews leases, also expired ones, and notes that the database was reached. */
  async #renew(): Promise<void> {
    await queryBuilder<RecordTables>(this.#em)
      .updateTable("AudioRecord")
      .set({ leaseUntil: sql<Date>`now() + make_interval(secs => ${leaseSeconds})` })
      .where((eb) => eb("id", "=", eb.fn.any(eb.val([...this.#alive]))))
      .where("state", "=", "receiving")
      .execute();
    const now = performance.now();
    // A process that was stopped for a while has not watched either.
    if (now - this.#reachedAt > 2 * renewalSeconds * 1000) this.#watchingSince = undefined;
    this.#watchingSince ??= now;
    this.#reachedAt = now;
  }

  /** Takes expired uploads, and those that this process has abandoned, for dead: nothing can become of them any more. */
  async #markDead(): Promise<void> {
    const hasWatched = performance.now() - this.#watchingSince! >= this.#watchSeconds * 1000;
    const abandoned = [...this.#abandoned];
    if (!hasWatched && abandoned.length === 0) return;
    await queryBuilder<RecordTables>(this.#em)
      .updateTable("AudioRecord")
      .set({ state: "dead", idempotencyKey: null })
      .where("id", "in", (eb) =>
        eb
          .selectFrom("AudioRecord")
          .select("id")
          .where("leaseUntil", "is not", null)
          .where("state", "=", "receiving")
          .where((eb) =>
            eb.or([
              eb("id", "=", eb.fn.any(eb.val(abandoned))),
              ...(hasWatched ? [eb("leaseUntil", "<", sql<Date>`now()`)] : []),
            ]),
          )
          .forUpdate()
          .skipLocked(),
      )
      .execute();
    for (const id of abandoned) this.#abandoned.delete(id);
  }

  /**
   * Deletes dead recordings in parts of limited size, whatever their number and size, until the process stops. Replicas
   * that do so at the same time do not wait for each other.
   * @returns the number of recordings
   */
  async #deleteDead(): Promise<number> {
    const db = queryBuilder<RecordTables>(this.#em);
    let removed = 0;
    while (!this.#isStopping) {
      if (performance.now() - this.#reachedAt > renewalSeconds * 1000) await this.#renew();
      const dead = await db
        .selectFrom("AudioRecord")
        .select("id")
        .where("leaseUntil", "is not", null)
        .where("state", "=", "dead")
        .limit(recordsAtOnce)
        .execute();
      if (dead.length === 0) return removed;
      const ids = dead.map(({ id }) => id);
      const chunks = await db
        .deleteFrom("Mp3Chunk")
        .where(
          (eb) => eb.refTuple("recordId", "position"),
          "in",
          (eb) =>
            eb
              .selectFrom("Mp3Chunk")
              .select(["recordId", "position"])
              .where("recordId", "in", ids)
              .limit(chunksAtOnce)
              .forUpdate()
              .skipLocked()
              .$asTuple("recordId", "position"),
        )
        .executeTakeFirst();
      if (chunks.numDeletedRows === BigInt(chunksAtOnce)) continue;
      const records = await db
        .deleteFrom("AudioRecord")
        .where("id", "in", (eb) =>
          eb
            .selectFrom("AudioRecord")
            .select("id")
            .where("id", "in", ids)
            .where((eb) =>
              eb.not(
                eb.exists(
                  eb.selectFrom("Mp3Chunk").select("position").whereRef("Mp3Chunk.recordId", "=", "AudioRecord.id"),
                ),
              ),
            )
            .forUpdate()
            .skipLocked(),
        )
        .executeTakeFirst();
      removed += Number(records.numDeletedRows);
      // Otherwise, another replica is deleting them.
      if (chunks.numDeletedRows === 0n && records.numDeletedRows === 0n) return removed;
    }
    return removed;
  }

  /** Waits for one statement at most. Other replicas delete the rest. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopping = true;
    clearInterval(this.#timer);
    this.#stopRetrying();
    await this.#working;
  }

  #retrySoon(): void {
    this.#retry ??= setInterval(() => void this.sweep(), retrySeconds * 1000).unref();
  }

  #stopRetrying(): void {
    clearInterval(this.#retry);
    this.#retry = undefined;
  }
}
