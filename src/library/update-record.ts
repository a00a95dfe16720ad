import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { queryBuilder } from "../database/query-builder.ts";
import { confirmed } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { findOwnRecord } from "../record/find-record.ts";
import { noSuchRecord } from "../record/record-refusals.ts";
import { checkedTitle } from "../record/record-title.ts";
import type { AudioRecord, RecordTables } from "../record/record.entity.ts";
import { searchTextOf, titleKeyOf } from "../record/search-text.ts";
import type { Visibility } from "../settings/visibility.ts";

/** The changes of a recording. Missing values stay unchanged. */
export interface RecordChange {
  readonly title?: string | null;
  readonly visibility?: Visibility | null;
}

/**
 * Changes a recording of the owner. The MP3 does not change, so its tag keeps the old title.
 * @throws {ServiceError} NOT_FOUND, or BAD_USER_INPUT if nothing would change or the title is not valid
 */
export async function updateRecord(
  em: SqlEntityManager,
  ownerId: number,
  id: string,
  change: RecordChange,
): Promise<AudioRecord> {
  const checked = checkedChange(change);
  const record = await findOwnRecord(em, ownerId, id);
  if (!record) throw noSuchRecord();
  const values = changedValues(record, checked);
  const update = async (): Promise<AudioRecord> => {
    const changed = await queryBuilder<RecordTables>(em)
      .updateTable("AudioRecord")
      .set(values)
      .where("id", "=", record.id)
      .returning(["title", "visibility"])
      .executeTakeFirst();
    if (!changed) throw noSuchRecord();
    return Object.assign(record, changed);
  };
  return await confirmed(update, update);
}

/** A change whose values have been checked. */
interface CheckedChange {
  readonly title: string | undefined;
  readonly visibility: Visibility | undefined;
}

/** @throws {ServiceError} BAD_USER_INPUT if nothing would change or the title is not valid */
export function checkedChange({ title, visibility }: RecordChange): CheckedChange {
  if (title == null && visibility == null) {
    throw new ServiceError("BAD_USER_INPUT", "Give a new title, a new visibility, or both.", { argument: "title" });
  }
  return { title: title == null ? undefined : checkedTitle(title), visibility: visibility ?? undefined };
}

/** The values of a recording that a change sets: those given, and what is derived from them. */
export function changedValues({ fileName, tags }: AudioRecord, { title, visibility }: CheckedChange) {
  return {
    ...(visibility !== undefined && { visibility }),
    ...(title !== undefined && {
      title,
      titleKey: titleKeyOf(title),
      searchText: searchTextOf({ title, fileName, tags }),
    }),
  };
}
