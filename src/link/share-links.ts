import { randomBytes } from "node:crypto";
import type { Pool } from "pg";
import { validate as isUuid } from "uuid";
import { inTransaction } from "../database/transaction.ts";
import { ServiceError } from "../errors/errors.ts";
import { requireFutureExpiry } from "../input/expiry.ts";
import { rowBytes, takeAllowance, type Charge } from "../limits/write-allowance.ts";
import { checkedText } from "../input/plain-text.ts";
import { mp3FileName } from "../record/file-name.ts";
import { noSuchRecord } from "../record/find-record.ts";
import { parseRecordId } from "../record/record-url.ts";

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

interface LinkRow {
  readonly recordId: string;
  readonly id: string;
  readonly secret: string;
  readonly note: string | null;
  /** Timestamps and a bigint come as text. */
  readonly createdAt: string;
  readonly expiresAt: string | null;
  readonly downloads: string;
}

/** What the recording's name is made of. */
interface RecordNames {
  readonly title: string;
  readonly fileName: string;
}

const columns = `share_link.record_id as "recordId", share_link.id, share_link.secret, share_link.note,
  share_link.created_at as "createdAt", share_link.expires_at as "expiresAt", share_link.downloads`;

/**
 * Makes a link to the owner's recording; its secret has 192 random bits.
 * @throws {ServiceError} NOT_FOUND for a record that is absent or somebody else's; BAD_USER_INPUT for a time that has
 * passed, a note that is too long or has characters that no line may have, or more than {@link maxLinksPerRecord}
 */
export async function createShareLink(
  pool: Pool,
  ownerId: number,
  request: LinkRequest,
  charge: Charge,
): Promise<SharedLink> {
  const { expiresAt } = request;
  requireFutureExpiry(expiresAt);
  const note = request.note?.trim() ? checkedText(request.note, "note", maxNoteLength) : null;
  const recordId = parseRecordId(request.recordId);
  const row = await inTransaction(pool, async (client) => {
    // Also against removal in the middle. Only a statement that begins with the lock held counts the links before it.
    const { rows: records } = await client.query<RecordNames>(
      "select title, file_name as \"fileName\" from audio_record where id = $1 and owner_id = $2 and state = 'ready' for no key update",
      [recordId, ownerId],
    );
    const [record] = records;
    if (!record) throw noSuchRecord();
    const { rows } = await client.query<LinkRow>(
      `insert into share_link (record_id, secret, note, expires_at)
       select $1, $2, $3, $4 where (select count(*) from share_link where record_id = $1) < $5
       returning ${columns}`,
      [recordId, randomBytes(24).toString("base64url"), note, expiresAt?.toISOString(), maxLinksPerRecord],
    );
    if (rows[0]) await takeAllowance(client, charge, rowBytes.link);
    return rows[0] && { ...rows[0], ...record };
  });
  if (!row) {
    const message = `A recording has at most ${maxLinksPerRecord} links; revoke one first.`;
    throw new ServiceError("BAD_USER_INPUT", message, { maxLinks: maxLinksPerRecord });
  }
  return toSharedLink(row);
}

/**
 * Removes a link, after which it is as if it had never been.
 * @returns the id of the recording that it led to
 * @throws {ServiceError} NOT_FOUND for a link that is absent or to somebody else's recording
 */
export async function revokeShareLink(pool: Pool, ownerId: number, linkId: string): Promise<string> {
  return await inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ recordId: string }>(
      `delete from share_link using audio_record
       where share_link.id = $1 and audio_record.id = share_link.record_id and audio_record.owner_id = $2
       returning share_link.record_id as "recordId"`,
      [isUuid(linkId) ? linkId : null, ownerId],
    );
    if (!rows[0]) throw new ServiceError("NOT_FOUND", "There is no such link.");
    return rows[0].recordId;
  });
}

/** The links of recordings, the newest first, by the recording's id. */
export async function findShareLinks(
  pool: Pool,
  recordIds: readonly string[],
): Promise<ReadonlyMap<string, readonly SharedLink[]>> {
  const { rows } = await pool.query<LinkRow & RecordNames>(
    `select ${columns}, title, file_name as "fileName"
     from share_link join audio_record on audio_record.id = share_link.record_id
     where record_id = any($1) order by share_link.created_at desc, share_link.id`,
    [recordIds],
  );
  return new Map(
    Object.entries(Object.groupBy(rows, ({ recordId }) => recordId)).map(([recordId, links]) => [
      recordId,
      links!.map(toSharedLink),
    ]),
  );
}

/** Adds one to a link's downloads. */
export async function countDownload(pool: Pool, linkId: string): Promise<void> {
  await pool.query("update share_link set downloads = downloads + 1 where id = $1", [linkId]);
}

function toSharedLink(row: LinkRow & RecordNames): SharedLink {
  const { id, secret, note, createdAt, expiresAt, downloads, title, fileName } = row;
  return {
    id,
    secret,
    note,
    createdAt: new Date(createdAt),
    expiresAt: expiresAt === null ? null : new Date(expiresAt),
    downloads: Number(downloads),
    mp3FileName: mp3FileName(title, fileName),
  };
}
