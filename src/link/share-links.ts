import { randomBytes } from "node:crypto";
import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Kysely } from "kysely";
import { validate as isUuid } from "uuid";
import { queryBuilder, statement } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import { requireFutureExpiry } from "../input/expiry.ts";
import { rowBytes, takeAllowance, type Charge } from "../limits/write-allowance.ts";
import { checkedText } from "../input/plain-text.ts";
import { noSuchRecord } from "../record/record-refusals.ts";
import type { RecordNames } from "../record/file-name.ts";
import { parseRecordId } from "../record/parse-link.ts";
import type { LinkTables, ShareLink } from "./share-link.entity.ts";

/** A share link of a recording. */
export interface SharedLink {
  readonly id: string;
  /** The secret in the link. */
  readonly secret: string;
  readonly note: string | null;
  readonly createdAt: Date;
  /** Null if the link works until it is revoked. */
  readonly expiresAt: Date | null;
  readonly downloads: number;
}

/** The properties of a new share link. */
interface LinkRequest {
  readonly recordId: string;
  readonly expiresAt: Date | undefined;
  readonly note: string | undefined;
}

/** Maximum number of share links of a recording: `record.links` is a list without pages. */
export const maxLinksPerRecord = 100;
/** Maximum length of a note, in characters. */
export const maxNoteLength = 200;

const linkColumns = [
  "ShareLink.recordId",
  "ShareLink.id",
  "ShareLink.secret",
  "ShareLink.note",
  "ShareLink.createdAt",
  "ShareLink.expiresAt",
  "ShareLink.downloads",
] as const;

interface NewLink {
  readonly recordId: string;
  readonly secret: string;
  readonly note: string | null;
  readonly expiresAt: Date | null;
}

/** Inserts no row if the recording already has {@link maxLinksPerRecord}. */
const insertLink = statement((db: Kysely<LinkTables>, { recordId, secret, note, expiresAt }: NewLink) =>
  db
    .insertInto("ShareLink")
    .columns(["recordId", "secret", "note", "expiresAt"])
    .expression((eb) =>
      eb
        .selectFrom("AudioRecord")
        .select((eb) => ["id", eb.val(secret).as("secret"), eb.val(note).as("note"), eb.val(expiresAt).as("expiresAt")])
        .where("id", "=", recordId)
        .where(
          (eb) =>
            eb.selectFrom("ShareLink").select(eb.fn.countAll<number>().as("links")).where("recordId", "=", recordId),
          "<",
          maxLinksPerRecord,
        ),
    )
    .returning(linkColumns),
);

/**
 * Creates a share link to the owner's recording. Its secret has 192 random bits.
 * @throws {ServiceError} NOT_FOUND if the recording does not exist or belongs to another user; BAD_USER_INPUT if the
 * expiry time has passed, the note is too long or has characters that a line may not contain, or there would be more
 * than {@link maxLinksPerRecord} links
 */
export async function createShareLink(
  em: SqlEntityManager,
  ownerId: number,
  request: LinkRequest,
  charge: Charge,
): Promise<SharedLink & { readonly record: RecordNames & { readonly id: string } }> {
  const { expiresAt } = request;
  requireFutureExpiry(expiresAt);
  const note = request.note?.trim() ? checkedText(request.note, "note", maxNoteLength) : null;
  const recordId = parseRecordId(request.recordId);
  if (recordId === undefined) throw noSuchRecord();
  const row = await em.transactional(async (em) => {
    // The lock also prevents that the recording is deleted meanwhile. Only a statement that begins with the lock held
    // counts all earlier links.
    const record = await queryBuilder<LinkTables>(em)
      .selectFrom("AudioRecord")
      .select(["id", "title", "fileName"])
      .where("id", "=", recordId)
      .where("ownerId", "=", ownerId)
      .where("state", "=", "ready")
      .forNoKeyUpdate()
      .executeTakeFirst();
    if (!record) throw noSuchRecord();
    const secret = randomBytes(24).toString("base64url");
    const [link] = await insertLink(em, { recordId, secret, note, expiresAt: expiresAt ?? null });
    if (link) await takeAllowance(em, charge, rowBytes.link);
    return link && { ...toSharedLink(link), record };
  });
  if (!row) {
    const message = `A recording can have at most ${maxLinksPerRecord} share links. Revoke one first.`;
    throw new ServiceError("BAD_USER_INPUT", message, { maxLinks: maxLinksPerRecord });
  }
  return row;
}

/**
 * Deletes a share link with its count.
 * @returns the id of its recording
 * @throws {ServiceError} NOT_FOUND if the link does not exist or belongs to another user's recording
 */
export async function revokeShareLink(em: SqlEntityManager, ownerId: number, linkId: string): Promise<string> {
  const noSuchLink = new ServiceError("NOT_FOUND", "Share link not found.");
  if (!isUuid(linkId)) throw noSuchLink;
  return await em.transactional(async (em) => {
    const revoked = await queryBuilder<LinkTables>(em)
      .deleteFrom("ShareLink")
      .using("AudioRecord")
      .whereRef("AudioRecord.id", "=", "ShareLink.recordId")
      .where("ShareLink.id", "=", linkId)
      .where("AudioRecord.ownerId", "=", ownerId)
      .returning("ShareLink.recordId")
      .executeTakeFirst();
    if (!revoked) throw noSuchLink;
    return revoked.recordId;
  });
}

/** The share links of recordings, newest first, by recording id. */
export async function findShareLinks(
  em: SqlEntityManager,
  recordIds: readonly string[],
): Promise<ReadonlyMap<string, readonly SharedLink[]>> {
  const rows = await queryBuilder<LinkTables>(em)
    .selectFrom("ShareLink")
    .select(linkColumns)
    .where("ShareLink.recordId", "in", recordIds)
    .orderBy("ShareLink.createdAt", "desc")
    .orderBy("ShareLink.id")
    .execute();
  const byRecord = Map.groupBy(rows, ({ recordId }) => recordId);
  return new Map([...byRecord].map(([recordId, links]) => [recordId, links.map(toSharedLink)]));
}

type StoredLink = Pick<ShareLink, "id" | "secret" | "createdAt" | "downloads"> & {
  readonly note: string | null;
  readonly expiresAt: Date | null;
};

function toSharedLink({ id, secret, note, createdAt, expiresAt, downloads }: StoredLink): SharedLink {
  return { id, secret, note, createdAt, expiresAt, downloads };
}
