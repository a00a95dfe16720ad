import { randomBytes } from "node:crypto";
import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Kysely } from "kysely";
import { validate as isUuid } from "uuid";
import { queryBuilder, statement } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import { requireFutureExpiry } from "../input/expiry.ts";
import { rowBytes, takeAllowance, type Charge } from "../limits/write-allowance.ts";
import { checkedText } from "../input/plain-text.ts";
import { mp3FileName } from "../record/file-name.ts";
import { noSuchRecord } from "../record/find-record.ts";
import { parseRecordId } from "../record/record-url.ts";
import type { LinkTables, ShareLink } from "./share-link.entity.ts";

/** A link of its own to one recording. */
export interface SharedLink {
  readonly id: string;
  /** What stands in the link. */
  readonly secret: string;
  readonly note: string | null;
  readonly createdAt: Date;
  /** Null: it works until it is revoked. */
  readonly expiresAt: Date | null;
  readonly downloads: number;
  /** The name under which the recording is saved. */
  readonly mp3FileName: string;
}

/** What a client says of a new link. */
export interface LinkRequest {
  readonly recordId: string;
  readonly expiresAt: Date | undefined;
  readonly note: string | undefined;
}

/** Links of one recording, at most: `record.links` is a list without pages. */
export const maxLinksPerRecord = 100;
/** Characters of a note, at most. */
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

/** Makes no row where there are {@link maxLinksPerRecord} already. */
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
 * Makes a link to the owner's recording; its secret has 192 random bits.
 * @throws {ServiceError} NOT_FOUND for a record that is absent or somebody else's; BAD_USER_INPUT for a time that has
 * passed, a note that is too long or has characters that no line may have, or more than {@link maxLinksPerRecord}
 */
export async function createShareLink(
  em: SqlEntityManager,
  ownerId: number,
  request: LinkRequest,
  charge: Charge,
): Promise<SharedLink> {
  const { expiresAt } = request;
  requireFutureExpiry(expiresAt);
  const note = request.note?.trim() ? checkedText(request.note, "note", maxNoteLength) : null;
  const recordId = parseRecordId(request.recordId);
  if (recordId === undefined) throw noSuchRecord();
  const row = await em.transactional(async (em) => {
    // Also against removal in the middle. Only a statement that begins with the lock held counts the links before it.
    const record = await queryBuilder<LinkTables>(em)
      .selectFrom("AudioRecord")
      .select(["title", "fileName"])
      .where("id", "=", recordId)
      .where("ownerId", "=", ownerId)
      .where("state", "=", "ready")
      .forNoKeyUpdate()
      .executeTakeFirst();
    if (!record) throw noSuchRecord();
    const secret = randomBytes(24).toString("base64url");
    const [link] = await insertLink(em, { recordId, secret, note, expiresAt: expiresAt ?? null });
    if (link) await takeAllowance(em, charge, rowBytes.link);
    return link && { ...link, ...record };
  });
  if (!row) {
    const message = `A recording can have at most ${maxLinksPerRecord} share links. Revoke one first.`;
    throw new ServiceError("BAD_USER_INPUT", message, { maxLinks: maxLinksPerRecord });
  }
  return toSharedLink(row);
}

/**
 * Removes a link, after which it is as if it had never been.
 * @returns the id of the recording that it led to
 * @throws {ServiceError} NOT_FOUND for a link that is absent or to somebody else's recording
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

/** The links of recordings, the newest first, by the recording's id. */
export async function findShareLinks(
  em: SqlEntityManager,
  recordIds: readonly string[],
): Promise<ReadonlyMap<string, readonly SharedLink[]>> {
  const rows = await queryBuilder<LinkTables>(em)
    .selectFrom("ShareLink")
    .innerJoin("AudioRecord", "AudioRecord.id", "ShareLink.recordId")
    .select([...linkColumns, "AudioRecord.title", "AudioRecord.fileName"])
    .where("ShareLink.recordId", "in", recordIds)
    .orderBy("ShareLink.createdAt", "desc")
    .orderBy("ShareLink.id")
    .execute();
  const byRecord = Map.groupBy(rows, ({ recordId }) => recordId);
  return new Map([...byRecord].map(([recordId, links]) => [recordId, links.map(toSharedLink)]));
}

const addDownload = statement((db: Kysely<LinkTables>, { id }: { id: string }) =>
  db
    .updateTable("ShareLink")
    .set((eb) => ({ downloads: eb("downloads", "+", 1) }))
    .where("id", "=", id),
);

/** Adds one to a link's downloads. */
export async function countDownload(em: SqlEntityManager, linkId: string): Promise<void> {
  await addDownload(em, { id: linkId });
}

type StoredLink = Pick<ShareLink, "id" | "secret" | "createdAt" | "downloads"> & {
  readonly note: string | null;
  readonly expiresAt: Date | null;
  readonly title: string;
  readonly fileName: string;
};

function toSharedLink({ id, secret, note, createdAt, expiresAt, downloads, ...names }: StoredLink): SharedLink {
  return { id, secret, note, createdAt, expiresAt, downloads, mp3FileName: mp3FileName(names.title, names.fileName) };
}
