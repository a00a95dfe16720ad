import type { Pool, PoolClient } from "pg";
import { counted, ServiceError } from "../errors/errors.ts";
import type { Quota } from "../settings/config.ts";

/** The storage used by a user's recordings, and the quota. */
export interface Usage extends Quota {
  readonly limits: Quota;
}

/** The storage that an upload adds. */
interface Addition {
  readonly bytes: number;
  readonly microseconds: number;
}

/** The smallest possible recording, for refusing an upload before its file is read. */
export const leastAddition: Addition = { bytes: 1, microseconds: 1 };

/** Microseconds as integers, so that sums are exact. The index `audio_record_usage` contains all these columns. */
const usageColumns = `coalesce(sum(size_bytes), 0) as bytes,
  coalesce(sum(source_samples * 1000000 / source_sample_rate_hz), 0) as microseconds, count(*) as records`;

/**
 * The beginning of a statement that checks whether a recording fits into the user's quota, with `quotaParameters` as
 * its first parameters. It defines `quota`, `used` (not summed for a user without limits) and `verdict`, the limit that
 * would be exceeded.
 */
export const quotaTables = `
  quota as (
    select coalesce(quota_bytes, $2::bigint) as bytes, coalesce(quota_seconds, $3::bigint) as seconds,
      coalesce(quota_records, $4::int) as records
    from app_user where id = $1
  ), used as (
    select ${usageColumns} from audio_record
    where owner_id = $1 and state = 'ready' and (select bytes + seconds + records > 0 from quota)
  ), verdict as (
    select case
      when quota.bytes > 0 and used.bytes + $5::bigint > quota.bytes then 'bytes'
      when quota.seconds > 0 and used.microseconds + $6::bigint > quota.seconds * 1000000 then 'seconds'
      when quota.records > 0 and used.records + 1 > quota.records then 'records'
    end as exceeded
    from quota, used
  )`;

/** The columns of such a statement. Sums are returned as text. */
export const quotaColumns = `verdict.exceeded, quota.bytes as "maxBytes", quota.seconds as "maxSeconds",
  quota.records as "maxRecords", used.bytes as "usedBytes", used.microseconds / 1000000.0 as "usedSeconds",
  used.records as "usedRecords"`;

export interface QuotaRow {
  readonly exceeded: keyof Quota | null;
  readonly maxBytes: string;
  readonly maxSeconds: string;
  readonly maxRecords: number;
  readonly usedBytes: string;
  readonly usedSeconds: string;
  readonly usedRecords: string;
}

/** The first parameters of a statement with `quotaTables`. */
export function quotaParameters(ownerId: number, defaults: Quota, addition: Addition): number[] {
  return [ownerId, defaults.bytes, defaults.seconds, defaults.records, addition.bytes, addition.microseconds];
}

/** The storage used by users' recordings and their quotas, by user id. Deleted users are omitted. */
export async function findUsages(
  pool: Pool,
  ownerIds: readonly number[],
  defaults: Quota,
): Promise<ReadonlyMap<number, Usage>> {
  const { rows } = await pool.query<Omit<QuotaRow, "exceeded"> & { readonly id: number }>(
    `select id, coalesce(quota_bytes, $2::bigint) as "maxBytes", coalesce(quota_seconds, $3::bigint) as "maxSeconds",
       coalesce(quota_records, $4::int) as "maxRecords", used.bytes as "usedBytes",
       used.microseconds / 1000000.0 as "usedSeconds", used.records as "usedRecords"
     from app_user, lateral (
       select ${usageColumns} from audio_record where owner_id = app_user.id and state = 'ready'
     ) used where app_user.id = any($1::int[])`,
    [ownerIds, defaults.bytes, defaults.seconds, defaults.records],
  );
  return new Map(rows.map((row) => [row.id, { ...usedOf(row), limits: limitsOf(row) }]));
}

/**
 * Locks the user until the end of the transaction, so that the user's uploads end one after the other, then checks the
 * quota. The lock is a statement of its own, because only a statement that begins after it sees what the previous
 * upload has stored.
 * @param client in a transaction
 * @throws {ServiceError} QUOTA_EXCEEDED
 */
export async function requireQuota(
  client: PoolClient,
  ownerId: number,
  defaults: Quota,
  addition: Addition,
): Promise<void> {
  await client.query("select from app_user where id = $1 for no key update", [ownerId]);
  const { rows } = await client.query<QuotaRow>(
    `with ${quotaTables} select ${quotaColumns} from quota, used, verdict`,
    quotaParameters(ownerId, defaults, addition),
  );
  const row = rows[0];
  if (row?.exceeded) throw quotaExceeded(row.exceeded, row);
}

/** The error, with the name and value of the limit and the usage. */
export function quotaExceeded(limit: keyof Quota, row: QuotaRow): ServiceError {
  const [max, used] = [limitsOf(row)[limit], usedOf(row)[limit]];
  const noun = { bytes: "byte", seconds: "second", records: "recording" }[limit];
  const inUse = `${used} ${used === 1 ? "is" : "are"} in use`;
  const message = `Your quota has no room for this recording. It allows ${counted(max, noun)}, and ${inUse}.`;
  return new ServiceError("QUOTA_EXCEEDED", message, { limit, max, used });
}

/** The remaining quota; Infinity if there is no limit. */
export function roomLeft(row: QuotaRow): { readonly bytes: number; readonly seconds: number } {
  const [limits, used] = [limitsOf(row), usedOf(row)];
  return {
    bytes: limits.bytes === 0 ? Infinity : limits.bytes - used.bytes,
    seconds: limits.seconds === 0 ? Infinity : limits.seconds - used.seconds,
  };
}

/** Whether the user has any limit. */
export function isLimited(row: QuotaRow): boolean {
  const { bytes, seconds, records } = limitsOf(row);
  return bytes + seconds + records > 0;
}

function limitsOf(row: Omit<QuotaRow, "exceeded">): Quota {
  return { bytes: Number(row.maxBytes), seconds: Number(row.maxSeconds), records: row.maxRecords };
}

function usedOf(row: Omit<QuotaRow, "exceeded">): Quota {
  return { bytes: Number(row.usedBytes), seconds: Number(row.usedSeconds), records: Number(row.usedRecords) };
}
