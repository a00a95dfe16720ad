import type { Pool } from "pg";
import { validate as isUuid } from "uuid";
import { ServiceError } from "../errors/errors.ts";
import type { ByteInterval } from "../http/byte-range.ts";
import {
  allowanceUsedUp,
  chargedTable,
  chargeParameters,
  noCharge,
  type Charge,
  type RefusedCharge,
} from "../limits/write-allowance.ts";
import type { MemoryBlocks } from "../memory/memory-blocks.ts";
import { CopyQuery } from "./copy-query.ts";

/** What the bytes of a stored MP3 are found by. */
export interface StoredMp3 {
  /** The record's UUID. */
  readonly id: string;
  /** Size of the row at position 0, which stands in front of the frames; 0 if there is none. */
  readonly headBytes: number;
  /** Size of every following row but the last. */
  readonly chunkBytes: number;
  /** Size of the whole MP3. */
  readonly sizeBytes: number;
}

/** A row on its way in. */
interface ChunkRow {
  readonly recordId: string;
  readonly position: number;
  readonly bytes: Buffer;
}

/** A part of one row. */
interface RowPart {
  readonly position: number;
  /** Where the part begins inside the row. */
  readonly offset: number;
  readonly byteLength: number;
  /** Whether the part is all of the row. */
  readonly isWhole: boolean;
}

const headPosition = 0;
const foreignKeyViolation = "23503";

/**
 * Stores MP3 frames as rows of one block from position 1, each in a statement of its own, while the next ones come.
 * Holds no connection in between and at most two rows in memory. Returns the number of bytes when the last row is stored.
 * @param charge what each row's bytes are taken from
 * @throws {ServiceError} CONFLICT when the record is no longer being received, RATE_LIMITED when an allowance is used up
 */
export async function writeMp3(
  pool: Pool,
  blocks: MemoryBlocks,
  recordId: string,
  frames: AsyncIterable<Buffer>,
  charge: Charge = noCharge,
): Promise<number> {
  // Filled in turns: the row before the last one is stored when the next one is begun.
  let chunk = blocks.take();
  let other: Buffer | undefined;
  let filled = 0;
  let bytes = 0;
  let position = headPosition;
  let insert = Promise.resolve();
  let failure: unknown;

  async function storeChunk(): Promise<void> {
    await insert;
    position += 1;
    insert = insertRow(pool, { recordId, position, bytes: chunk.subarray(0, filled) }, charge);
    insert.catch((error: unknown) => (failure = error));
    [chunk, other] = [other ?? blocks.take(), chunk];
    filled = 0;
  }

  try {
    for await (const piece of frames) {
      // A record that is gone ends a slow upload now, not when the next row is full.
      if (failure !== undefined) break;
      for (let offset = 0; offset < piece.length;) {
        const copied = piece.copy(chunk, filled, offset);
        offset += copied;
        filled += copied;
        if (filled === chunk.length) await storeChunk();
      }
      bytes += piece.length;
    }
    if (filled > 0) await storeChunk();
  } finally {
    await Promise.allSettled([insert]);
  }
  await insert;
  blocks.giveBack(chunk);
  if (other) blocks.giveBack(other);
  return bytes;
}

/**
 * Does not wait for the disk: the statement that completes the record does, and with it everything before it reaches the
 * disk (the write-ahead log has one order). What a crash takes belongs to a record that never became ready.
 */
async function insertRow(pool: Pool, { recordId, position, bytes }: ChunkRow, charge: Charge): Promise<void> {
  const insert = `insert into mp3_chunk (record_id, position, bytes)
    select id, $2, $3 from audio_record cross join set_config('synchronous_commit', 'off', true)`;
  const condition = "where id = $1 and state = 'receiving'";
  const values = [recordId, position, bytes];
  try {
    if (charge.keys.length === 0) {
      const { rowCount } = await pool.query(`${insert} ${condition}`, values);
      if (rowCount === 1) return;
    } else {
      const { rows } = await pool.query<{ stored: boolean; refused: RefusedCharge | null }>(
        `with ${chargedTable(4)}, stored as (${insert} cross join charged ${condition} and refused is null returning 1)
         select exists (select from stored) as stored, refused from charged`,
        [...values, ...chargeParameters(charge, bytes.length)],
      );
      if (rows[0]?.refused) throw allowanceUsedUp(charge, rows[0].refused);
      if (rows[0]?.stored) return;
    }
  } catch (error) {
    throw recordMissing(error) ? removedMeanwhile() : error;
  }
  throw removedMeanwhile();
}

/** Whether a statement failed because what its row belongs to is gone: a chunk's record, or a record's owner. */
export function recordMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === foreignKeyViolation;
}

/** What an upload is told whose record, or whose user, was removed before it was over. */
export function removedMeanwhile(): ServiceError {
  return new ServiceError("CONFLICT", "The recording was deleted while it was being uploaded.");
}

/**
 * Reads a part of a ready MP3, row by row. Each row is read by a statement of its own, and the next one while the
 * consumer has this one: two rows in memory, and no connection held while the consumer is slow. Rows outside the range
 * are not touched, and of a row only what lies in the range. A piece stays what it is until the next one is asked for:
 * its memory is used again then. Small pieces, for a client that is slow, hold little memory and cost more statements.
 * @throws {ServiceError} NOT_FOUND when the record is removed in the middle
 * @throws the signal's reason, as soon as it is aborted
 */
export async function* readMp3(
  pool: Pool,
  blocks: MemoryBlocks,
  record: StoredMp3,
  range: ByteInterval,
  signal: AbortSignal,
  maxPieceBytes = Infinity,
): AsyncGenerator<Buffer, void, undefined> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(ignore);
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  const rowBytes = Math.min(Math.max(record.headBytes, record.chunkBytes), range.end - range.start + 1, maxPieceBytes);
  const isOwn = rowBytes <= blocks.blockBytes / 2 || rowBytes > blocks.blockBytes;
  const takeMemory = (): Buffer => (isOwn ? Buffer.allocUnsafeSlow(rowBytes) : blocks.take());
  let [memory, other]: (Buffer | undefined)[] = [];
  try {
    const parts = rowParts(record, range, maxPieceBytes);
    const startNext = (): Promise<Buffer> | undefined => {
      const { value: part } = parts.next();
      if (part === undefined) return undefined;
      [memory, other] = [other ?? takeMemory(), memory];
      return startRead(pool, record.id, part, memory.subarray(0, part.byteLength), signal);
    };
    let reading = startNext();
    while (reading !== undefined) {
      const ahead = startNext();
      yield await Promise.race([reading, aborted.promise]);
      signal.throwIfAborted();
      reading = ahead;
    }
    // Otherwise the last piece may still be on its way, or a row still be read.
    for (const block of [memory, other]) if (block && !isOwn) blocks.giveBack(block);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Starts to read a part of a row; a failure is kept until somebody awaits it. */
function startRead(pool: Pool, recordId: string, part: RowPart, target: Buffer, signal: AbortSignal): Promise<Buffer> {
  const reading = readRow(pool, recordId, part, target, signal);
  reading.catch(ignore);
  return reading;
}

async function readRow(
  pool: Pool,
  recordId: string,
  part: RowPart,
  target: Buffer,
  signal: AbortSignal,
): Promise<Buffer> {
  const query = new CopyQuery(copyStatement(recordId, part), target);
  const client = await pool.connect();
  if (signal.aborted) {
    client.release();
    throw signal.reason;
  }
  // A connection lost while it is out of the pool is told to the query, too; without a listener it ends the process.
  client.on("error", ignore);
  let failed = true;
  try {
    const found = await client.query(query).found;
    failed = false;
    if (found) return target;
  } finally {
    client.release(failed);
    client.off("error", ignore);
  }
  throw new ServiceError("NOT_FOUND", "The recording was deleted while it was being read.");
}

function ignore(): void {
  // So that neither the event nor the rejection counts as unhandled.
}

/**
 * COPY takes no parameters, so the values are checked and written into the statement. `substring` copies what it cuts out,
 * and the megabytes of memory for that made PostgreSQL four times as slow: it is kept for parts of rows.
 */
function copyStatement(recordId: string, { position, offset, byteLength, isWhole }: RowPart): string {
  if (!isUuid(recordId)) throw new TypeError("A record id is a UUID");
  if (![position, offset, byteLength].every((value) => Number.isSafeInteger(value) && value >= 0)) {
    throw new RangeError("A part of a row lies at whole numbers of bytes");
  }
  const bytes = isWhole ? "bytes" : `substring(bytes from ${offset + 1} for ${byteLength})`;
  return `copy (select ${bytes} from mp3_chunk
    where record_id = '${recordId}' and position = ${position}) to stdout (format binary)`;
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
