import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Pool } from "pg";
import { throughFailover, type Patience } from "../database/failover.ts";
import { queryBuilder } from "../database/query-builder.ts";
import type { Standby } from "../database/standby.ts";
import { ServiceError, storageUnavailable } from "../errors/errors.ts";
import type { ByteInterval } from "../http/byte-range.ts";
import { PrepaidAllowances } from "../limits/write-allowance.ts";
import type { MemoryBlocks } from "../memory/memory-blocks.ts";
import type { StoreName } from "../settings/store-name.ts";
import { framesInRows, type ArrivingMp3, type WrittenFrames } from "./arriving-mp3.ts";
import { chunkBytes, readMp3, writeMp3, type StoredMp3 } from "./mp3-chunks.ts";
import type { RecordTables } from "./record.entity.ts";
import type { S3Mp3Store } from "./s3-mp3-store.ts";

/** A stored MP3, and the store that has it. */
export interface PlacedMp3 extends StoredMp3 {
  readonly store: StoreName;
}

/** The dependencies of {@link Mp3Store}. */
interface Places {
  readonly em: SqlEntityManager;
  readonly pool: Pool;
  /** Is asked for rows first, if there is one. */
  readonly standby?: Standby | undefined;
  readonly rowMemory: MemoryBlocks;
  /** Undefined if no bucket is set. */
  readonly s3: S3Mp3Store | undefined;
  /** The store of new recordings. */
  readonly newIn: StoreName;
  /** How long statements are repeated while the database is away. */
  readonly failoverSeconds: number;
}

/** The bytes of all MP3s: in rows of PostgreSQL, or in objects of S3. Each recording knows its store, and both are read. */
export class Mp3Store {
  /** The store of new recordings. */
  readonly newIn: StoreName;
  readonly #places: Places;
  /** Short MP3s are paid for in advance. */
  readonly #prepaid: PrepaidAllowances;

  constructor(places: Places) {
    this.newIn = places.newIn;
    this.#places = places;
    this.#prepaid = new PrepaidAllowances(places.em);
  }

  /**
   * Stores frames while they arrive, in the store of new recordings.
   * @throws {ServiceError} CONFLICT if the recording is no longer being received, RATE_LIMITED if an allowance is used up,
   * STORAGE_UNAVAILABLE or STORAGE_FULL
   */
  async write(em: SqlEntityManager, mp3: ArrivingMp3): Promise<WrittenFrames> {
    const patience = this.#patience(mp3.signal);
    if (this.newIn === "s3") return await this.#s3().write(em, mp3, patience);
    const { recordId, frames, charge } = mp3;
    const { byteLength, unstored } = await writeMp3(em, this.#places.rowMemory, recordId, frames, charge, patience);
    if (unstored) await throughFailover(async () => await this.#prepaid.take(charge, unstored.length), patience);
    return framesInRows(byteLength, unstored);
  }

  /** Memory of a download of this MP3 that reads large pieces. */
  readBytes({ store, sizeBytes }: PlacedMp3): number {
    return store === "s3" ? this.#s3().readBytes(sizeBytes) : 2 * chunkBytes;
  }

  /**
   * Reads a range of a ready MP3 in pieces, and holds no connection while the consumer is slow. A piece stays unchanged
   * until the next one is requested; then its memory is reused. An MP3 that moves to the other store meanwhile is read
   * on there.
   * @throws {ServiceError} NOT_FOUND if the recording is deleted meanwhile, STORAGE_UNAVAILABLE, also if the store has lost
   * bytes of it
   * @throws the signal's reason, as soon as it is aborted
   */
  async *read(
    record: PlacedMp3,
    range: ByteInterval,
    signal: AbortSignal,
    maxPieceBytes?: number,
  ): AsyncGenerator<Buffer, void, undefined> {
    let { start } = range;
    try {
      for await (const piece of this.readIn(record.store, record, range, signal, maxPieceBytes)) {
        start += piece.length;
        yield piece;
      }
    } catch (error) {
      if (!(error instanceof ServiceError && error.code === "NOT_FOUND")) throw error;
      const store = await throughFailover(async () => await this.#storeOf(record.id), this.#patience(signal));
      if (store === undefined) throw error;
      // The recording is still there, and its bytes are not, as after a restore without the bucket.
      if (store === record.store) throw storageUnavailable({ cause: new Error(`Bytes of ${record.id} are missing`) });
      yield* this.readIn(store, record, { start, end: range.end }, signal, maxPieceBytes);
    }
  }

  /** Reads a range as {@link read} does, in one store only. */
  readIn(
    store: StoreName,
    record: StoredMp3,
    range: ByteInterval,
    signal: AbortSignal,
    maxPieceBytes?: number,
  ): AsyncGenerator<Buffer, void, undefined> {
    const { pool, standby, rowMemory, failoverSeconds } = this.#places;
    return store === "s3"
      ? this.#s3().read(record, range, signal, maxPieceBytes)
      : readMp3(pool, rowMemory, record, range, signal, maxPieceBytes, failoverSeconds, standby);
  }

  async #storeOf(id: string): Promise<StoreName | undefined> {
    const ready = queryBuilder<RecordTables>(this.#places.em)
      .selectFrom("AudioRecord")
      .select("store")
      .where("id", "=", id)
      .where("state", "=", "ready");
    return (await ready.executeTakeFirst())?.store;
  }

  #patience(signal: AbortSignal): Patience {
    return { seconds: this.#places.failoverSeconds, signal };
  }

  #s3(): S3Mp3Store {
    const { s3 } = this.#places;
    if (s3) return s3;
    throw storageUnavailable({ cause: new Error("The recording is in S3, but S3_BUCKET is not set") });
  }
}
