import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type Kysely, type OnConflictBuilder } from "kysely";
import type { Pool } from "pg";
import { validate as isUuid } from "uuid";
import { isParentMissing } from "../errors/database-failures.ts";
import { ServiceError } from "../errors/errors.ts";
import type { ByteInterval } from "../http/byte-range.ts";
import { noPatience, throughFailover, type Patience } from "../database/failover.ts";
import { statement } from "../database/query-builder.ts";
import type { Standby } from "../database/standby.ts";
import { allowanceUsedUp, noCharge, refusalOf, type Charge } from "../limits/write-allowance.ts";
import type { MemoryBlocks } from "../memory/memory-blocks.ts";
import { CopyQuery } from "./copy-query.ts";
import { readAhead } from "./read-ahead.ts";
import type { RecordTables } from "./record.entity.ts";
import { RemovedMeanwhile } from "./record-refusals.ts";

/** Location of a stored MP3. */
export interface StoredMp3 {
  /** The recording's UUID. */
  readonly id: string;
  /** Size of the head, which is the row at position 0; 0 if there is none. */
  readonly headBytes: number;
  /** Size of the other rows, except the last. */
  readonly chunkBytes: number;
  /** Size of the whole MP3. */
  readonly sizeBytes: number;
}

/** A row that is being written. */
interface ChunkRow {
  readonly recordId: string;
  readonly position: number;
  readonly bytes: Buffer;
}

/** A part of one row. */
interface RowPart {
  readonly position: number;
  /** Offset of the part inside the row. */
  readonly offset: number;
  readonly byteLength: number;
  /** Whether the part is the whole row. */
  readonly isWhole: boolean;
}

/** MP3 bytes in one row. `docs/decisions` has the measurements. */
export const chunkBytes = 1024 * 1024;

const headPosition = 0;

/** An MP3 whose frames have at most this size is short: they are stored with its head, by one statement. */
export const shortMp3Bytes = 32 * 1024;

/**
 * Stores MP3 frames as rows of one block each, from position 1 on. Each row is written by its own statement, while the
 * next frames arrive. It keeps at most two rows in memory, and no connection in between. While the database is away, no
 * more frames are taken. Ends when the last row has been stored, and returns the number of bytes. The frames of a short MP3 are
 * returned, too: they are neither stored nor charged here.
 * @param charge the allowances that the bytes are charged to
 * @param patience how long a row is repeated
 * @throws {ServiceError} CONFLICT if the recording is no longer being received, RATE_LIMITED if an allowance is used up
 */
export async function writeMp3(
  em: SqlEntityManager,
  blocks: MemoryBlocks,
  recordId: string,
  frames: AsyncIterable<Buffer>,
  charge: Charge = noCharge,
  patience: Patience = noPatience,
): Promise<{ byteLength: number; unstored: Buffer | undefined }> {
  // Two blocks are used alternately: when a row is begun, the one before the last has been stored. None is taken before the first
  // frame: hundreds of uploads may wait for an encoder.
  let chunk: Buffer | undefined;
  let other: Buffer | undefined;
  let filled = 0;
  let bytes = 0;
  let position = headPosition;
  let insert = Promise.resolve();
  let failure: unknown;
  let unstored: Buffer | undefined;

  async function store(full: Buffer): Promise<void> {
    await insert;
    position += 1;
    const row = { recordId, position, bytes: full.subarray(0, filled) };
    insert = throughFailover(async () => await insertRow(em, row, charge), patience);
    insert.catch((error: unknown) => (failure = error));
    [chunk, other] = [other, full];
    filled = 0;
  }

  try {
    for await (const piece of frames) {
      // If the recording was deleted, end a slow upload now, not when the next row is full.
      if (failure !== undefined) break;
      for (let offset = 0; offset < piece.length;) {
        chunk ??= blocks.take();
        const copied = piece.copy(chunk, filled, offset);
        offset += copied;
        filled += copied;
        if (filled === chunk.length) await store(chunk);
      }
      bytes += piece.length;
    }
    if (chunk && position === headPosition && bytes <= shortMp3Bytes) unstored = Buffer.from(chunk.subarray(0, bytes));
    else if (chunk && filled > 0) await store(chunk);
  } finally {
    await Promise.allSettled([insert]);
  }
  await insert;
  for (const block of [chunk, other]) if (block) blocks.giveBack(block);
  return { byteLength: bytes, unstored };
}

/**
 * A statement that selects from this does not wait for the disk when it commits. The statement that completes the
 * recording does, and then everything before it in the write-ahead log is on the disk too. What a crash loses belongs
 * to a recording that never became ready.
 */
export const notWaitingForTheDisk = sql<object>`set_config('synchronous_commit', 'off', true)`.as("setting");

/** Makes the commit of a transaction wait for the disk again. */
export const waitingForTheDisk = sql<object>`set_config('synchronous_commit', 'on', true)`.as("setting");

/** The row is stored already if the answer to an earlier attempt was lost. Then this returns it. */
const alreadyStored = (conflict: OnConflictBuilder<RecordTables, "Mp3Chunk">) =>
  conflict.columns(["recordId", "position"]).doUpdateSet((eb) => ({ position: eb.ref("excluded.position") }));

const storeRow = statement((db: Kysely<RecordTables>, row: ChunkRow) =>
  db
    .insertInto("Mp3Chunk")
    .columns(["recordId", "position", "bytes"])
    .expression((eb) =>
      eb
        .selectFrom(["AudioRecord", notWaitingForTheDisk])
        .select((eb) => ["id", eb.val(row.position).as("position"), eb.val(row.bytes).as("bytes")])
        .where("id", "=", row.recordId)
        .where("state", "=", "receiving"),
    )
    .onConflict(alreadyStored)
    .returning("position"),
);

interface ChargedRow extends ChunkRow {
  readonly chargedKeys: readonly string[];
  readonly chargedPerDay: readonly number[];
  readonly chargedBytes: number;
}

const storeChargedRow = statement((db: Kysely<RecordTables>, row: ChargedRow) =>
  db
    .with(
      (cte) => cte("charged").materialized(),
      (db) =>
        db.selectNoFrom(
          refusalOf({ keys: row.chargedKeys, bytesPerDay: row.chargedPerDay }, row.chargedBytes).as("refused"),
        ),
    )
    .with("stored", (db) =>
      db
        .insertInto("Mp3Chunk")
        .columns(["recordId", "position", "bytes"])
        .expression((eb) =>
          eb
            .selectFrom(["AudioRecord", notWaitingForTheDisk, "charged"])
            .select((eb) => ["id", eb.val(row.position).as("position"), eb.val(row.bytes).as("bytes")])
            .where("id", "=", row.recordId)
            .where("state", "=", "receiving")
            .where("refused", "is", null),
        )
        .onConflict(alreadyStored)
        .returning("position"),
    )
    .selectFrom("charged")
    .leftJoin("stored", (join) => join.onTrue())
    .select(["charged.refused", "stored.position"]),
);

async function insertRow(em: SqlEntityManager, row: ChunkRow, charge: Charge): Promise<void> {
  try {
    if (charge.keys.length === 0) {
      if ((await storeRow(em, row)).length === 1) return;
    } else {
      const [stored] = await storeChargedRow(em, {
        ...row,
        chargedKeys: charge.keys,
        chargedPerDay: charge.bytesPerDay,
        chargedBytes: row.bytes.length,
      });
      if (stored?.refused) throw allowanceUsedUp(charge, stored.refused);
      if (stored && stored.position !== null) return;
    }
  } catch (error) {
    throw isParentMissing(error) ? new RemovedMeanwhile() : error;
  }
  throw new RemovedMeanwhile();
}

/**
 * Reads a range of a ready MP3, row by row. Each row is read by its own statement, which is repeated while the database
 * is away, and the next one while the consumer uses this one. So two rows are in memory, and no connection is held while
 * the consumer is slow. Only the range is read, also within a row. A piece stays unchanged until the next one is
 * requested; then its memory is reused. Small pieces, for a slow client, take little memory and more statements.
 * @param failoverSeconds how long a statement is repeated
 * @param standby is asked first. It answers for recordings that it has as ready: before that, an upload that goes on may
 * replace their rows; after it, they never change. So what it answers is right, however far it is behind.
 * @throws {ServiceError} NOT_FOUND if the recording is deleted meanwhile
 * @throws the signal's reason, as soon as it is aborted
 */
export async function* readMp3(
  pool: Pool,
  blocks: MemoryBlocks,
  record: StoredMp3,
  range: ByteInterval,
  signal: AbortSignal,
  maxPieceBytes = Infinity,
  failoverSeconds = 0,
  standby?: Standby,
): AsyncGenerator<Buffer, void, undefined> {
  const pieceBytes = Math.min(
    Math.max(record.headBytes, record.chunkBytes),
    range.end - range.start + 1,
    maxPieceBytes,
  );
  const parts = rowParts(record, range, maxPieceBytes);
  const patience = { seconds: failoverSeconds, signal };
  const read = async (part: RowPart, target: Buffer): Promise<Buffer> => {
    const find = async (from: Pool, sql: string): Promise<boolean> => await findRow(from, sql, target, signal);
    const ofReady = copyStatement(record.id, part, "ready");
    if (await standby?.has(async (from) => await find(from, ofReady), signal)) return target;
    const ofAny = copyStatement(record.id, part);
    if (await throughFailover(async () => await find(pool, ofAny), patience)) return target;
    throw new ServiceError("NOT_FOUND", "The recording was deleted while it was being read.");
  };
  yield* readAhead({ parts, pieceBytes, blocks, read }, signal);
}

/** Reads a part of a row into the target, if there is the row. */
async function findRow(pool: Pool, copy: string, target: Buffer, signal: AbortSignal): Promise<boolean> {
  const query = new CopyQuery(copy, target);
  const client = await pool.connect();
  if (signal.aborted) {
    client.release();
    throw signal.reason;
  }
  // If the connection is lost while it is in use, the query gets the error, too. Without a listener, it would end the
  // process.
  client.on("error", ignore);
  let failed = true;
  try {
    // SQL as text: a binary COPY.
    const found = await client.query(query).found;
    failed = false;
    return found;
  } finally {
    client.release(failed);
    client.off("error", ignore);
  }
}

function ignore(): void {
  // Prevents that the event counts as unhandled.
}

/**
 * COPY takes no parameters, so the values are checked and written into the statement. `substring` copies its result,
 * and the memory for megabytes of it made PostgreSQL four times as slow, so it is used for parts of rows only.
 * @param state the state that the recording must have
 */
function copyStatement(recordId: string, { position, offset, byteLength, isWhole }: RowPart, state?: "ready"): string {
  if (!isUuid(recordId)) throw new TypeError("A record id is a UUID");
  if (![position, offset, byteLength].every((value) => Number.isSafeInteger(value) && value >= 0)) {
    throw new RangeError("A part of a row lies at whole numbers of bytes");
  }
  const bytes = isWhole ? "bytes" : `substring(bytes from ${offset + 1} for ${byteLength})`;
  const inState = state ? `and exists (select from audio_record where id = '${recordId}' and state = '${state}')` : "";
  return `copy (select ${bytes} from mp3_chunk
    where record_id = '${recordId}' and position = ${position} ${inState}) to stdout (format binary)`;
}

/** The parts of rows that make up a range, in order. */
function* rowParts(
  { headBytes, chunkBytes, sizeBytes }: StoredMp3,
  { start, end }: ByteInterval,
  maxPieceBytes: number,
): Generator<RowPart, undefined> {
  for (let next = start; next <= end;) {
    const inHead = next < headBytes;
    const index = inHead ? 0 : Math.floor((next - headBytes) / chunkBytes);
    const rowStart = inHead ? 0 : headBytes + index * chunkBytes;
    const rowEnd = inHead ? headBytes : rowStart + chunkBytes;
    const byteLength = Math.min(rowEnd - next, end + 1 - next, maxPieceBytes);
    const isWhole = next === rowStart && next + byteLength === Math.min(rowEnd, sizeBytes);
    yield { position: inHead ? headPosition : index + 1, offset: next - rowStart, byteLength, isWhole };
    next += byteLength;
  }
  return undefined;
}
