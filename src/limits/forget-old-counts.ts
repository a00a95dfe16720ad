import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql } from "kysely";
import { queryBuilder } from "../database/query-builder.ts";
import type { LimitTables } from "./write-allowance.entity.ts";
import { savedDays } from "./write-allowance.ts";

const intervalMs = 300_000;
/** Maximum number of rows that one statement deletes. */
const rowsAtOnce = 1000;

/** Deletes, every five minutes, the rows of rate limits whose hour is over and of allowances that are full again. */
export class OldCounts implements AsyncDisposable {
  readonly #timer: NodeJS.Timeout;
  readonly #stopping = new AbortController();
  #working: Promise<void>;

  /** @param onFailure is told when it fails; the next attempt is five minutes later */
  constructor(em: SqlEntityManager, onFailure: (error: unknown) => void) {
    const work = async (): Promise<void> => await forgetOldCounts(em, this.#stopping.signal).catch(onFailure);
    this.#working = work();
    this.#timer = setInterval(() => (this.#working = this.#working.then(work)), intervalMs).unref();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#stopping.abort();
    await this.#working;
  }
}

/** Deletes them in parts, until `stopping` is aborted. Replicas that do so at the same time do not wait for each other. */
export async function forgetOldCounts(em: SqlEntityManager, stopping: AbortSignal): Promise<void> {
  const db = queryBuilder<LimitTables>(em);
  for (let more = true; more && !stopping.aborted;) {
    const limits = await db
      .deleteFrom("RateLimit")
      .where("key", "in", (eb) =>
        eb
          .selectFrom("RateLimit")
          .select("key")
          .where("expire", "<", sql<number>`(extract(epoch from now()) * 1000)::bigint`)
          .limit(rowsAtOnce)
          .forUpdate()
          .skipLocked(),
      )
      .executeTakeFirst();
    const allowances = await db
      .deleteFrom("WriteAllowance")
      .where("key", "in", (eb) =>
        eb
          .selectFrom("WriteAllowance")
          .select("key")
          .where("at", "<", sql<Date>`now() - make_interval(days => ${savedDays})`)
          .limit(rowsAtOnce)
          .forUpdate()
          .skipLocked(),
      )
      .executeTakeFirst();
    more = [limits, allowances].some(({ numDeletedRows }) => numDeletedRows === BigInt(rowsAtOnce));
  }
}
