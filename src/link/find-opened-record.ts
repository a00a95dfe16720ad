import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type ExpressionBuilder, type Kysely } from "kysely";
import { statement } from "../database/query-builder.ts";
import type { AudioRecord } from "../record/record.entity.ts";
import type { LinkTables } from "./share-link.entity.ts";

/** What an answer to a link needs to know of the recording. */
export type OpenedRecord = Pick<
  AudioRecord,
  | "id"
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
>;

const rowColumns = [
  "AudioRecord.id",
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
    .select([...rowColumns, "ShareLink.id as linkId"])
    .select((eb) => eb.fn.coalesce(eb("ShareLink.expiresAt", "<=", sql<Date>`now()`), eb.lit(false)).as("isExpired"))
    .where("ShareLink.secret", "=", secret)
    .where("state", "=", "ready")
    .where(ownerIsEnabled),
);

/** The recording of a plain link, whoever may open it. */
export async function findByAddress(
  em: SqlEntityManager,
  address: { readonly recordId: string; readonly userId: number },
): Promise<(OpenedRecord & Pick<AudioRecord, "visibility"> & { readonly madeBy: string | null }) | undefined> {
  return (await byAddress(em, address))[0];
}

/** The recording that a link of its own leads to, also when it has expired. */
export async function findBySecret(
  em: SqlEntityManager,
  secret: string,
): Promise<(OpenedRecord & { readonly linkId: string; readonly isExpired: boolean }) | undefined> {
  const [row] = await bySecret(em, { secret });
  return row && { ...row, isExpired: Boolean(row.isExpired) };
}
