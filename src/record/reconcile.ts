import { queryBuilder } from "../database/query-builder.ts";
import { inGroups, lookedUpAtOnce, type Stores } from "./move-records.ts";
import type { RecordTables } from "./record.entity.ts";
import type { StoredObject } from "./s3-mp3-store.ts";

/**
 * A difference between the objects and the recordings.
 * - `orphan`: an object without a recording, which nothing else will delete
 * - `missing`: a recording whose object is not there
 * - `wrong size`: a recording whose object has another size
 */
export interface Difference {
  readonly kind: "orphan" | "missing" | "wrong size";
  readonly recordId: string;
  /** Size of the object; 0 if it is missing. */
  readonly sizeBytes: number;
  /** When the object was written; undefined if it is missing, or if S3 does not tell. */
  readonly writtenAt: Date | undefined;
}

type ReconciledStores = Pick<Stores, "em" | "s3">;

/**
 * Compares all objects with all recordings, while the service runs. A recording is inserted before its object is written,
 * and is looked up after the object was listed, so no upload that runs counts as an orphan.
 * @param onObject called for each object
 */
export async function* differences(
  { em, s3 }: ReconciledStores,
  onObject: (object: StoredObject) => void,
): AsyncGenerator<Difference, void, undefined> {
  const db = queryBuilder<RecordTables>(em);
  let after: string | undefined;
  for await (const objects of inGroups(s3.objects(), lookedUpAtOnce)) {
    const ids = objects.map(({ recordId }) => recordId);
    const known = await db
      .selectFrom("AudioRecord")
      .select(["id", "store", "state", "sizeBytes"])
      .where("id", "in", ids)
      .execute();
    const waiting = await db.selectFrom("DeletedObject").select("recordId").where("recordId", "in", ids).execute();
    const records = new Map(known.map((record) => [record.id, record]));
    const isWaiting = new Set(waiting.map(({ recordId }) => recordId));
    for (const object of objects) {
      onObject(object);
      const record = records.get(object.recordId);
      if (!record) {
        if (!isWaiting.has(object.recordId)) yield { kind: "orphan", ...object };
      } else if (record.store === "s3" && record.state === "ready" && record.sizeBytes !== object.sizeBytes) {
        yield { kind: "wrong size", ...object };
      }
    }
    yield* missing({ em, s3 }, new Set(ids), after, ids.at(-1));
    after = ids.at(-1);
  }
  yield* missing({ em, s3 }, new Set(), after, undefined);
}

/** The recordings behind the id `after` and up to `upTo` whose objects were not listed and are not there. */
async function* missing(
  { em, s3 }: ReconciledStores,
  listed: ReadonlySet<string>,
  after: string | undefined,
  upTo: string | undefined,
): AsyncGenerator<Difference, void, undefined> {
  const ready = queryBuilder<RecordTables>(em)
    .selectFrom("AudioRecord")
    .select("id")
    .where("store", "=", "s3")
    .where("state", "=", "ready");
  const upToEnd = upTo === undefined ? ready : ready.where("id", "<=", upTo);
  for (let last = after, more = true; more;) {
    const page = await (last === undefined ? upToEnd : upToEnd.where("id", ">", last))
      .orderBy("id")
      .limit(lookedUpAtOnce)
      .execute();
    for (const { id } of page) {
      // It may have been written after the list was made.
      if (!listed.has(id) && (await s3.sizeOf(id)) === undefined) {
        yield { kind: "missing", recordId: id, sizeBytes: 0, writtenAt: undefined };
      }
    }
    last = page.at(-1)?.id;
    more = page.length === lookedUpAtOnce;
  }
}
