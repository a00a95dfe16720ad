import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { createHash } from "node:crypto";
import { queryBuilder } from "../database/query-builder.ts";
import { isParentMissing } from "../errors/database-failures.ts";
import { ServiceError } from "../errors/errors.ts";
import type { StoreName } from "../settings/store-name.ts";
import type { Mp3Store, PlacedMp3 } from "./mp3-store.ts";
import type { RecordTables } from "./record.entity.ts";
import { isS3Code, shortObject } from "./s3-client.ts";
import type { S3Mp3Store } from "./s3-mp3-store.ts";

/** What moving and tidying need. */
export interface Stores {
  readonly em: SqlEntityManager;
  readonly store: Mp3Store;
  readonly s3: S3Mp3Store;
}

const never = new AbortController().signal;

/** Number of recordings or objects that are looked up at once. */
export const lookedUpAtOnce = 500;

/** Number of rows that one statement deletes: 32 MiB. */
const rowsAtOnce = 32;

/** What {@link moveRecords} did with a recording: `missing` if it stays, because bytes of it are not where they belong. */
export interface Move {
  readonly kind: "moved" | "missing";
  readonly record: PlacedMp3;
}

/**
 * Moves every ready recording into a store, one after the other, and yields each that has moved, or whose bytes are
 * missing. What was copied is read again and compared before the recording counts as moved. The source stays, so downloads
 * that run are not cut. It can be stopped at any time and run again.
 * @throws {ServiceError} STORAGE_UNAVAILABLE or STORAGE_FULL
 * @throws {Error} if a copy differs from its source
 */
export async function* moveRecords(stores: Stores, to: StoreName): AsyncGenerator<Move, void, undefined> {
  const { em, s3 } = stores;
  const db = queryBuilder<RecordTables>(em);
  const from: StoreName = to === "s3" ? "postgres" : "s3";
  for await (const record of recordsIn(em, from)) {
    const isCopied = await copied(stores, record, to).catch((error: unknown) => {
      // Bytes of it are missing, or it was deleted in the meantime.
      if (isParentMissing(error) || isIncomplete(error)) return false;
      throw error;
    });
    const moved = isCopied
      ? await db
          .updateTable("AudioRecord")
          .set({ store: to })
          .where("id", "=", record.id)
          .where("store", "=", from)
          .executeTakeFirst()
      : undefined;
    if (moved?.numUpdatedRows === 1n) {
      yield { kind: "moved", record };
      continue;
    }
    const found = db.selectFrom("AudioRecord").select(["store", "state"]).where("id", "=", record.id);
    const place = await found.executeTakeFirst();
    // Another run may have moved it: then its MP3 is this copy.
    if (place === undefined) {
      if (to === "s3") await s3.remove(record.id, { mayBeWritten: false });
    } else if (place.store === from && place.state === "ready") yield { kind: "missing", record };
  }
}

/** Whether a store has not all bytes of a recording. */
function isIncomplete(error: unknown): boolean {
  return error instanceof ServiceError && (error.code === "NOT_FOUND" || isS3Code(error.cause, shortObject));
}

/** Copies an MP3, and compares the copy. */
async function copied({ em, store, s3 }: Stores, record: PlacedMp3, to: StoreName): Promise<boolean> {
  const range = { start: 0, end: record.sizeBytes - 1 };
  const sent = createHash("sha256");
  async function* source(): AsyncGenerator<Buffer, void, undefined> {
    for await (const piece of store.readIn(record.store, record, range, never)) {
      sent.update(piece);
      yield piece;
    }
  }
  if (to === "s3") await s3.writeWhole(record.id, source());
  else await writeRows(em, record, source());
  const stored = createHash("sha256");
  for await (const piece of store.readIn(to, record, range, never)) stored.update(piece);
  if (!sent.digest().equals(stored.digest())) {
    throw new Error(`The copy of recording ${record.id} differs from it. The recording stays where it is.`);
  }
  return true;
}

/** Writes the head and the frames as rows, as an upload does. Rows that an earlier attempt has left are replaced. */
async function writeRows(
  em: SqlEntityManager,
  { id, headBytes, chunkBytes }: PlacedMp3,
  bytes: AsyncIterable<Buffer>,
): Promise<void> {
  const db = queryBuilder<RecordTables>(em);
  const row = Buffer.allocUnsafeSlow(Math.max(headBytes, chunkBytes));
  let position = headBytes === 0 ? 1 : 0;
  let filled = 0;
  const store = async (): Promise<void> => {
    await db
      .insertInto("Mp3Chunk")
      .values({ recordId: id, position, bytes: row.subarray(0, filled) })
      .onConflict((conflict) =>
        conflict.columns(["recordId", "position"]).doUpdateSet((eb) => ({ bytes: eb.ref("excluded.bytes") })),
      )
      .execute();
    position += 1;
    filled = 0;
  };
  for await (const piece of bytes) {
    for (let offset = 0; offset < piece.length;) {
      const rowBytes = position === 0 ? headBytes : chunkBytes;
      const copied = piece.copy(row, filled, offset, offset + rowBytes - filled);
      offset += copied;
      filled += copied;
      if (filled === rowBytes) await store();
    }
  }
  if (filled > 0) await store();
}

/**
 * Deletes the sources of recordings that have moved into a store, and yields the ids of these recordings.
 * @throws {ServiceError} STORAGE_UNAVAILABLE
 * @throws {Error} if an object to which rows have moved is no longer there; then these rows stay
 */
export async function* deleteSources(stores: Stores, to: StoreName): AsyncGenerator<string, void, undefined> {
  yield* to === "s3" ? deleteMovedRows(stores) : deleteMovedObjects(stores);
}

async function* deleteMovedRows({ em, s3 }: Stores): AsyncGenerator<string, void, undefined> {
  const db = queryBuilder<RecordTables>(em);
  for await (const { id, sizeBytes, chunkBytes } of recordsIn(em, "s3")) {
    const rows = db.selectFrom("Mp3Chunk").select("position").where("recordId", "=", id).limit(1);
    if ((await rows.executeTakeFirst()) === undefined) continue;
    // The rows may be the last copy, for example if S3_BUCKET names another bucket now.
    if ((await s3.sizeOf(id)) !== sizeBytes) {
      throw new Error(
        `The bucket has no object of recording ${id}, or one of another size. Its rows stay. Run reconcile to find all of these.`,
      );
    }
    let deleted = 0n;
    for (let position = 0; position <= sizeBytes / chunkBytes + 1; position += rowsAtOnce) {
      const { numDeletedRows } = await db
        .deleteFrom("Mp3Chunk")
        .where("recordId", "=", id)
        .where("position", ">=", position)
        .where("position", "<", position + rowsAtOnce)
        .executeTakeFirst();
      deleted += numDeletedRows;
    }
    if (deleted > 0n) yield id;
  }
}

async function* deleteMovedObjects({ em, s3 }: Stores): AsyncGenerator<string, void, undefined> {
  const db = queryBuilder<RecordTables>(em);
  for await (const objects of inGroups(s3.objects(), lookedUpAtOnce)) {
    const ids = objects.map(({ recordId }) => recordId);
    const moved = await db
      .selectFrom("AudioRecord")
      .select("id")
      .where("id", "in", ids)
      .where("store", "=", "postgres")
      .where("state", "=", "ready")
      .execute();
    for (const { id } of moved) {
      await s3.remove(id, { mayBeWritten: false });
      yield id;
    }
  }
}

/** All ready recordings in a store, in the order of their ids. */
async function* recordsIn(em: SqlEntityManager, store: StoreName): AsyncGenerator<PlacedMp3, void, undefined> {
  const db = queryBuilder<RecordTables>(em);
  for (let after: string | undefined, more = true; more;) {
    const ready = db
      .selectFrom("AudioRecord")
      .select(["id", "store", "headBytes", "chunkBytes", "sizeBytes"])
      .where("state", "=", "ready")
      .where("store", "=", store);
    const page = await (after === undefined ? ready : ready.where("id", ">", after))
      .orderBy("id")
      .limit(lookedUpAtOnce)
      .execute();
    yield* page;
    after = page.at(-1)?.id;
    more = page.length === lookedUpAtOnce;
  }
}

/** Joins items to groups of a size; the last one may be smaller. */
export async function* inGroups<T>(items: AsyncIterable<T>, size: number): AsyncGenerator<T[], void, undefined> {
  let group: T[] = [];
  for await (const item of items) {
    group.push(item);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}
