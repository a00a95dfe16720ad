import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Pool, PoolClient } from "pg";
import { changeOnce } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { findOwnRecord, noSuchRecord } from "../record/find-record.ts";
import { checkedTitle } from "../record/record-title.ts";
import type { AudioRecord } from "../record/record.entity.ts";
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
  { pool, em }: { pool: Pool; em: SqlEntityManager },
  ownerId: number,
  id: string,
  change: RecordChange,
): Promise<AudioRecord> {
  if (change.title == null && change.visibility == null) {
    throw new ServiceError("BAD_USER_INPUT", "Give the title or the visibility that the recording is to have.", {
      argument: "title",
    });
  }
  const givenTitle = change.title == null ? undefined : checkedTitle(change.title);
  const record = await findOwnRecord(em, ownerId, id);
  if (!record) throw noSuchRecord();
  const { fileName, tags } = record;
  const values = [
    record.id,
    change.visibility,
    givenTitle,
    givenTitle === undefined ? undefined : titleKeyOf(givenTitle),
    givenTitle === undefined ? undefined : searchTextOf({ title: givenTitle, fileName, tags }),
  ];
  const update = async (client: Pool | PoolClient): Promise<AudioRecord> => {
    const { rows } = await client.query<Pick<AudioRecord, "title" | "visibility">>(
      `update audio_record set visibility = coalesce($2, visibility), title = coalesce($3, title),
         title_key = coalesce($4, title_key), search_text = coalesce($5, search_text)
       where id = $1 returning title, visibility`,
      values,
    );
    if (!rows[0]) throw noSuchRecord();
    return Object.assign(record, rows[0]);
  };
  return await changeOnce(pool, update, async () => await update(pool));
}
