import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Pool } from "pg";
import { ServiceError } from "../errors.ts";
import { findOwnRecord } from "./find-record.ts";
import { checkedTitle } from "./record-title.ts";
import type { AudioRecord } from "./record.entity.ts";
import { searchTextOf, titleKeyOf } from "./search-text.ts";

/** What of a record can be changed; what is absent stays. */
export interface RecordChange {
  readonly title?: string | null;
}

/**
 * Changes a record of the owner's. Its MP3 stays as it is, so the title in the file's own tag stays, too.
 * @throws {ServiceError} NOT_FOUND, or BAD_USER_INPUT when the title is blank, too long or has control characters
 */
export async function updateRecord(
  { pool, em }: { pool: Pool; em: SqlEntityManager },
  ownerId: number,
  id: string,
  { title: given }: RecordChange,
): Promise<AudioRecord> {
  const title = given == null ? undefined : checkedTitle(given);
  const record = await findOwnRecord(em, ownerId, id);
  if (!record) throw notFound();
  if (title !== undefined) {
    const { fileName, tags } = record;
    const { rowCount } = await pool.query(
      "update audio_record set title = $2, title_key = $3, search_text = $4 where id = $1",
      [record.id, title, titleKeyOf(title), searchTextOf({ title, fileName, tags })],
    );
    if (rowCount === 0) throw notFound();
    record.title = title;
  }
  return record;
}

function notFound(): ServiceError {
  return new ServiceError("NOT_FOUND", "There is no such recording.");
}
