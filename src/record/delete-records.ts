import type { Pool } from "pg";
import { ServiceError } from "../errors.ts";
import { parseRecordId } from "./record-url.ts";

/** Recordings that one request can delete. */
export const maxDeletions = 100;

/**
 * What one statement deletes: few recordings and, unless a single one is larger, few bytes of MP3, so that it stays far
 * from the time that a statement may take. Deleting takes about 2.7 s for a gigabyte.
 */
const part = { records: 50, bytes: 1e9 };

/**
 * Deletes those of the ids that are recordings of the owner's, with everything that belongs to them. If it fails half-way,
 * some are gone and it can be repeated.
 * @returns the ids that were deleted
 * @throws {ServiceError} BAD_USER_INPUT when there are too many ids
 */
export async function deleteRecords(pool: Pool, ownerId: number, ids: readonly string[]): Promise<string[]> {
  if (ids.length > maxDeletions) {
    const message = `At most ${maxDeletions} recordings can be deleted at once.`;
    throw new ServiceError("BAD_USER_INPUT", message, { argument: "ids", max: maxDeletions });
  }
  const left = new Set(ids.map(parseRecordId).filter((id) => id !== undefined));
  const deleted: string[] = [];
  while (left.size > 0) {
    const ready = "id = any($4::uuid[]) and state = 'ready'";
    const some = await deletePart(pool, ownerId, ready, [[...left]]);
    if (some.length === 0) break;
    deleted.push(...some);
    for (const id of some) left.delete(id);
  }
  return deleted;
}

/** Deletes all recordings of the owner's, also those that are being received. */
export async function deleteAllRecords(pool: Pool, ownerId: number): Promise<void> {
  while ((await deletePart(pool, ownerId, "true", [])).length > 0);
}

/** @param values what the condition calls $4 and so on */
async function deletePart(pool: Pool, ownerId: number, condition: string, values: unknown[]): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>(
    `delete from audio_record where id in (
       select id from (
         select id, row_number() over (order by id) as number, sum(size_bytes) over (order by id) as bytes
         from (select id, size_bytes from audio_record where owner_id = $1 and ${condition} order by id limit $2) candidate
       ) part where number = 1 or bytes <= $3)
     returning id`,
    [ownerId, part.records, part.bytes, ...values],
  );
  return rows.map(({ id }) => id);
}
