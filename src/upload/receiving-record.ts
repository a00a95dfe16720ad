import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { setTimeout } from "node:timers/promises";
import type { Pool, PoolClient } from "pg";
import type { ConversionFacts } from "../audio/wav-to-mp3.ts";
import { encodeWaveform } from "../audio/meter/waveform.ts";
import type { Caller } from "../caller/caller.ts";
import { changeOnce, inTransaction } from "../database/transaction.ts";
import { tryAgainLater } from "../errors/errors.ts";
import {
  allowanceUsedUp,
  chargedTable,
  chargeParameters,
  rowBytes,
  type Charge,
  type RefusedCharge,
} from "../limits/write-allowance.ts";
import type { Quota } from "../settings/config.ts";
import { tokenRevoked, userDeleted } from "../user/authenticate-user.ts";
import { User } from "../user/user.entity.ts";
import { findOwnRecord } from "../record/find-record.ts";
import { recordMissing, removedMeanwhile } from "../record/mp3-chunks.ts";
import {
  requireQuota,
  leastAddition,
  quotaColumns,
  quotaExceeded,
  quotaParameters,
  quotaTables,
  type QuotaRow,
} from "./quota.ts";
import { AudioRecord } from "../record/record.entity.ts";
import { searchTextOf, titleKeyOf } from "../record/search-text.ts";
import { leaseSeconds } from "./upload-leases.ts";
import type { Visibility } from "../settings/visibility.ts";

/** MP3 bytes in one row. `docs/decisions` has the measurements. */
export const chunkBytes = 1024 * 1024;

/** The facts about an upload before its file is read. */
export interface NewUpload {
  readonly id: string;
  readonly ownerId: number;
  readonly fileName: string;
  readonly visibility: Visibility;
  readonly idempotencyKey: string | undefined;
}

/** An earlier upload of the same user with the same idempotency key. */
export interface EarlierUpload {
  readonly id: string;
  readonly state: "receiving" | "ready";
  readonly fileName: string;
  /** Id of the token that uploaded it; null while receiving. */
  readonly madeBy: string | null;
  /** Size and SHA-256 (hexadecimal) of its file; 0 and empty while receiving. */
  readonly sourceBytes: number;
  readonly sha256: string;
}

/** The limits that an upload must meet before it begins. */
export interface UploadTerms {
  /** The quota of users without their own. */
  readonly quota: Quota;
  readonly charge: Charge;
}

/**
 * Exactly one of three cases: the row was inserted; an earlier upload has the same key; or, if neither is set, another
 * request is inserting that key right now.
 */
export interface BegunUpload {
  readonly begun: boolean;
  readonly earlier: EarlierUpload | undefined;
  readonly quota: QuotaRow;
}

/**
 * Inserts the row to which an upload's chunks belong, unless the user's quota is used up or the idempotency key exists.
 * The row is invisible until it is ready, so its commit does not wait for the disk. The log is written in order, so the
 * commit that makes the recording ready waits for all of it.
 * @throws {ServiceError} QUOTA_EXCEEDED or RATE_LIMITED
 */
export async function beginRecord(
  pool: Pool,
  upload: NewUpload,
  { quota: defaults, charge }: UploadTerms,
): Promise<BegunUpload> {
  const beginning = pool.query<BeginRow>(
    `with ${quotaTables}, earlier as (
       select id, state, file_name, made_by, source_bytes, source_sha256 from audio_record
       where owner_id = $1 and idempotency_key = $12
     ), ${chargedTable(13, "from verdict where exceeded is null and not exists (select from earlier)")},
     begun as (
       insert into audio_record
         (id, owner_id, state, lease_until, title, file_name, chunk_bytes, visibility, idempotency_key)
       select $7, $1, 'receiving', now() + make_interval(secs => $8), '', $9, $10, $11, $12
       from charged cross join set_config('synchronous_commit', 'off', true)
       where refused is null
       on conflict (owner_id, idempotency_key) where idempotency_key is not null do nothing
       returning id
     )
     select exists (select from begun) as begun, (select refused from charged) as refused, earlier.id as "earlierId", earlier.state,
       earlier.file_name as "fileName", earlier.made_by as "madeBy",
       earlier.source_bytes as "sourceBytes", earlier.source_sha256 as sha256, ${quotaColumns}
     from quota cross join used cross join verdict left join earlier on true`,
    [
      ...quotaParameters(upload.ownerId, defaults, leastAddition),
      upload.id,
      leaseSeconds,
      upload.fileName,
      chunkBytes,
      upload.visibility,
      upload.idempotencyKey,
      ...chargeParameters(charge, rowBytes.record),
    ],
  );
  const { rows } = await beginning.catch((error: unknown) => {
    // The user was deleted while the statement ran.
    throw recordMissing(error) ? userDeleted() : error;
  });
  const row = rows[0];
  if (!row) throw userDeleted();
  const { begun, earlierId, state, fileName, madeBy, sourceBytes, sha256 } = row;
  if (earlierId === null && row.exceeded) throw quotaExceeded(row.exceeded, row);
  if (row.refused) throw allowanceUsedUp(charge, row.refused);
  const earlier =
    earlierId === null
      ? undefined
      : { id: earlierId, state, fileName, madeBy, sourceBytes: Number(sourceBytes), sha256 };
  return { begun, earlier, quota: row };
}

interface BeginRow extends QuotaRow {
  readonly begun: boolean;
  readonly refused: RefusedCharge | null;
  readonly earlierId: string | null;
  readonly state: "receiving" | "ready";
  readonly fileName: string;
  readonly madeBy: string | null;
  readonly sourceBytes: string;
  readonly sha256: string;
}

/** Shortest and longest interval between two checks of another upload. */
const firstLookMs = 50;
const lastLookMs = 1000;

/**
 * Waits until an upload, which may run in another replica, is ready or has failed. It polls the row, so that no
 * connection is held.
 * @throws {ServiceError} BUSY if that does not happen within `maxSeconds`
 * @throws the signal's reason if it is aborted
 */
export async function waitForUpload(pool: Pool, id: string, maxSeconds: number, signal: AbortSignal): Promise<void> {
  const giveUpAt = performance.now() + maxSeconds * 1000;
  for (let waitMs = firstLookMs; performance.now() < giveUpAt; waitMs = Math.min(waitMs * 1.5, lastLookMs)) {
    await setTimeout(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    const { rowCount } = await pool.query("select from audio_record where id = $1 and state = 'receiving'", [id]);
    if (rowCount === 0) return;
  }
  throw tryAgainLater("BUSY", "The first upload with this idempotency key is still running", 10);
}

/** The data that complete a recording. */
export interface FinishedRecord {
  readonly title: string;
  readonly fileName: string;
  /** The bytes before the frames. */
  readonly head: Buffer;
  /** Size of the frames, which are already stored, in bytes. */
  readonly frameBytes: number;
  readonly facts: ConversionFacts;
}

/**
 * Makes the recording ready if it fits into the user's quota. Even if many uploads of the user end at once, ready
 * recordings never exceed the quota.
 * @throws {ServiceError} QUOTA_EXCEEDED
 */
export async function finishWithinQuota(
  { em, pool }: { em: SqlEntityManager; pool: Pool },
  id: string,
  owner: Caller,
  finished: FinishedRecord,
  defaults: Quota,
): Promise<AudioRecord> {
  const { samples, format } = finished.facts.source;
  const addition = {
    bytes: finished.head.length + finished.frameBytes,
    microseconds: Math.floor((samples * 1e6) / format.sampleRateHz),
  };
  return await inTransaction(pool, async (client) => {
    await requireQuota(client, owner.id, defaults, addition);
    return await finishRecord({ em, pool: client }, id, owner, finished);
  });
}

/**
 * Makes the recording ready for a user without a quota.
 * @throws {ServiceError} as {@link finishRecord} does
 */
export async function finishWithoutQuota(
  { em, pool }: { em: SqlEntityManager; pool: Pool },
  id: string,
  owner: Caller,
  finished: FinishedRecord,
): Promise<AudioRecord> {
  return await changeOnce(
    pool,
    async (client) => await finishRecord({ em, pool: client }, id, owner, finished),
    // A recording that is not ready by now will not become ready.
    async () => ((await discardRecord(pool, id)) ? undefined : ((await findOwnRecord(em, owner.id, id)) ?? undefined)),
  );
}

/**
 * Writes the head and makes the recording ready, in one statement.
 * @throws {ServiceError} CONFLICT if the recording or its owner was deleted meanwhile; UNAUTHENTICATED if the token was
 * revoked
 */
export async function finishRecord(
  { em, pool }: { em: SqlEntityManager; pool: Pool | PoolClient },
  id: string,
  owner: Caller,
  { title, fileName, head, frameBytes, facts: { source, mp3, sound, warnings } }: FinishedRecord,
): Promise<AudioRecord> {
  const writing = pool.query<Record<string, unknown>>(
    `with head as (insert into mp3_chunk (record_id, position, bytes) values ($1, 0, $2))
     update audio_record set
       state = 'ready', lease_until = null, title = $3, head_bytes = $4, size_bytes = $5,
       bitrate_kbps = $6, sample_rate_hz = $7, channels = $8,
       source_samples = $9, source_codec = $10, source_bits_per_sample = $11, source_sample_rate_hz = $12,
       source_channels = $13, source_bytes = $14, source_sha256 = $15,
       tags = $16, warnings = $17, integrated_lufs = $18, sample_peak_dbfs = $19, waveform = $20,
       title_key = $21, search_text = $22, source_left_out_bytes = $23, made_by = $24
     where id = $1 and state = 'receiving' and ($24::uuid is null or exists (select from access_token where id = $24))
     returning id, owner_id, state, visibility, title, file_name, created_at, head_bytes, chunk_bytes, size_bytes,
       bitrate_kbps, sample_rate_hz, channels, source_samples, source_codec, source_bits_per_sample,
       source_sample_rate_hz, source_channels, source_bytes, source_left_out_bytes, source_sha256, tags, warnings,
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
      titleKeyOf(title),
      searchTextOf({ title, fileName, tags: source.tags.list }),
      source.leftOutBytes,
      owner.tokenId,
    ],
  );
  const { rows } = await writing.catch((error: unknown) => {
    throw recordMissing(error) ? removedMeanwhile() : error;
  });
  if (!rows[0]) throw (await isRevoked(pool, owner)) ? tokenRevoked() : removedMeanwhile();
  em.map(User, { id: owner.id, name: owner.name, created_at: owner.createdAt });
  return em.map(AudioRecord, rows[0]);
}

async function isRevoked(pool: Pool | PoolClient, { tokenId }: Caller): Promise<boolean> {
  if (tokenId === null) return false;
  const { rowCount } = await pool.query("select from access_token where id = $1", [tokenId]);
  return rowCount === 0;
}

/**
 * Deletes a recording that did not become ready, with its chunks.
 * @returns whether there was one
 */
export async function discardRecord(pool: Pool, id: string): Promise<boolean> {
  const { rowCount } = await pool.query("delete from audio_record where id = $1 and state = 'receiving'", [id]);
  return rowCount !== 0;
}
