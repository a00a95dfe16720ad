import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Pool } from "pg";
import type { ConversionFacts } from "../audio/wav-to-mp3.ts";
import { encodeWaveform } from "../audio/waveform.ts";
import type { Caller } from "../user/authenticate-user.ts";
import { User } from "../user/user.entity.ts";
import { AudioRecord } from "./record.entity.ts";
import { leaseSeconds } from "./upload-leases.ts";
import type { Visibility } from "./visibility.ts";

/** Bytes of MP3 in one row; `docs/decisions` has the measurements behind it. */
export const chunkBytes = 256 * 1024;

/** Makes the row that an upload's chunks belong to. Nobody sees it before it is ready. */
export async function beginRecord(
  pool: Pool,
  { id, ownerId, fileName, visibility }: { id: string; ownerId: number; fileName: string; visibility: Visibility },
): Promise<void> {
  await pool.query(
    `insert into audio_record (id, owner_id, state, lease_until, title, file_name, chunk_bytes, visibility)
     values ($1, $2, 'receiving', now() + make_interval(secs => $3), '', $4, $5, $6)`,
    [id, ownerId, leaseSeconds, fileName, chunkBytes, visibility],
  );
}

/** What completes a record. */
export interface FinishedRecord {
  readonly title: string;
  /** Goes in front of the frames. */
  readonly head: Buffer;
  /** Bytes of the frames that are stored already. */
  readonly frameBytes: number;
  readonly facts: ConversionFacts;
}

/** Writes the head and makes the record ready, in one statement. */
export async function finishRecord(
  { em, pool }: { em: SqlEntityManager; pool: Pool },
  id: string,
  owner: Caller,
  { title, head, frameBytes, facts: { source, mp3, sound, warnings } }: FinishedRecord,
): Promise<AudioRecord> {
  const { rows } = await pool.query<Record<string, unknown>>(
    `with head as (insert into mp3_chunk (record_id, position, bytes) values ($1, 0, $2))
     update audio_record set
       state = 'ready', lease_until = null, title = $3, head_bytes = $4, size_bytes = $5,
       bitrate_kbps = $6, sample_rate_hz = $7, channels = $8,
       source_samples = $9, source_codec = $10, source_bits_per_sample = $11, source_sample_rate_hz = $12,
       source_channels = $13, source_bytes = $14, source_sha256 = $15,
       tags = $16, warnings = $17, integrated_lufs = $18, sample_peak_dbfs = $19, waveform = $20
     where id = $1 and state = 'receiving'
     returning id, owner_id, state, visibility, title, file_name, created_at, head_bytes, chunk_bytes, size_bytes,
       bitrate_kbps, sample_rate_hz, channels, source_samples, source_codec, source_bits_per_sample,
       source_sample_rate_hz, source_channels, source_bytes, source_sha256, tags, warnings,
       integrated_lufs, sample_peak_dbfs`,
    [
      id,
      head,
      title,
      head.length,
      head.length + frameBytes,
      mp3.bitrateKbps,
      mp3.sampleRateHz,
      mp3.channels,
      source.samples,
      source.format.codec,
      source.format.bitsPerSample,
      source.format.sampleRateHz,
      source.format.channels,
      source.bytes,
      source.sha256,
      JSON.stringify(source.tags.list),
      JSON.stringify(warnings),
      sound.integratedLufs,
      sound.samplePeakDbfs,
      encodeWaveform(sound.waveform),
    ],
  );
  if (!rows[0]) throw new Error("The record was removed while its upload was under way");
  em.map(User, { id: owner.id, name: owner.name, created_at: owner.createdAt });
  return em.map(AudioRecord, rows[0]);
}

/** Removes a record that did not become ready, with its chunks. */
export async function discardRecord(pool: Pool, id: string): Promise<void> {
  await pool.query("delete from audio_record where id = $1 and state = 'receiving'", [id]);
}
