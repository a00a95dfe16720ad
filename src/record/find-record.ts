import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { hasScope, requireScope, type Caller } from "../caller/caller.ts";
import { queryBuilder } from "../database/query-builder.ts";
import { decodeWaveform, waveformPeaks } from "../audio/meter/waveform.ts";
import { AudioRecord, type RecordTables } from "./record.entity.ts";
import { parseRecordId } from "./parse-link.ts";

/** The owner's recording with this id, with its owner loaded; null if there is none or another user owns it. */
export async function findOwnRecord(em: SqlEntityManager, ownerId: number, id: string): Promise<AudioRecord | null> {
  const recordId = parseRecordId(id);
  if (recordId === undefined) return null;
  return await em.findOne(AudioRecord, { id: recordId, owner: ownerId, state: "ready" }, { populate: ["owner"] });
}

/** A recording that a link has opened, with its owner loaded; null if it was deleted in the meantime. */
export async function findOpenedRecord(em: SqlEntityManager, id: string): Promise<AudioRecord | null> {
  return await em.findOne(AudioRecord, { id, state: "ready" }, { populate: ["owner"] });
}

/**
 * Whether a token allows reading a recording of its user: READ allows all, UPLOAD those that the token uploaded itself.
 */
export function mayRead(caller: Pick<Caller, "scopes" | "tokenId">, madeBy: string | null | undefined): boolean {
  return hasScope(caller, "READ") || (hasScope(caller, "UPLOAD") && madeBy != null && madeBy === caller.tokenId);
}

/**
 * The caller's recording with this id, with its owner loaded; null if there is none or the token may not read it.
 * @throws {ServiceError} FORBIDDEN if the token may not read any recording
 */
export async function findReadableRecord(
  em: SqlEntityManager,
  caller: Caller,
  id: string,
): Promise<AudioRecord | null> {
  requireScope(caller, "READ", "UPLOAD");
  const record = await findOwnRecord(em, caller.id, id);
  return record && mayRead(caller, record.madeBy) ? record : null;
}

/**
 * Those of the caller's recordings with these ids that the token may read, with their owner loaded, by the given id.
 * @throws {ServiceError} FORBIDDEN if the token may not read any recording
 */
export async function findReadableRecords(
  em: SqlEntityManager,
  caller: Caller,
  ids: readonly string[],
): Promise<ReadonlyMap<string, AudioRecord>> {
  requireScope(caller, "READ", "UPLOAD");
  const recordIds = ids.map(parseRecordId).filter((id) => id !== undefined);
  if (recordIds.length === 0) return new Map();
  const records = await em.find(
    AudioRecord,
    { id: recordIds, owner: caller.id, state: "ready" },
    { populate: ["owner"] },
  );
  const readable = new Map(
    records.filter(({ madeBy }) => mayRead(caller, madeBy)).map((record) => [record.id, record]),
  );
  return new Map(
    ids.flatMap((given) => {
      const record = readable.get(parseRecordId(given) ?? "");
      return record ? [[given, record]] : [];
    }),
  );
}

/**
 * The stored waveforms of recordings that the caller may see. A recording that was deleted in the meantime is omitted.
 */
export async function findWaveforms(
  em: SqlEntityManager,
  recordIds: readonly string[],
): Promise<ReadonlyMap<string, Uint8Array>> {
  const rows = await selectWaveforms(em)
    .select((eb) => ["AudioRecord.id", eb.fn.coalesce("overview", "waveform").as("waveform")])
    .where("AudioRecord.id", "in", recordIds)
    .execute();
  return new Map(rows.flatMap(({ id, waveform }) => (waveform ? [[id, waveform]] : [])));
}

/**
 * The most detailed stored waveform of a recording that the caller may see; undefined if it was deleted in the
 * meantime.
 */
export async function findDetailedWaveform(em: SqlEntityManager, id: string): Promise<Uint8Array | undefined> {
  const row = await selectWaveforms(em)
    .select((eb) => eb.fn.coalesce("detail", "waveformDetail", "overview", "waveform").as("waveform"))
    .where("AudioRecord.id", "=", id)
    .executeTakeFirst();
  return row?.waveform ?? undefined;
}

/** Recordings with their waveforms, which older ones have in their own rows. */
function selectWaveforms(em: SqlEntityManager) {
  return queryBuilder<RecordTables>(em)
    .selectFrom("AudioRecord")
    .leftJoin("RecordWaveform", "RecordWaveform.recordId", "AudioRecord.id");
}

/** What the WAVs of recordings that the caller may see state about their parts and their production. */
export async function findProductions(
  em: SqlEntityManager,
  recordIds: readonly string[],
): Promise<ReadonlyMap<string, Pick<AudioRecord, "chapters" | "production">>> {
  const records = await em.find(
    AudioRecord,
    { id: [...recordIds] },
    { fields: ["chapters", "production"], disableIdentityMap: true },
  );
  return new Map(records.map((record) => [record.id, record]));
}

/** The waveform of a recording as `count` magnitudes from 0 to 1; undefined if it was deleted in the meantime. */
export async function findPeaks(
  em: SqlEntityManager,
  recordId: string,
  count: number,
): Promise<readonly number[] | undefined> {
  const waveform = (await findWaveforms(em, [recordId])).get(recordId);
  return waveform && waveformPeaks(decodeWaveform(waveform), count);
}
