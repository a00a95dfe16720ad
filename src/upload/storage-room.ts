import { statfs } from "node:fs/promises";
import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql } from "kysely";
import type { Pool } from "pg";
import { queryBuilder } from "../database/query-builder.ts";
import type { RecordTables } from "../record/record.entity.ts";
import { storageFull } from "../errors/errors.ts";
import type { Logger } from "../telemetry/logger.ts";
import { isStorageFull } from "../errors/database-failures.ts";

/** What recordings may take up. */
export interface StorageLimits {
  /** A folder on the disk that holds the data; undefined where the database is somebody else's. */
  readonly dataDir: string | undefined;
  /** Bytes that have to be free on that disk for an upload to begin or go on. */
  readonly reserveBytes: number;
  /** Size of the database from which on no upload begins or goes on; 0: no limit. */
  readonly maxDatabaseBytes: number;
}

/** How long a look at the disk, at the database and a failure count. */
const diskLookMs = 1000;
const databaseLookMs = 10_000;
const failureMs = 10_000;
const vacuumAtMostEveryMs = 10_000;

const chunkTable = "mp3_chunk";

/** Bytes of a table's page that one piece of a large value takes: PostgreSQL puts four on a page of 8 KiB. */
const bytesPerPiece = 2048;

/** Whether there is room for more. Reading and deleting never ask. */
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

  /** Why there is no room, for the operator; undefined if there is. */
  async lookForRoom(): Promise<string | undefined> {
    if (!this.#verdict || performance.now() >= this.#validUntil) {
      this.#verdict = this.#look();
      this.#validUntil = performance.now() + (this.#limits.maxDatabaseBytes > 0 ? databaseLookMs : diskLookMs);
    }
    return await this.#verdict;
  }

  /** To be told of every failure of an upload: a full disk is known from then on, until it is tried again. */
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
    return isTooLarge ? "the database has reached MAX_DATABASE_BYTES" : "the disk is full";
  }

  /**
   * Deleted recordings leave their room in the table's file, for others to use once it is vacuumed. So the room of a
   * table is what its file has more than the recordings that are there and those that are dead and not vacuumed yet.
   */
  async #size(): Promise<{ databaseBytes: number; reusableBytes: number; deadBytes: number }> {
    const { database, chunks, live, dead } = await queryBuilder<RecordTables>(this.#em)
      .selectFrom("AudioRecord")
      .where("state", "=", "ready")
      .select([
        sql<number>`pg_database_size(current_database())`.as("database"),
        sql<number>`pg_total_relation_size(${chunkTable})`.as("chunks"),
        sql<number>`coalesce(sum(${sql.ref("sizeBytes")}), 0)::bigint`.as("live"),
        sql<number>`coalesce((select sum(n_dead_tup) from pg_stat_all_tables
          where relid = (select reltoastrelid from pg_class where oid = ${chunkTable}::regclass)), 0)::bigint`.as(
          "dead",
        ),
      ])
      .executeTakeFirstOrThrow();
    // Pages, pointers and the index of the pieces take some 6 % more than the bytes themselves.
    const liveBytes = live * 1.06;
    const deadBytes = dead * bytesPerPiece;
    const reusableBytes = Math.max(0, chunks - liveBytes - deadBytes);
    return { databaseBytes: database, reusableBytes, deadBytes };
  }

  /** Makes room of what was deleted now, instead of when PostgreSQL gets round to it. */
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
      // As long as it takes: on a connection of its own, which is closed afterwards.
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

/** Bytes that others than root can still write. */
export async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}
