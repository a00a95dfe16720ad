import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type Kysely } from "kysely";
import { statement } from "../database/query-builder.ts";
import { isParentMissing } from "../errors/database-failures.ts";
import { allowanceUsedUp, refusalOf, rowBytes, type Charge } from "../limits/write-allowance.ts";
import { chunkBytes, notWaitingForTheDisk } from "../record/mp3-chunks.ts";
import type { AudioRecord, RecordTables } from "../record/record.entity.ts";
import type { Quota } from "../settings/config.ts";
import type { StoreName } from "../settings/store-name.ts";
import type { Visibility } from "../settings/visibility.ts";
import { userDeleted } from "../user/authenticate-user.ts";
import {
  leastAddition,
  quotaExceeded,
  quotaQuestion,
  verdict,
  verdictColumns,
  type QuotaQuestion,
  type QuotaState,
} from "./quota.ts";
import { leaseSeconds } from "./upload-leases.ts";

/** The facts about an upload before its file is read. */
export interface NewUpload {
  readonly id: string;
  readonly ownerId: number;
  readonly fileName: string;
  readonly visibility: Visibility;
  readonly idempotencyKey: string | undefined;
  readonly store: StoreName;
}

/** An earlier upload of the same user with the same idempotency key. */
export interface EarlierUpload {
  readonly id: string;
  readonly state: AudioRecord["state"];
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
  readonly store: StoreName;
  readonly chargedKeys: readonly string[];
  readonly chargedPerDay: readonly number[];
}

const begin = statement((db: Kysely<RecordTables>, upload: Beginning) =>
  db
    .with("verdict", (db) => db.selectFrom(verdict(upload, { locks: false })).select(verdictColumns))
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
          "store",
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
              eb.val(upload.store).as("store"),
            ])
            .where("refused", "is", null),
        )
        .onConflict((conflict) =>
          conflict.columns(["ownerId", "idempotencyKey"]).where("idempotencyKey", "is not", null).doNothing(),
        )
        .returning("id"),
    )
    .selectFrom("verdict")
    .leftJoin("earlier", (join) => join.onTrue())
    .leftJoin("begun", (join) => join.onTrue())
    .leftJoin("charged", (join) => join.onTrue())
    .select(verdictColumns)
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
    ...quotaQuestion({ id: ownerId, tokenId: null }, defaults, leastAddition),
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
