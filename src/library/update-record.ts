import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { queryBuilder } from "../database/query-builder.ts";
import { confirmed } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { findOwnRecord, noSuchRecord } from "../record/find-record.ts";
import { checkedTitle } from "../record/record-title.ts";
import type { AudioRecord, RecordTables } from "../record/record.entity.ts";
import { searchTextOf, titleKeyOf } from "../record/search-text.ts";
import type { Visibility } from "../settings/visibility.ts";

/** What of a record can be changed; what is absent stays. */
export interface RecordChange {
  readonly title?: string | null;
  readonly visibility?: Visibility | null;
}

/**
 * Changes a record of the owner's. Its MP3 stays as it is, so the title in the file's own tag stays, too.
 * @throws {ServiceError} NOT_FOUND, or BAD_USER_INPUT when nothing is to be changed or the title is not a valid one
 */
export async function updateRecord(
  em: SqlEntityManager,
  ownerId: number,
  id: string,
  change: RecordChange,
): Promise<AudioRecord> {
  if (change.title == null && change.visibility == null) {
    throw new ServiceError("BAD_USER_INPUT", "Give a new title, a new visibility, or both.", {
      argument: "title",
    });
  }
  const title = change.title == null ? undefined : checkedTitle(change.title);
  const record = await findOwnRecord(em, ownerId, id);
  if (!record) throw noSuchRecord();
  const { fileName, tags } = record;
  const values = {
    visibility: change.visibility ?? undefined,
    ...(title !== undefined && {
      title,
      titleKey: titleKeyOf(title),
      searchText: searchTextOf({ title, fileName, tags }),
    }),
  };
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
