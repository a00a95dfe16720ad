import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { queryBuilder } from "../database/query-builder.ts";
import { carryOn } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { parseRecordId } from "../record/parse-link.ts";
import type { RecordTables } from "../record/record.entity.ts";

/** Maximum number of recordings that one request can delete. */
export const maxDeletions = 100;

/**
 * Limits of one deleting statement, so that it stays far below the statement timeout. A single recording may have more
 * bytes. Deleting a gigabyte takes about 2.7 s.
 */
const batchLimits = { records: 50, bytes: 1e9 };

/**
 * Deletes the owner's recordings among the ids, with everything that belongs to them. It uses several transactions for
 * large amounts, and must be safe to repeat.
 * @returns the ids that were deleted
 * @throws {ServiceError} BAD_USER_INPUT if there are too many ids, OUTCOME_UNKNOWN if perhaps only some were deleted
 */
export async function deleteRecords(em: SqlEntityManager, ownerId: number, ids: readonly string[]): Promise<string[]> {
  if (ids.length > maxDeletions) {
    const message = `One request can delete at most ${maxDeletions} recordings.`;
    throw new ServiceError("BAD_USER_INPUT", message, { argument: "ids", max: maxDeletions });
  }
  const wanted = ids.map(parseRecordId).filter((id) => id !== undefined);
  const deleteNext = async (): Promise<DeletedBatch> =>
    await em.transactional(async (em) => await deleteBatch(em, ownerId, wanted));
  const deleted: string[] = [];
  for (let more = wanted.length > 0; more;) {
    const next = deleted.length === 0 ? await deleteNext() : await carryOn(deleteNext);
    deleted.push(...next.ids);
    more = next.more;
  }
  return deleted;
}

/**
 * Deletes some of the owner's recordings, including those that are being received.
 * @returns whether more remain
 */
export async function deleteSomeRecords(em: SqlEntityManager, ownerId: number): Promise<boolean> {
  return (await deleteBatch(em, ownerId)).more;
}

interface DeletedBatch {
  readonly ids: readonly string[];
  readonly more: boolean;
}

/** @param wanted ids of ready recordings; any recordings if omitted */
async function deleteBatch(em: SqlEntityManager, ownerId: number, wanted?: readonly string[]): Promise<DeletedBatch> {
  const candidates = await queryBuilder<RecordTables>(em)
    .with("candidate", (db) => {
      const owned = db.selectFrom("AudioRecord").select(["id", "sizeBytes"]).where("ownerId", "=", ownerId);
      const meant = wanted ? owned.where("id", "in", wanted).where("state", "=", "ready") : owned;
      return db
        .selectFrom(
          meant
            .orderBy("id")
            .limit(batchLimits.records + 1)
            .as("owned"),
        )
        .select((eb) => [
          "id",
          eb.fn
            .agg<number>("row_number")
            .over((over) => over.orderBy("id"))
            .as("number"),
          eb.fn
            .sum<number>("sizeBytes")
            .over((over) => over.orderBy("id"))
            .as("bytes"),
        ]);
    })
    .with("deleted", (db) =>
      db
        .deleteFrom("AudioRecord")
        .where("id", "in", (eb) =>
          eb
            .selectFrom("candidate")
            .select("id")
            .where((eb) =>
              eb.or([
                eb("number", "=", 1),
                eb.and([eb("number", "<=", batchLimits.records), eb("bytes", "<=", batchLimits.bytes)]),
              ]),
            ),
        )
        .returning("id"),
    )
    .selectFrom("candidate")
    .leftJoin("deleted", "deleted.id", "candidate.id")
    .select("deleted.id")
    .execute();
  const ids = candidates.flatMap(({ id }) => id ?? []);
  // Nothing was deleted if another request has deleted the same recordings at the same time.
  return { ids, more: candidates.length > ids.length && ids.length > 0 };
}
