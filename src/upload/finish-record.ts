import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type Kysely, type Selectable } from "kysely";
import { encodeWaveform } from "../audio/meter/waveform.ts";
import type { ConversionFacts } from "../audio/wav-to-mp3.ts";
import type { Caller } from "../caller/caller.ts";
import { throughFailover, type Patience } from "../database/failover.ts";
import { statement } from "../database/query-builder.ts";
import { confirmed } from "../database/transaction.ts";
import { isDatabaseUnavailable, isDuplicate, isParentMissing } from "../errors/database-failures.ts";
import { ServiceError } from "../errors/errors.ts";
import { findOwnRecord } from "../record/find-record.ts";
import { chunkBytes } from "../record/mp3-chunks.ts";
import { AudioRecord, type ListedRecord, type RecordTables } from "../record/record.entity.ts";
import { RemovedMeanwhile } from "../record/record-refusals.ts";
import { searchTextOf, titleKeyOf } from "../record/search-text.ts";
import type { Quota } from "../settings/config.ts";
import type { StoreName } from "../settings/store-name.ts";
import { tokenRevoked } from "../user/authenticate-user.ts";
import { AccessToken } from "../user/user.entity.ts";
import { quotaExceeded, quotaQuestion, verdict, verdictColumns, type QuotaQuestion } from "./quota.ts";

/** The data that complete a recording. */
export interface FinishedRecord {
  readonly title: string;
  readonly fileName: string;
  /** The bytes before the frames. */
  readonly head: Buffer;
  /** Where the frames are. In S3, the head is already there, too. */
  readonly store: StoreName;
  /** Size of the frames, in bytes. */
  readonly frameBytes: number;
  /** The frames, if they are not stored yet. Then they are one row. */
  readonly unstored?: Buffer | undefined;
  readonly facts: ConversionFacts;
}

/**
 * Makes the recording ready if it fits into the user's quota, and repeats that while the database is away. Even if many uploads of the user end at once, ready
 * recordings never exceed the quota.
 * @param defaults the quota of users without their own
 * @param consume what else has to be done with it, such as marking a ticket as used; then it is a transaction
 * @throws {ServiceError} as {@link finishRecord} does
 */
export async function finishUpload(
  em: SqlEntityManager,
  id: string,
  owner: Caller,
  finished: FinishedRecord,
  defaults: Quota,
  patience: Patience,
  consume?: (em: SqlEntityManager) => Promise<void>,
): Promise<ListedRecord> {
  const finish = async (): Promise<ListedRecord> =>
    consume
      ? await em.transactional(async (em) => {
          const record = await finishRecord(em, id, owner, finished, defaults);
          await consume(em);
          return record;
        })
      : await finishRecord(em, id, owner, finished, defaults);
  const find = async (): Promise<ListedRecord | null> => await findOwnRecord(em, owner.id, id);
  const finishOnce = async (): Promise<ListedRecord> => await repeated(finish, find, patience);
  if (consume) return await finishOnce();
  return await confirmed(
    finishOnce,
    // A recording that is not ready by now will not become ready.
    async () => ((await discardRecord(em, id)) ? undefined : ((await find()) ?? undefined)),
  );
}

/**
 * Repeats a change while the database is away. An earlier attempt whose answer was lost may have made it, or make it
 * meanwhile.
 * @param find returns the result of such an attempt
 * @throws {ServiceError} OUTCOME_UNKNOWN if that cannot be found out
 */
async function repeated<T>(change: () => Promise<T>, find: () => Promise<T | null>, patience: Patience): Promise<T> {
  let isRepeated = false;
  let unknown: ServiceError | undefined;
  const attempt = async (): Promise<T> => {
    const earlier = isRepeated ? await find() : null;
    if (earlier) return earlier;
    try {
      return await change();
    } catch (error) {
      const isMade = isDuplicate(error) || (error instanceof ServiceError && error.code === "CONFLICT");
      const found = isRepeated && isMade ? await find() : null;
      if (found) return found;
      isRepeated = true;
      if (!(error instanceof ServiceError) || error.code !== "OUTCOME_UNKNOWN") throw error;
      unknown = error;
      throw error.cause;
    }
  };
  return await throughFailover(attempt, patience).catch((error: unknown) => {
    throw unknown && isDatabaseUnavailable(error) ? unknown : error;
  });
}

/** The values of the statement {@link finish}. */
interface Finish
  extends
    QuotaQuestion,
    Pick<
      AudioRecord,
      | "id"
      | "title"
      | "headBytes"
      | "sizeBytes"
      | "bitrateKbps"
      | "sampleRateHz"
      | "channels"
      | "gainSteps"
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
  /** Null if the head is not stored as a row. */
  readonly head: Uint8Array | null;
  /** The first row of the frames; null if it is stored already, or there is none. */
  readonly frames: Uint8Array | null;
  /** Number of rows of frames that are stored already. */
  readonly frameRows: number;
  readonly tags: string;
  readonly warnings: string;
  readonly integratedLufs: number | null;
  readonly samplePeakDbfs: number | null;
  readonly truePeakDbtp: number | null;
  readonly loudnessRangeLu: number | null;
  readonly waveform: Uint8Array;
  readonly waveformDetail: Uint8Array | null;
  readonly chapters: string | null;
  readonly production: string | null;
}

/** The columns of a recording that has become ready. */
const readyColumns = [
  "id",
  "ownerId",
  "madeBy",
  "state",
  "visibility",
  "title",
  "fileName",
  "createdAt",
  "store",
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
  "truePeakDbtp",
  "loudnessRangeLu",
  "gainSteps",
] as const satisfies readonly (keyof RecordTables["AudioRecord"])[];

type Ready = Pick<Selectable<RecordTables["AudioRecord"]>, (typeof readyColumns)[number]>;

/** Whether an outer join has found a recording. */
function isReady(row: { readonly [Column in keyof Ready]: Ready[Column] | null }): row is Ready {
  return row.id !== null;
}

/** The rows that are stored with the change of the recording's state. */
function rowsOf({ head, frames }: Finish) {
  type Row = { readonly position: number; readonly bytes: Uint8Array };
  return sql<Row>`(values (0, ${head}::bytea), (1, ${frames}::bytea))`.as<"row">(sql`row (position, bytes)`);
}

const finish = statement((db: Kysely<RecordTables>, record: Finish) =>
  db
    .with("verdict", (db) => db.selectFrom(verdict(record, { locks: true })).select(verdictColumns))
    .with("rows", (db) =>
      db
        .insertInto("Mp3Chunk")
        .columns(["recordId", "position", "bytes"])
        .expression((eb) =>
          eb
            .selectFrom(["verdict", "AudioRecord", rowsOf(record)])
            .select(["AudioRecord.id as recordId", "row.position", "row.bytes"])
            .where("exceeded", "is", null)
            .where("AudioRecord.id", "=", record.id)
            .where("AudioRecord.state", "=", "receiving")
            .where("row.bytes", "is not", null),
        ),
    )
    .with("ready", (db) =>
      db
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
          truePeakDbtp: record.truePeakDbtp,
          loudnessRangeLu: record.loudnessRangeLu,
          gainSteps: record.gainSteps,
          chapters: sql`${record.chapters}`,
          production: sql`${record.production}`,
          titleKey: record.titleKey,
          searchText: record.searchText,
          madeBy: record.tokenId,
        })
        .where("id", "=", record.id)
        .where("state", "=", "receiving")
        .where((eb) => eb.exists(eb.selectFrom("verdict").select("exceeded").where("exceeded", "is", null)))
        // Commits of rows do not wait for the disk: a database that stops suddenly loses those of the last moment.
        .where(
          (eb) =>
            eb
              .selectFrom("Mp3Chunk")
              .select(sql<number>`count(*)::int`.as("rows"))
              .where("recordId", "=", record.id)
              .where("position", ">", 0),
          "=",
          record.frameRows,
        )
        .returning(readyColumns),
    )
    .with("waveform", (db) =>
      db
        .insertInto("RecordWaveform")
        .columns(["recordId", "overview", "detail"])
        .expression((eb) =>
          eb
            .selectFrom("ready")
            .select((eb) => [
              "id",
              eb.val(record.waveform).as("overview"),
              eb.cast<Uint8Array | null>(eb.val(record.waveformDetail), "bytea").as("detail"),
            ]),
        ),
    )
    .selectFrom("verdict")
    .leftJoin("ready", (join) => join.onTrue())
    .select(verdictColumns)
    .selectAll("ready"),
);

/**
 * Makes the recording ready, and writes the head if it belongs into a row, in one statement.
 * @throws {ServiceError} QUOTA_EXCEEDED; CONFLICT if the recording or its owner was deleted meanwhile; UNAUTHENTICATED
 * if the token was revoked
 */
export async function finishRecord(
  em: SqlEntityManager,
  id: string,
  owner: Caller,
  { title, fileName, head, store, frameBytes, unstored, facts: { source, mp3, sound, warnings } }: FinishedRecord,
  defaults: Quota,
): Promise<ListedRecord> {
  const addition = {
    bytes: head.length + frameBytes,
    microseconds: Math.floor((source.samples * 1e6) / source.format.sampleRateHz),
  };
  const production = source.tags.production.facts(source.format.sampleRateHz);
  const finishing = finish(em, {
    ...quotaQuestion(owner, defaults, addition),
    id,
    head: store === "postgres" ? head : null,
    frames: unstored ?? null,
    frameRows: store === "postgres" && !unstored ? Math.ceil(frameBytes / chunkBytes) : 0,
    title,
    headBytes: head.length,
    sizeBytes: addition.bytes,
    bitrateKbps: mp3.bitrateKbps,
    sampleRateHz: mp3.sampleRateHz,
    channels: mp3.channels,
    gainSteps: mp3.gainSteps,
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
    truePeakDbtp: sound.truePeakDbtp,
    loudnessRangeLu: sound.loudnessRangeLu,
    waveform: encodeWaveform(sound.waveform),
    waveformDetail: sound.detailedWaveform ? encodeWaveform(sound.detailedWaveform) : null,
    chapters: source.chapters.length > 0 ? JSON.stringify(source.chapters) : null,
    production: production ? JSON.stringify(production) : null,
    titleKey: titleKeyOf(title),
    searchText: searchTextOf({ title, fileName, tags: source.tags.list }),
  });
  const [row] = await finishing.catch((error: unknown) => {
    throw isParentMissing(error) ? new RemovedMeanwhile() : error;
  });
  if (!row) throw (await isRevoked(em, owner)) ? tokenRevoked() : new RemovedMeanwhile();
  const { exceeded, maxBytes, maxSeconds, maxRecords, usedBytes, usedMicroseconds, usedRecords, ...ready } = row;
  if (exceeded) {
    throw quotaExceeded(exceeded, { maxBytes, maxSeconds, maxRecords, usedBytes, usedMicroseconds, usedRecords });
  }
  if (!isReady(ready)) throw new RemovedMeanwhile();
  const { ownerId: _same, ...record } = ready;
  return { ...record, owner: { id: owner.id, name: owner.name, createdAt: owner.createdAt } };
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
