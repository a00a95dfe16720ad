import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { setTimeout } from "node:timers/promises";
import { sql, type Kysely } from "kysely";
import type { ConversionFacts } from "../audio/wav-to-mp3.ts";
import { encodeWaveform } from "../audio/meter/waveform.ts";
import type { Caller } from "../caller/caller.ts";
import { statement } from "../database/query-builder.ts";
import { confirmed } from "../database/transaction.ts";
import { isParentMissing } from "../errors/database-failures.ts";
import { tryAgainLater } from "../errors/errors.ts";
import { allowanceUsedUp, refusalOf, rowBytes, type Charge } from "../limits/write-allowance.ts";
import type { Quota } from "../settings/config.ts";
import { tokenRevoked, userDeleted } from "../user/authenticate-user.ts";
import { AccessToken, User } from "../user/user.entity.ts";
import { findOwnRecord } from "../record/find-record.ts";
import { chunkBytes, notWaitingForTheDisk } from "../record/mp3-chunks.ts";
import { removedMeanwhile } from "../record/record-refusals.ts";
import {
  leastAddition,
  quotaColumns,
  quotaExceeded,
  quotaQuestion,
  requireQuota,
  withVerdict,
  type QuotaQuestion,
  type QuotaState,
} from "./quota.ts";
import { AudioRecord, type RecordTables } from "../record/record.entity.ts";
import { searchTextOf, titleKeyOf } from "../record/search-text.ts";
import { leaseSeconds } from "./upload-leases.ts";
import type { Visibility } from "../settings/visibility.ts";

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
  readonly quota: QuotaState;
}

interface Beginning extends QuotaQuestion {
  readonly id: string;
  readonly fileName: string;
  readonly visibility: Visibility;
  readonly idempotencyKey: string | null;
  readonly chargedKeys: readonly string[];
  readonly chargedPerDay: readonly number[];
}

const begin = statement((db: Kysely<RecordTables>, upload: Beginning) =>
  withVerdict(db, upload)
    .with("earlier", (db) =>
      db
        .selectFrom("AudioRecord")
        .select(["id", "state", "fileName", "madeBy", "sourceBytes", "sourceSha256"])
        .where("ownerId", "=", upload.ownerId)
        .where("idempotencyKey", "=", upload.idempotencyKey),
    )
    .with(
      (cte) => cte("charged").materialized(),
      (db) =>
        db
          .selectFrom("verdict")
          .select(
            refusalOf({ keys: upload.chargedKeys, bytesPerDay: upload.chargedPerDay }, rowBytes.record).as("refused"),
          )
          .where("exceeded", "is", null)
          .where((eb) => eb.not(eb.exists(eb.selectFrom("earlier").select("id")))),
    )
    .with("begun", (db) =>
      db
        .insertInto("AudioRecord")
        .columns([
          "id",
          "ownerId",
          "state",
          "leaseUntil",
          "title",
          "fileName",
          "chunkBytes",
          "visibility",
          "idempotencyKey",
        ])
        .expression((eb) =>
          eb
            .selectFrom(["charged", notWaitingForTheDisk])
            .select((eb) => [
              eb.val(upload.id).as("id"),
              eb.val(upload.ownerId).as("ownerId"),
              sql.lit("receiving").as("state"),
              sql<Date>`now() + make_interval(secs => ${leaseSeconds})`.as("leaseUntil"),
              sql.lit("").as("title"),
              eb.val(upload.fileName).as("fileName"),
              sql.lit(chunkBytes).as("chunkBytes"),
              eb.val(upload.visibility).as("visibility"),
              eb.val(upload.idempotencyKey).as("idempotencyKey"),
            ])
            .where("refused", "is", null),
        )
        .onConflict((conflict) =>
          conflict.columns(["ownerId", "idempotencyKey"]).where("idempotencyKey", "is not", null).doNothing(),
        )
        .returning("id"),
    )
    .selectFrom(["quota", "used", "verdict"])
    .leftJoin("earlier", (join) => join.onTrue())
    .leftJoin("begun", (join) => join.onTrue())
    .leftJoin("charged", (join) => join.onTrue())
    .select(quotaColumns)
    .select(["earlier.id as earlierId", "earlier.state", "earlier.fileName", "earlier.madeBy"])
    .select(["earlier.sourceBytes", "earlier.sourceSha256", "begun.id as begunId", "charged.refused"]),
);

/**
 * Inserts the row to which an upload's chunks belong, unless the user's quota is used up or the idempotency key exists.
 * The row is invisible until it is ready, so its commit does not wait for the disk. The log is written in order, so the
 * commit that makes the recording ready waits for all of it.
 * @throws {ServiceError} QUOTA_EXCEEDED or RATE_LIMITED
 */
export async function beginRecord(
  em: SqlEntityManager,
  { ownerId, idempotencyKey, ...upload }: NewUpload,
  { quota: defaults, charge }: UploadTerms,
): Promise<BegunUpload> {
  const beginning = begin(em, {
    ...quotaQuestion(ownerId, defaults, leastAddition),
    ...upload,
    idempotencyKey: idempotencyKey ?? null,
    chargedKeys: charge.keys,
    chargedPerDay: charge.bytesPerDay,
  });
  const [row] = await beginning.catch((error: unknown) => {
    // The user was deleted while the statement ran.
    throw isParentMissing(error) ? userDeleted() : error;
  });
  if (!row) throw userDeleted();
  const { begunId, refused, earlierId, state, fileName, madeBy, sourceBytes, sourceSha256 } = row;
  if (earlierId === null && row.exceeded) throw quotaExceeded(row.exceeded, row);
  if (refused) throw allowanceUsedUp(charge, refused);
  const earlier =
    earlierId === null
      ? undefined
      : {
          id: earlierId,
          state: state!,
          fileName: fileName!,
          madeBy,
          sourceBytes: sourceBytes!,
          sha256: sourceSha256!,
        };
  return { begun: begunId !== null, earlier, quota: row };
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
export async function waitForUpload(
  em: SqlEntityManager,
  id: string,
  maxSeconds: number,
  signal: AbortSignal,
): Promise<void> {
  const giveUpAt = performance.now() + maxSeconds * 1000;
  for (let waitMs = firstLookMs; performance.now() < giveUpAt; waitMs = Math.min(waitMs * 1.5, lastLookMs)) {
    await setTimeout(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    if ((await em.count(AudioRecord, { id, state: "receiving" })) === 0) return;
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
  em: SqlEntityManager,
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
  return await em.transactional(async (em) => {
    await requireQuota(em, owner.id, defaults, addition);
    return await finishRecord(em, id, owner, finished);
  });
}

/**
 * Makes the recording ready for a user without a quota.
 * @throws {ServiceError} as {@link finishRecord} does
 */
export async function finishWithoutQuota(
  em: SqlEntityManager,
  id: string,
  owner: Caller,
  finished: FinishedRecord,
): Promise<AudioRecord> {
  return await confirmed(
    async () => await finishRecord(em, id, owner, finished),
    // A recording that is not ready by now will not become ready.
    async () => ((await discardRecord(em, id)) ? undefined : ((await findOwnRecord(em, owner.id, id)) ?? undefined)),
  );
}

/** The values of the statement {@link finish}. */
interface Finish extends Pick<
  AudioRecord,
  | "id"
  | "title"
  | "headBytes"
  | "sizeBytes"
  | "bitrateKbps"
  | "sampleRateHz"
  | "channels"
  | "sourceSamples"
  | "sourceCodec"
  | "sourceBitsPerSample"
  | "sourceSampleRateHz"
  | "sourceChannels"
  | "sourceBytes"
  | "sourceSha256"
  | "sourceLeftOutBytes"
  | "titleKey"
  | "searchText"
> {
  readonly head: Uint8Array;
  readonly tags: string;
  readonly warnings: string;
  readonly integratedLufs: number | null;
  readonly samplePeakDbfs: number | null;
  readonly waveform: Uint8Array;
  readonly madeBy: string | null;
}

const finish = statement((db: Kysely<RecordTables>, record: Finish) =>
  db
    .with("head", (db) => db.insertInto("Mp3Chunk").values({ recordId: record.id, position: 0, bytes: record.head }))
    .updateTable("AudioRecord")
    .set({
      state: "ready",
      leaseUntil: null,
      title: record.title,
      headBytes: record.headBytes,
      sizeBytes: record.sizeBytes,
      bitrateKbps: record.bitrateKbps,
      sampleRateHz: record.sampleRateHz,
      channels: record.channels,
      sourceSamples: record.sourceSamples,
      sourceCodec: record.sourceCodec,
      sourceBitsPerSample: record.sourceBitsPerSample,
      sourceSampleRateHz: record.sourceSampleRateHz,
      sourceChannels: record.sourceChannels,
      sourceBytes: record.sourceBytes,
      sourceSha256: record.sourceSha256,
      sourceLeftOutBytes: record.sourceLeftOutBytes,
      tags: sql`${record.tags}`,
      warnings: sql`${record.warnings}`,
      integratedLufs: record.integratedLufs,
      samplePeakDbfs: record.samplePeakDbfs,
      waveform: record.waveform,
      titleKey: record.titleKey,
      searchText: record.searchText,
      madeBy: record.madeBy,
    })
    .where("id", "=", record.id)
    .where("state", "=", "receiving")
    .where((eb) =>
      eb.or([
        sql<boolean>`${record.madeBy}::uuid is null`,
        eb.exists(eb.selectFrom("AccessToken").select("AccessToken.id").where("AccessToken.id", "=", record.madeBy!)),
      ]),
    )
    .returning([
      "id",
      "ownerId",
      "state",
      "visibility",
      "title",
      "fileName",
      "createdAt",
      "headBytes",
      "chunkBytes",
      "sizeBytes",
      "bitrateKbps",
      "sampleRateHz",
      "channels",
      "sourceSamples",
      "sourceCodec",
      "sourceBitsPerSample",
      "sourceSampleRateHz",
      "sourceChannels",
      "sourceBytes",
      "sourceLeftOutBytes",
      "sourceSha256",
      "tags",
      "warnings",
      "integratedLufs",
      "samplePeakDbfs",
    ]),
);

/**
 * Writes the head and makes the recording ready, in one statement.
 * @throws {ServiceError} CONFLICT if the recording or its owner was deleted meanwhile; UNAUTHENTICATED if the token was
 * revoked
 */
export async function finishRecord(
  em: SqlEntityManager,
  id: string,
  owner: Caller,
  { title, fileName, head, frameBytes, facts: { source, mp3, sound, warnings } }: FinishedRecord,
): Promise<AudioRecord> {
  const finishing = finish(em, {
    id,
    head,
    title,
    headBytes: head.length,
    sizeBytes: head.length + frameBytes,
    bitrateKbps: mp3.bitrateKbps,
    sampleRateHz: mp3.sampleRateHz,
    channels: mp3.channels,
    sourceSamples: source.samples,
    sourceCodec: source.format.codec,
    sourceBitsPerSample: source.format.bitsPerSample,
    sourceSampleRateHz: source.format.sampleRateHz,
    sourceChannels: source.format.channels,
    sourceBytes: source.bytes,
    sourceSha256: source.sha256,
    sourceLeftOutBytes: source.leftOutBytes,
    tags: JSON.stringify(source.tags.list),
    warnings: JSON.stringify(warnings),
    integratedLufs: sound.integratedLufs,
    samplePeakDbfs: sound.samplePeakDbfs,
    waveform: encodeWaveform(sound.waveform),
    titleKey: titleKeyOf(title),
    searchText: searchTextOf({ title, fileName, tags: source.tags.list }),
    madeBy: owner.tokenId,
  });
  const [row] = await finishing.catch((error: unknown) => {
    throw isParentMissing(error) ? removedMeanwhile() : error;
  });
  if (!row) throw (await isRevoked(em, owner)) ? tokenRevoked() : removedMeanwhile();
  em.merge(User, { id: owner.id, name: owner.name, createdAt: owner.createdAt });
  const { ownerId, ...record } = row;
  return em.merge(AudioRecord, { ...record, owner: ownerId });
}

async function isRevoked(em: SqlEntityManager, { tokenId }: Caller): Promise<boolean> {
  return tokenId !== null && (await em.count(AccessToken, { id: tokenId })) === 0;
}

/**
 * Deletes a recording that did not become ready, with its chunks.
 * @returns whether there was one
 */
export async function discardRecord(em: SqlEntityManager, id: string): Promise<boolean> {
  return (await em.nativeDelete(AudioRecord, { id, state: "receiving" })) !== 0;
}
