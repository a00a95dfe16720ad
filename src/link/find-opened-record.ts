import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type ExpressionBuilder, type Kysely } from "kysely";
import { queryBuilder, statement } from "../database/query-builder.ts";
import type { AudioRecord } from "../record/record.entity.ts";
import type { RecordAddress } from "../record/record-url.ts";
import type { LinkTables } from "./share-link.entity.ts";

/** What an answer to a link needs to know of the recording. */
export type OpenedRecord = Pick<
  AudioRecord,
  | "id"
  | "store"
  | "headBytes"
  | "chunkBytes"
  | "sizeBytes"
  | "createdAt"
  | "title"
  | "fileName"
  | "bitrateKbps"
  | "sampleRateHz"
  | "channels"
  | "gainSteps"
  | "integratedLufs"
  | "samplePeakDbfs"
  | "truePeakDbtp"
  | "sourceSamples"
  | "sourceSampleRateHz"
>;

const rowColumns = [
  "AudioRecord.id",
  "AudioRecord.store",
  "AudioRecord.headBytes",
  "AudioRecord.chunkBytes",
  "AudioRecord.sizeBytes",
  "AudioRecord.createdAt",
  "AudioRecord.title",
  "AudioRecord.fileName",
  "AudioRecord.bitrateKbps",
  "AudioRecord.sampleRateHz",
  "AudioRecord.channels",
  "AudioRecord.gainSteps",
  "AudioRecord.integratedLufs",
  "AudioRecord.samplePeakDbfs",
  "AudioRecord.truePeakDbtp",
  "AudioRecord.sourceSamples",
  "AudioRecord.sourceSampleRateHz",
] as const;

/** What a disabled user has is not served, by no link. */
function ownerIsEnabled(eb: ExpressionBuilder<LinkTables, "AudioRecord">) {
  const owner = eb.selectFrom("User").whereRef("User.id", "=", "AudioRecord.ownerId");
  return eb.exists(owner.select("User.id").where("User.disabledAt", "is", null));
}

const byAddress = statement((db: Kysely<LinkTables>, { recordId, userId }: { recordId: string; userId: number }) =>
  db
    .selectFrom("AudioRecord")
    .select([...rowColumns, "visibility", "madeBy"])
    .where("id", "=", recordId)
    .where("ownerId", "=", userId)
    .where("state", "=", "ready")
    .where(ownerIsEnabled),
);

const bySecret = statement((db: Kysely<LinkTables>, { secret }: { secret: string }) =>
  db
    .selectFrom("ShareLink")
    .innerJoin("AudioRecord", "AudioRecord.id", "ShareLink.recordId")
    .select([...rowColumns, "ShareLink.id as linkId", "ShareLink.expiresAt as linkExpiresAt"])
    .select((eb) => eb.fn.coalesce(eb("ShareLink.expiresAt", "<=", sql<Date>`now()`), eb.lit(false)).as("isExpired"))
    .where("ShareLink.secret", "=", secret)
    .where("state", "=", "ready")
    .where(ownerIsEnabled),
);

const byPlayLink = statement(
  (db: Kysely<LinkTables>, { recordId, userId, tokenId }: { recordId: string; userId: number; tokenId: string }) =>
    db
      .selectFrom("AudioRecord")
      .innerJoin("User", "User.id", "AudioRecord.ownerId")
      .select([...rowColumns, "User.playKey"])
      .select((eb) =>
        eb
          .exists(
            eb
              .selectFrom("AccessToken")
              .select("AccessToken.id")
              .where("AccessToken.id", "=", tokenId)
              .whereRef("AccessToken.ownerId", "=", "AudioRecord.ownerId")
              .where((eb) =>
                eb.or([eb("AccessToken.expiresAt", "is", null), eb("AccessToken.expiresAt", ">", sql<Date>`now()`)]),
              ),
          )
          .as("tokenIsValid"),
      )
      .where("AudioRecord.id", "=", recordId)
      .where("AudioRecord.ownerId", "=", userId)
      .where("state", "=", "ready")
      .where("User.disabledAt", "is", null),
);

/** The recording of a plain link. It does not check whether the caller may open it. */
export async function findByAddress(
  em: SqlEntityManager,
  address: RecordAddress,
): Promise<(OpenedRecord & Pick<AudioRecord, "visibility"> & { readonly madeBy: string | null }) | undefined> {
  return (await byAddress(em, address))[0];
}

/** The recording that a link of its own leads to, also when it has expired. */
export async function findBySecret(
  em: SqlEntityManager,
  secret: string,
): Promise<
  | (OpenedRecord & { readonly linkId: string; readonly linkExpiresAt: Date | null; readonly isExpired: boolean })
  | undefined
> {
  const [row] = await bySecret(em, { secret });
  return row && { ...row, isExpired: Boolean(row.isExpired) };
}

/**
 * The recording of a play link, with the key that has signed it and whether the token that asked for it is still valid.
 */
export async function findByPlayLink(
  em: SqlEntityManager,
  { recordId, userId, tokenId }: RecordAddress & { readonly tokenId: string },
): Promise<(OpenedRecord & { readonly playKey: string | null; readonly tokenIsValid: boolean }) | undefined> {
  const [row] = await byPlayLink(em, { recordId, userId, tokenId });
  return row && { ...row, tokenIsValid: Boolean(row.tokenIsValid) };
}

/** The keys that sign the play links of users, by user id. */
export async function findPlayKeys(
  em: SqlEntityManager,
  userIds: readonly number[],
): Promise<ReadonlyMap<number, string>> {
  const db = queryBuilder<LinkTables>(em);
  const found = await db.selectFrom("User").select(["id", "playKey"]).where("id", "in", userIds).execute();
  const keyless = found.filter(({ playKey }) => playKey === null).map(({ id }) => id);
  const made =
    keyless.length === 0
      ? []
      : await db
          .updateTable("User")
          .set((eb) => ({ playKey: eb.fn.coalesce("playKey", sql<string>`gen_random_uuid()`) }))
          .where("id", "in", keyless)
          .returning(["id", "playKey"])
          .execute();
  return new Map([...found, ...made].flatMap(({ id, playKey }) => (playKey === null ? [] : [[id, playKey]])));
}
