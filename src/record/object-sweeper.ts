import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql } from "kysely";
import { queryBuilder } from "../database/query-builder.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { RecordTables } from "./record.entity.ts";
import { refusalOfService, S3Error } from "./s3-client.ts";
import type { S3Mp3Store } from "./s3-mp3-store.ts";

const sweepSeconds = 20;

/** Number of objects that a replica takes at once, and the time after which others may take them, because it has died. */
const objectsAtOnce = 100;
const takenSeconds = 600;

/** How long the sweeper waits, in seconds. */
export interface SweepDelays {
  /** Between the deletion of a recording and that of its object. */
  readonly deleteSeconds: number;
  /** Longest time that an upload may still write after its recording was deleted. */
  readonly uploadSeconds: number;
}

/**
 * Deletes the objects of deleted recordings. Every replica does this; a row of `deleted_object` stays until its object is
 * gone, so nothing is lost while S3 is away.
 */
export class ObjectSweeper implements AsyncDisposable {
  /** Objects of deleted recordings that the last sweep has left, because their time has not come, or because S3 is away. */
  waiting = 0;
  readonly #em: SqlEntityManager;
  readonly #store: S3Mp3Store;
  readonly #delays: SweepDelays;
  readonly #logger: Logger;
  readonly #timer: NodeJS.Timeout;
  #working: Promise<void> | undefined;
  readonly #stopping = new AbortController();

  constructor(em: SqlEntityManager, store: S3Mp3Store, delays: SweepDelays, logger: Logger) {
    this.#em = em;
    this.#store = store;
    this.#delays = delays;
    this.#logger = logger;
    this.#timer = setInterval(() => void this.sweep(), sweepSeconds * 1000).unref();
  }

  /** Deletes all objects that are due. Only one sweep of a process runs at a time. */
  async sweep(): Promise<void> {
    this.#working ??= this.#sweep().finally(() => (this.#working = undefined));
    await this.#working;
  }

  async #sweep(): Promise<void> {
    try {
      try {
        await this.#removeDue();
      } finally {
        await this.#count();
      }
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      this.#logger.warn({ err: error }, "could not delete the objects of deleted recordings; will try again later");
    }
  }

  async #removeDue(): Promise<void> {
    const { signal } = this.#stopping;
    for (let more = true; more && !signal.aborted;) {
      const due = await this.#take();
      const refusals: unknown[] = [];
      for (const { recordId, mayBeWritten } of due) {
        if (signal.aborted) return;
        const refusal = await this.#refusalToRemove(recordId, mayBeWritten);
        if (refusal === undefined) await this.#settle(recordId, mayBeWritten);
        else refusals.push(refusal);
      }
      if (refusals.length > 0) {
        const refused = { err: refusals[0], objects: refusals.length };
        this.#logger.warn(refused, "S3 refuses to delete objects of deleted recordings; will try again later");
      }
      // If S3 refuses all of them, it may refuse the service itself.
      more = due.length === objectsAtOnce && refusals.length < due.length;
    }
  }

  /**
   * Deletes an object, and returns the error if S3 refuses that, as it does for a locked object.
   * @throws {ServiceError} STORAGE_UNAVAILABLE if S3 is away
   */
  async #refusalToRemove(recordId: string, mayBeWritten: boolean): Promise<unknown> {
    try {
      await this.#store.remove(recordId, { mayBeWritten, signal: this.#stopping.signal });
      return undefined;
    } catch (error) {
      if (error instanceof S3Error || refusalOfService(error)?.status !== undefined) return error;
      throw error;
    }
  }

  async #count(): Promise<void> {
    const { waiting } = await queryBuilder<RecordTables>(this.#em)
      .selectFrom("DeletedObject")
      .select((eb) => eb.cast<number>(eb.fn.countAll(), "bigint").as("waiting"))
      .executeTakeFirstOrThrow();
    this.waiting = waiting;
  }

  /** Takes objects that are due, so that no other replica does, without a lock while S3 is busy. */
  async #take(): Promise<{ recordId: string; mayBeWritten: boolean }[]> {
    return await queryBuilder<RecordTables>(this.#em)
      .updateTable("DeletedObject")
      .set({ notBefore: inSeconds(takenSeconds) })
      .where("recordId", "in", (eb) =>
        eb
          .selectFrom("DeletedObject")
          .select("recordId")
          .where("notBefore", "<=", inSeconds(0))
          .where((eb) =>
            eb.or([eb("mayBeWritten", "=", true), eb("deletedAt", "<=", inSeconds(-this.#delays.deleteSeconds))]),
          )
          .limit(objectsAtOnce)
          .forUpdate()
          .skipLocked(),
      )
      .returning(["recordId", "mayBeWritten"])
      .execute();
  }

  /** An upload may have written its object after that. Then it is deleted once more, when the upload must have ended. */
  async #settle(recordId: string, mayBeWritten: boolean): Promise<void> {
    const db = queryBuilder<RecordTables>(this.#em);
    if (mayBeWritten) {
      const later = { mayBeWritten: false, notBefore: inSeconds(this.#delays.uploadSeconds) };
      await db.updateTable("DeletedObject").set(later).where("recordId", "=", recordId).execute();
    } else await db.deleteFrom("DeletedObject").where("recordId", "=", recordId).execute();
  }

  /** Ends a request to S3 that is under way. What was taken is deleted by another replica later. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#stopping.abort();
    await this.#working;
  }
}

/** Notes the object of a recording that the database has lost, as the trigger does for one that is deleted. */
export async function noteLostObject(em: SqlEntityManager, recordId: string): Promise<void> {
  const db = queryBuilder<RecordTables>(em);
  await db
    .insertInto("DeletedObject")
    .columns(["recordId", "mayBeWritten"])
    .expression(
      db
        .selectNoFrom((eb) => [
          eb.cast<string>(eb.val(recordId), "uuid").as("recordId"),
          sql.lit(true).as("mayBeWritten"),
        ])
        .where((eb) => eb.not(eb.exists(eb.selectFrom("AudioRecord").select("id").where("id", "=", recordId)))),
    )
    .onConflict((conflict) => conflict.column("recordId").doNothing())
    .execute();
}

function inSeconds(seconds: number) {
  return sql<Date>`now() + make_interval(secs => ${seconds})`;
}
