import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { queryBuilder } from "../database/query-builder.ts";
import { carryOn } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { parseRecordId } from "../record/record-url.ts";
import type { RecordTables } from "../record/record.entity.ts";

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
export async function deleteRecords(em: SqlEntityManager, ownerId: number, ids: readonly string[]): Promise<string[]> {
  if (ids.length > maxDeletions) {
    const message = `One request can delete at most ${maxDeletions} recordings.`;
    throw new ServiceError("BAD_USER_INPUT", message, { argument: "ids", max: maxDeletions });
  }
  const wanted = ids.map(parseRecordId).filter((id) => id !== undefined);
  const deleteNext = async (): Promise<DeletedPart> =>
    await em.transactional(async (em) => await deletePart(em, ownerId, wanted));
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
export async function deleteSomeRecords(em: SqlEntityManager, ownerId: number): Promise<boolean> {
  return (await deletePart(em, ownerId)).more;
}

interface DeletedPart {
  readonly ids: readonly string[];
  readonly more: boolean;
}

/** @param wanted which of the ready ones; without it, any */
async function deletePart(em: SqlEntityManager, ownerId: number, wanted?: readonly string[]): Promise<DeletedPart> {
  const candidates = await queryBuilder<RecordTables>(em)
    .with("candidate", (db) => {
      const owned = db.selectFrom("AudioRecord").select(["id", "sizeBytes"]).where("ownerId", "=", ownerId);
      const meant = wanted ? owned.where("id", "in", wanted).where("state", "=", "ready") : owned;
      return db
        .selectFrom(
          meant
            .orderBy("id")
            .limit(part.records + 1)
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
              eb.or([eb("number", "=", 1), eb.and([eb("number", "<=", part.records), eb("bytes", "<=", part.bytes)])]),
            ),
        )
        .returning("id"),
    )
    .selectFrom("candidate")
    .leftJoin("deleted", "deleted.id", "candidate.id")
    .select("deleted.id")
    .execute();
  const ids = candidates.flatMap(({ id }) => id ?? []);
  // Nothing was deleted where others have deleted it at the same time.
  return { ids, more: candidates.length > ids.length && ids.length > 0 };
}
