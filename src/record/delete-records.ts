import type { Pool } from "pg";
import { ServiceError } from "../errors.ts";
import { parseRecordId } from "./record-url.ts";

/** Recordings that one request can delete. */
export const maxDeletions = 100;

/**
 * Deletes those of the ids that are recordings of the owner's, with everything that belongs to them, at once.
 * @returns the ids that were deleted
 * @throws {ServiceError} BAD_USER_INPUT when there are too many ids
 */
export async function deleteRecords(pool: Pool, ownerId: number, ids: readonly string[]): Promise<string[]> {
  if (ids.length > maxDeletions) {
    const message = `At most ${maxDeletions} recordings can be deleted at once.`;
    throw new ServiceError("BAD_USER_INPUT", message, { max: maxDeletions });
  }
  const recordIds = ids.map(parseRecordId).filter((id) => id !== undefined);
  const { rows } = await pool.query<{ id: string }>(
    "delete from audio_record where id = any($1::uuid[]) and owner_id = $2 and state = 'ready' returning id",
    [recordIds, ownerId],
  );
  return rows.map(({ id }) => id);
}
