import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { queryBuilder } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import { noSuchRecord } from "../record/record-refusals.ts";
import { parseRecordId } from "../record/parse-link.ts";
import { AudioRecord, type RecordTables } from "../record/record.entity.ts";
import { changedValues, checkedChange, type RecordChange } from "./update-record.ts";

/** Maximum number of recordings that one request can change. */
export const maxChanges = 100;

/** The change of one recording among several. */
export interface NamedChange extends RecordChange {
  readonly id: string;
}

/**
 * Checks what is known of changes without the database.
 * @throws {ServiceError} BAD_USER_INPUT
 */
export function requireChanges(changes: readonly NamedChange[]): void {
  if (changes.length > maxChanges) {
    const message = `One request can change at most ${maxChanges} recordings.`;
    throw new ServiceError("BAD_USER_INPUT", message, { argument: "changes", max: maxChanges });
  }
  for (const change of changes) checkedChange(change);
  if (new Set(changes.map(({ id }) => id.toLowerCase())).size === changes.length) return;
  const message = "Several changes are for the same recording. Give one change for each.";
  throw new ServiceError("BAD_USER_INPUT", message, { argument: "changes" });
}

/**
 * Changes recordings of the owner, all of them or none. The MP3s do not change, so their tags keep the old titles.
 * @returns the recordings in the order of the changes, with their owner loaded
 * @throws {ServiceError} NOT_FOUND with the `id` of the first recording that is missing, or BAD_USER_INPUT as
 * {@link requireChanges} does
 */
export async function updateRecords(
  em: SqlEntityManager,
  ownerId: number,
  changes: readonly NamedChange[],
): Promise<AudioRecord[]> {
  requireChanges(changes);
  if (changes.length === 0) return [];
  const ids = changes.map(({ id }) => {
    const recordId = parseRecordId(id);
    if (recordId === undefined) throw noSuchRecord({ id });
    return recordId;
  });
  return await em.transactional(async (em) => {
    // Locked in one order, so that two requests for the same recordings never wait for each other.
    await queryBuilder<RecordTables>(em)
      .selectFrom("AudioRecord")
      .select("id")
      .where("id", "in", ids)
      .where("ownerId", "=", ownerId)
      .orderBy("id")
      .forNoKeyUpdate()
      .execute();
    const mine = { id: ids, owner: ownerId, state: "ready" as const };
    const found = await em.find(AudioRecord, mine, { populate: ["owner"] });
    const byId = new Map(found.map((record) => [record.id, record]));
    return changes.map((change, index) => {
      const record = byId.get(ids[index]!);
      if (!record) throw noSuchRecord({ id: change.id });
      return Object.assign(record, changedValues(record, checkedChange(change)));
    });
  });
}
