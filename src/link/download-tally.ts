import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql } from "kysely";
import { queryBuilder } from "../database/query-builder.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { LinkTables } from "./share-link.entity.ts";

const flushMs = 1000;
/** Maximum number of links in one statement. */
const linksAtOnce = 1000;

/**
 * Adds up downloads of share links in memory, and writes them once a second. So a popular link costs one update a second,
 * instead of one for each download, all of which would wait for the same row. A crash loses the last second.
 */
export class DownloadTally implements AsyncDisposable {
  readonly #em: SqlEntityManager;
  readonly #logger: Logger;
  /** By link. */
  #downloads = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(em: SqlEntityManager, logger: Logger) {
    this.#em = em;
    this.#logger = logger;
  }

  /** Counts one download. */
  add(linkId: string): void {
    this.#count(linkId, 1);
    this.#startTimer();
  }

  #count(linkId: string, downloads: number): void {
    this.#downloads.set(linkId, (this.#downloads.get(linkId) ?? 0) + downloads);
  }

  #startTimer(): void {
    this.#timer ??= setTimeout(() => {
      this.#writing = this.#write();
    }, flushMs).unref();
  }

  async #write(): Promise<void> {
    this.#timer = undefined;
    const downloads = [...this.#downloads].slice(0, linksAtOnce);
    for (const [linkId] of downloads) this.#downloads.delete(linkId);
    try {
      await addDownloads(this.#em, downloads);
    } catch (error) {
      // If only the answer was lost, they are counted twice, rather than not at all.
      for (const [linkId, count] of downloads) this.#count(linkId, count);
      this.#logger.warn({ err: error }, "could not write the numbers of downloads; will try again");
    }
    if (this.#downloads.size > 0) this.#startTimer();
  }

  /** Writes what has been counted. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing;
    clearTimeout(this.#timer);
    while (this.#downloads.size > 0) {
      const before = this.#downloads.size;
      await this.#write();
      clearTimeout(this.#timer);
      if (this.#downloads.size >= before) return;
    }
  }
}

/** Rows are locked in the order of their ids, so that two replicas never wait for each other. */
async function addDownloads(em: SqlEntityManager, downloads: readonly (readonly [string, number])[]): Promise<void> {
  const ids = downloads.map(([linkId]) => linkId);
  const counts = downloads.map(([, count]) => count);
  await queryBuilder<LinkTables>(em)
    .with("locked", (db) =>
      db
        .selectFrom("ShareLink")
        .select("id")
        .where((eb) => eb("id", "=", eb.fn.any(eb.val(ids))))
        .orderBy("id")
        .forUpdate(),
    )
    .updateTable("ShareLink")
    .from("locked")
    .innerJoin(
      sql<{ id: string; count: number }>`unnest(${ids}::uuid[], ${counts}::int[])`.as<"tally">(sql`tally(id, count)`),
      (join) => join.onRef("tally.id", "=", "locked.id"),
    )
    .set((eb) => ({ downloads: eb("ShareLink.downloads", "+", eb.ref("tally.count")) }))
    .whereRef("ShareLink.id", "=", "locked.id")
    .execute();
}
