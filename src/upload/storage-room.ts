import { statfs } from "node:fs/promises";
import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql } from "kysely";
import type { Pool } from "pg";
import { queryBuilder } from "../database/query-builder.ts";
import type { RecordTables } from "../record/record.entity.ts";
import { storageFull } from "../errors/errors.ts";
import type { Logger } from "../telemetry/logger.ts";
import { isStorageFull } from "../errors/database-failures.ts";

/** Limits of the space for recordings. */
export interface StorageLimits {
  /** A folder on the disk with the data; undefined if the database is not embedded. */
  readonly dataDir: string | undefined;
  /** Bytes that must be free on that disk for uploads to begin or continue. */
  readonly reserveBytes: number;
  /** Size of the database at which uploads stop; 0: no limit. */
  readonly maxDatabaseBytes: number;
}

/** How long the results of checking the disk and the database, and a failure, are valid. */
const diskLookMs = 1000;
const databaseLookMs = 10_000;
const failureMs = 10_000;
const vacuumAtMostEveryMs = 10_000;

/** The table of {@link Mp3Chunk}. */
const chunkTable = "mp3_chunk";

/** Whether a relation is this table or a part of it. */
// SQL as text: no entity describes PostgreSQL's own tables.
const isOfChunks = sql`oid = ${chunkTable}::regclass
  or oid in (select inhrelid from pg_inherits where inhparent = ${chunkTable}::regclass)`;

/** Bytes of a page per piece of a large value: PostgreSQL stores four pieces on a page of 8 KiB. */
const bytesPerPiece = 2048;

/** Checks whether there is space for uploads. Reading and deleting do not need it. */
export class StorageRoom {
  readonly #em: SqlEntityManager;
  readonly #pool: Pool;
  readonly #limits: StorageLimits;
  readonly #logger: Logger;
  #verdict: Promise<string | undefined> | undefined;
  #validUntil = 0;
  #failedUntil = 0;
  #vacuumedAt = -Infinity;

  constructor({ em, pool }: { em: SqlEntityManager; pool: Pool }, limits: StorageLimits, logger: Logger) {
    this.#em = em;
    this.#pool = pool;
    this.#limits = limits;
    this.#logger = logger;
  }

  /** @throws {ServiceError} STORAGE_FULL */
  async require(): Promise<void> {
    if ((await this.lookForRoom()) !== undefined) throw storageFull();
  }

  /** The reason for the operator why there is no space; undefined if there is. */
  async lookForRoom(): Promise<string | undefined> {
    if (!this.#verdict || performance.now() >= this.#validUntil) {
      this.#verdict = this.#look();
      this.#validUntil = performance.now() + (this.#limits.maxDatabaseBytes > 0 ? databaseLookMs : diskLookMs);
    }
    return await this.#verdict;
  }

  /** Call this with every error of an upload. After a full disk, uploads are refused until it is checked again. */
  noteFailure(error: unknown): void {
    if (!isStorageFull(error)) return;
    this.#failedUntil = performance.now() + failureMs;
    this.#validUntil = 0;
  }

  async #look(): Promise<string | undefined> {
    const { dataDir, reserveBytes, maxDatabaseBytes } = this.#limits;
    const freeBytes = dataDir === undefined || reserveBytes === 0 ? Infinity : await freeBytesOf(dataDir);
    const hasFailed = performance.now() < this.#failedUntil;
    if (freeBytes >= reserveBytes && maxDatabaseBytes === 0 && !hasFailed) return undefined;
    const { databaseBytes, reusableBytes, deadBytes } = await this.#size();
    const isDiskShort = freeBytes + reusableBytes < reserveBytes;
    const isTooLarge = maxDatabaseBytes > 0 && databaseBytes - reusableBytes >= maxDatabaseBytes;
    if (!isDiskShort && !isTooLarge && !hasFailed) return undefined;
    if (deadBytes > 0) this.#vacuum();
    if (isDiskShort) return "the disk has less free space than DISK_RESERVE_BYTES";
    return isTooLarge ? "the database has reached MAX_DATABASE_BYTES" : "the disk or the bucket is full";
  }

  /**
   * Deleted recordings leave free space in the table's file, which can be reused after a vacuum. So the free space of a
   * table is the size of its file minus the live recordings and minus the dead ones that are not vacuumed yet.
   */
  async #size(): Promise<{ databaseBytes: number; reusableBytes: number; deadBytes: number }> {
    const { database, chunks, live, dead } = await queryBuilder<RecordTables>(this.#em)
      .selectFrom("AudioRecord")
      .where("state", "=", "ready")
      .where("store", "=", "postgres")
      .select((eb) => [
        eb.cast<number>(eb.fn.coalesce(eb.fn.sum("sizeBytes"), sql.lit(0)), "bigint").as("live"),
        sql<number>`pg_database_size(current_database())`.as("database"),
        // SQL as text: no entity describes PostgreSQL's own tables.
        sql<number>`(select sum(pg_total_relation_size(oid)) from pg_class where ${isOfChunks})::bigint`.as("chunks"),
        sql<number>`coalesce((select sum(n_dead_tup) from pg_stat_all_tables where relid in
          (select reltoastrelid from pg_class where ${isOfChunks})), 0)::bigint`.as("dead"),
      ])
      .executeTakeFirstOrThrow();
    // Pages, pointers and the index of the pieces take about 6 % more than the bytes themselves.
    const liveBytes = live * 1.06;
    const deadBytes = dead * bytesPerPiece;
    const reusableBytes = Math.max(0, chunks - liveBytes - deadBytes);
    return { databaseBytes: database, reusableBytes, deadBytes };
  }

  /** Reclaims the space of deleted recordings now, before PostgreSQL does it by itself. */
  #vacuum(): void {
    if (performance.now() - this.#vacuumedAt < vacuumAtMostEveryMs) return;
    this.#vacuumedAt = performance.now();
    this.#runVacuum().catch((error: unknown) =>
      this.#logger.warn({ err: error }, "could not reclaim the space of deleted recordings"),
    );
  }

  async #runVacuum(): Promise<void> {
    const client = await this.#pool.connect();
    try {
      // SQL as text: VACUUM and SET. Without a timeout, on a connection of its own, which is closed afterwards.
      await client.query("set statement_timeout = 0");
      const unhurried: { text: string; query_timeout: number } = { text: "vacuum mp3_chunk", query_timeout: 3_600_000 };
      await client.query(unhurried);
      this.#failedUntil = 0;
      this.#validUntil = 0;
    } finally {
      client.release(true);
    }
  }
}

/** Free bytes that users other than root can write. */
export async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}
