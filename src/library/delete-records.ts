import type { Pool, PoolClient } from "pg";
import { carryOn, inTransaction } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { parseRecordId } from "../record/record-url.ts";

/** Recordings that one request can delete. */
export const maxDeletions = 100;

/**
 * What one statement deletes: few recordings and, unless a single one is larger, few bytes of MP3, so that it stays far
 * from the time that a statement may take. Deleting takes about 2.7 s for a gigabyte.
 */
const part = { records: 50, bytes: 1e9 };

/**
 * Deletes those of the ids that are recordings of the owner's, with everything that belongs to them. It takes several
 * transactions if it is much, and can be repeated.
 * @returns the ids that were deleted
 * @throws {ServiceError} BAD_USER_INPUT when there are too many ids, OUTCOME_UNKNOWN when some were deleted at most
 */
export async function deleteRecords(pool: Pool, ownerId: number, ids: readonly string[]): Promise<string[]> {
  if (ids.length > maxDeletions) {
    const message = `At most ${maxDeletions} recordings can be deleted at once.`;
    throw new ServiceError("BAD_USER_INPUT", message, { argument: "ids", max: maxDeletions });
  }
  const wanted = ids.map(parseRecordId).filter((id) => id !== undefined);
  const ready = "id = any($4::uuid[]) and state = 'ready'";
  const deleteNext = async (): Promise<DeletedPart> =>
    await inTransaction(pool, async (client) => await deletePart(client, ownerId, ready, [wanted]));
  const deleted: string[] = [];
  for (let more = wanted.length > 0; more;) {
    const next = deleted.length === 0 ? await deleteNext() : await carryOn(deleteNext);
    deleted.push(...next.ids);
    more = next.more;
  }
  return deleted;
}

/**
 * Deletes some of the owner's recordings, also those that are being received.
 * @returns whether more are left
 */
export async function deleteSomeRecords(client: PoolClient, ownerId: number): Promise<boolean> {
  return (await deletePart(client, ownerId, "true", [])).more;
}

interface DeletedPart {
  readonly ids: readonly string[];
  readonly more: boolean;
}

/** @param values what the condition calls $4 and so on */
async function deletePart(
  client: PoolClient,
  ownerId: number,
  condition: string,
  values: unknown[],
): Promise<DeletedPart> {
  const { rows } = await client.query<DeletedPart>(
    `with candidate as (
       select id, row_number() over (order by id) as number, sum(size_bytes) over (order by id) as bytes
       from (select id, size_bytes from audio_record where owner_id = $1 and ${condition} order by id limit $2 + 1) owned
     ), deleted as (
       delete from audio_record where id in (
         select id from candidate where number = 1 or (number <= $2 and bytes <= $3))
       returning id
     )
     select coalesce((select json_agg(id) from deleted), '[]') as ids,
       (select count(*) from candidate) > (select count(*) from deleted) as more`,
    [ownerId, part.records, part.bytes, ...values],
  );
  const { ids, more } = rows[0]!;
  // Nothing was deleted where others have deleted it at the same time.
  return { ids, more: more && ids.length > 0 };
}
