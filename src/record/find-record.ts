import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { AudioRecord } from "./record.entity.ts";
import { parseRecordId } from "./record-url.ts";

/** The owner's record with this id, with its owner loaded; null when there is none or it is somebody else's. */
export async function findOwnRecord(em: SqlEntityManager, ownerId: number, id: string): Promise<AudioRecord | null> {
  const recordId = parseRecordId(id);
  if (recordId === undefined) return null;
  return await em.findOne(AudioRecord, { id: recordId, owner: ownerId, state: "ready" }, { populate: ["owner"] });
}

/** The stored waveform of a record that the caller may see; undefined when the record has gone meanwhile. */
export async function findWaveform(em: SqlEntityManager, recordId: string): Promise<Uint8Array | undefined> {
  const record = await em.findOne(AudioRecord, { id: recordId }, { fields: ["waveform"] });
  return record?.waveform ?? undefined;
}
