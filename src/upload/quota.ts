import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type AliasedRawBuilder } from "kysely";
import type { Caller } from "../caller/caller.ts";
import { queryBuilder } from "../database/query-builder.ts";
import { counted, ServiceError } from "../errors/errors.ts";
import type { RecordTables } from "../record/record.entity.ts";
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
const usageColumns = [
  sql<number>`coalesce(sum(${sql.ref("AudioRecord.sizeBytes" satisfies Column)}), 0)::bigint`.as("usedBytes"),
  sql<number>`coalesce(sum(${sql.ref("AudioRecord.sourceSamples" satisfies Column)} * 1000000
    / ${sql.ref("AudioRecord.sourceSampleRateHz" satisfies Column)}), 0)::bigint`.as("usedMicroseconds"),
  sql<number>`count(*)`.as("usedRecords"),
];

type Column = `AudioRecord.${keyof RecordTables["AudioRecord"]}`;

/** The values of a statement with {@link verdict}. */
export interface QuotaQuestion {
  readonly ownerId: number;
  /** The token of the upload; null if it has none. */
  readonly tokenId: string | null;
  /** The quota of users without their own. */
  readonly defaultBytes: number;
  readonly defaultSeconds: number;
  readonly defaultRecords: number;
  readonly addedBytes: number;
  readonly addedMicroseconds: number;
}

/** The values for {@link verdict}. */
export function quotaQuestion(
  { id, tokenId }: Pick<Caller, "id" | "tokenId">,
  defaults: Quota,
  addition: Addition,
): QuotaQuestion {
  return {
    ownerId: id,
    tokenId,
    defaultBytes: defaults.bytes,
    defaultSeconds: defaults.seconds,
    defaultRecords: defaults.records,
    addedBytes: addition.bytes,
    addedMicroseconds: addition.microseconds,
  };
}

/** A user's quota (0: unlimited) and usage, which is not summed for a user without limits. */
export interface QuotaState {
  readonly maxBytes: number;
  readonly maxSeconds: number;
  readonly maxRecords: number;
  readonly usedBytes: number;
  readonly usedMicroseconds: number;
  readonly usedRecords: number;
}

/** The quota, and the limit that an addition would exceed. */
export interface Verdict extends QuotaState {
  readonly exceeded: keyof Quota | null;
}

/**
 * A call of the function `quota_state`, which a migration creates: one row, or none if the user was deleted or the
 * token revoked.
 * @param locks whether a user with limits is locked until the end of the transaction, so that the user's uploads end
 * one after the other; then the token cannot be revoked before that end either
 */
export function verdict(question: QuotaQuestion, { locks }: { locks: boolean }): AliasedRawBuilder<Verdict, "verdict"> {
  const { ownerId, tokenId, defaultBytes, defaultSeconds, defaultRecords, addedBytes, addedMicroseconds } = question;
  return sql<Verdict>`quota_state(${ownerId}::int, ${defaultBytes}::bigint, ${defaultSeconds}::bigint,
    ${defaultRecords}::int, ${addedBytes}::bigint, ${addedMicroseconds}::bigint, ${sql.lit(locks)},
    ${tokenId}::uuid)`.as("verdict");
}

/** The columns of {@link verdict}. */
export const verdictColumns = [
  "verdict.exceeded",
  "verdict.maxBytes",
  "verdict.maxSeconds",
  "verdict.maxRecords",
  "verdict.usedBytes",
  "verdict.usedMicroseconds",
  "verdict.usedRecords",
] as const;

/** The storage used by users' recordings and their quotas, by user id. Deleted users are omitted. */
export async function findUsages(
  em: SqlEntityManager,
  ownerIds: readonly number[],
  defaults: Quota,
): Promise<ReadonlyMap<number, Usage>> {
  const rows = await findQuotaStates(em, ownerIds, defaults);
  return new Map(rows.map((row) => [row.id, { ...usedOf(row), limits: limitsOf(row) }]));
}

/** The quotas of users, and what is used of them. Deleted users are omitted. */
export async function findQuotaStates(
  em: SqlEntityManager,
  ownerIds: readonly number[],
  defaults: Quota,
): Promise<(QuotaState & { readonly id: number })[]> {
  return await queryBuilder<RecordTables>(em)
    .selectFrom("User")
    .innerJoinLateral(
      (eb) =>
        eb
          .selectFrom("AudioRecord")
          .select(usageColumns)
          .whereRef("AudioRecord.ownerId", "=", "User.id")
          .where("AudioRecord.state", "=", "ready")
          .as("used"),
      (join) => join.onTrue(),
    )
    .where((eb) => eb("User.id", "=", eb.fn.any(eb.val(ownerIds))))
    .select(["User.id", "used.usedBytes", "used.usedMicroseconds", "used.usedRecords"])
    .select((eb) => [
      eb.fn.coalesce("quotaBytes", sql<number>`${defaults.bytes}::bigint`).as("maxBytes"),
      eb.fn.coalesce("quotaSeconds", sql<number>`${defaults.seconds}::bigint`).as("maxSeconds"),
      eb.fn.coalesce("quotaRecords", sql<number>`${defaults.records}::int`).as("maxRecords"),
    ])
    .execute();
}

/** The error, with the name and value of the limit and the usage. */
export function quotaExceeded(limit: keyof Quota, state: QuotaState): ServiceError {
  const [max, used] = [limitsOf(state)[limit], usedOf(state)[limit]];
  const noun = { bytes: "byte", seconds: "second", records: "recording" }[limit];
  const inUse = `${used} ${used === 1 ? "is" : "are"} in use`;
  const message = `Your quota has no room for this recording. It allows ${counted(max, noun)}, and ${inUse}.`;
  return new ServiceError("QUOTA_EXCEEDED", message, { limit, max, used });
}

/** The remaining quota; Infinity if there is no limit. */
export function roomLeft(state: QuotaState): { readonly bytes: number; readonly seconds: number } {
  const [limits, used] = [limitsOf(state), usedOf(state)];
  return {
    bytes: limits.bytes === 0 ? Infinity : limits.bytes - used.bytes,
    seconds: limits.seconds === 0 ? Infinity : limits.seconds - used.seconds,
  };
}

/** Whether the user has any limit. */
export function isLimited(state: QuotaState): boolean {
  const { bytes, seconds, records } = limitsOf(state);
  return bytes + seconds + records > 0;
}

function limitsOf({ maxBytes, maxSeconds, maxRecords }: QuotaState): Quota {
  return { bytes: maxBytes, seconds: maxSeconds, records: maxRecords };
}

function usedOf({ usedBytes, usedMicroseconds, usedRecords }: QuotaState): Quota {
  return { bytes: usedBytes, seconds: usedMicroseconds / 1_000_000, records: usedRecords };
}
