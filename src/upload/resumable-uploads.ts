import type { EntityData, SqlEntityManager } from "@mikro-orm/postgresql";
import { randomBytes } from "node:crypto";
import { sql, type Kysely } from "kysely";
import type { Quality } from "../audio/mp3/quality.ts";
import { hasScope, type Caller } from "../caller/caller.ts";
import { queryBuilder, statement } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import { takeAllowance, type Charge } from "../limits/write-allowance.ts";
import { chunkBytes, waitingForTheDisk } from "../record/mp3-chunks.ts";
import { AudioRecord, type RecordTables } from "../record/record.entity.ts";
import { tokenRevoked, userDisabled } from "../user/authenticate-user.ts";
import { mayBeTold } from "./begin-or-find.ts";
import { beginRecord, type EarlierUpload, type NewUpload, type UploadTerms } from "./begin-record.ts";
import { discardRecord } from "./finish-record.ts";
import { ResumableUpload, UploadPiece, type UploadFailure, type UploadTables } from "./resumable-upload.entity.ts";
import { UploadTicket } from "./upload-ticket.entity.ts";
import { hasTicket, noSuchTicket, ticketUsed } from "./upload-tickets.ts";

/** A holder that was not seen for so long is dead. */
const holderSeconds = 3;

/** How often the moment at which a held upload expires is moved on, at most. */
const prolongEverySeconds = 60;

/** What a client states when it starts an upload. */
export interface ResumableUploadRequest {
  readonly title: string;
  readonly quality: Quality;
  readonly sourceSha256: string | undefined;
  /** Undefined if the client does not know it yet. */
  readonly lengthBytes: number | undefined;
}

/** Secrets have so many random bytes. */
const secretBytes = 24;
const secretForm = /^[\w-]{32}$/;

/** An upload as it is shown. */
export interface ShownUpload {
  readonly id: string;
  readonly ownerId: number;
  readonly secret: string;
  /** The token that started it; null if it was started without one. */
  readonly tokenId: string | null;
  /** The ticket that started it; null if it was started without one. */
  readonly ticketId: string | null;
  readonly lengthBytes: number | null;
  readonly offsetBytes: number;
  readonly expiresAt: Date;
  readonly failure: UploadFailure | null;
  /** Whether its recording is being received or ready; null if there is none (any more). */
  readonly recordState: AudioRecord["state"] | null;
  readonly isHeld: boolean;
}

/** Whether the recording of an upload was deleted before it was ready. */
export function isLost({ recordState }: Pick<ShownUpload, "recordState">): boolean {
  return recordState === null || recordState === "dead";
}

const holderDiedBefore = sql<Date>`now() - make_interval(secs => ${sql.lit(holderSeconds)})`;

const shown = (db: Kysely<UploadTables>) =>
  db
    .selectFrom("ResumableUpload")
    .leftJoin("AudioRecord", "AudioRecord.id", "ResumableUpload.recordId")
    .select(["ResumableUpload.id", "ResumableUpload.ownerId", "ResumableUpload.secret", "ResumableUpload.tokenId"])
    .select(["ResumableUpload.lengthBytes", "ResumableUpload.offsetBytes", "ResumableUpload.expiresAt"])
    .select(["ResumableUpload.ticketId", "ResumableUpload.failure", "AudioRecord.state as recordState"])
    .select((eb) =>
      eb
        .and([eb("ResumableUpload.holder", "is not", null), eb("ResumableUpload.seenAt", ">", holderDiedBefore)])
        .as("isHeld"),
    )
    .where("ResumableUpload.expiresAt", ">", sql<Date>`now()`);

const findBySecret = statement((db: Kysely<UploadTables>, { secret }: { secret: string }) =>
  shown(db).where("ResumableUpload.secret", "=", secret),
);

const findById = statement((db: Kysely<UploadTables>, { id, ownerId }: { id: string; ownerId: number }) =>
  shown(db).where("ResumableUpload.id", "=", id).where("ResumableUpload.ownerId", "=", ownerId),
);

/** Number of a user's uploads that are listed and that can be open. */
export const maxOpenUploads = 100;

const findOpen = statement((db: Kysely<UploadTables>, { ownerId }: { ownerId: number }) =>
  shown(db)
    .where("ResumableUpload.ownerId", "=", ownerId)
    .where("AudioRecord.state", "=", "receiving")
    .orderBy("ResumableUpload.createdAt", "desc")
    .limit(sql.lit(maxOpenUploads + 1)),
);

type Row = Omit<ShownUpload, "isHeld"> & { readonly isHeld: unknown };

function toShown(row: Row): ShownUpload {
  return { ...row, isHeld: row.isHeld === true };
}

/**
 * The upload of this address.
 * @throws {ServiceError} NOT_FOUND if there is none (any more)
 */
export async function findUploadBySecret(em: SqlEntityManager, secret: string): Promise<ShownUpload> {
  if (!secretForm.test(secret)) throw noSuchUpload();
  const [row] = await findBySecret(em, { secret });
  if (!row) throw noSuchUpload();
  return toShown(row);
}

/** An upload of this user, if there is one with this id. */
export async function findOwnUpload(
  em: SqlEntityManager,
  ownerId: number,
  id: string,
): Promise<ShownUpload | undefined> {
  const [row] = await findById(em, { id, ownerId });
  return row && toShown(row);
}

/** The uploads of this user that can be resumed, newest first. */
export async function findOpenUploads(em: SqlEntityManager, ownerId: number): Promise<ShownUpload[]> {
  return (await findOpen(em, { ownerId })).map((row) => toShown(row));
}

/**
 * Starts an upload, or finds the one that was started with the same idempotency key.
 * @throws {ServiceError} what {@link beginRecord} throws; CONFLICT if the key belongs to another upload, or too many are open
 */
export async function startUpload(
  em: SqlEntityManager,
  upload: NewUpload,
  owner: Caller,
  request: ResumableUploadRequest,
  terms: UploadTerms & { readonly keptSeconds: number },
): Promise<{ readonly upload: ShownUpload; readonly created: boolean }> {
  // Found before the commit: what is read after it can fail although the upload has begun.
  const { earlier, found } = await em.transactional(async (em) => {
    const earlier = await beginOrFindKey(em, upload, terms);
    if (earlier) return { earlier, found: await findOwnUpload(em, owner.id, earlier.id) };
    const db = queryBuilder<UploadTables>(em);
    const expiresAt = expiryFor(owner.expiresAt, terms.keptSeconds);
    await db
      .insertInto("ResumableUpload")
      .values({
        id: upload.id,
        ownerId: owner.id,
        recordId: upload.id,
        secret: randomBytes(secretBytes).toString("base64url"),
        tokenId: owner.tokenId,
        ticketId: hasTicket(owner) ? owner.ticket.id : null,
        title: request.title,
        quality: request.quality,
        sourceSha256: request.sourceSha256 ?? null,
        lengthBytes: request.lengthBytes ?? null,
        expiresAt,
      })
      .execute();
    await db.updateTable("AudioRecord").set({ leaseUntil: expiresAt }).where("id", "=", upload.id).execute();
    if ((await findOpenUploads(em, owner.id)).length > maxOpenUploads) {
      const message = `You already have ${maxOpenUploads} uploads that are not complete. Cancel one, or complete it.`;
      throw new ServiceError("CONFLICT", message, { max: maxOpenUploads });
    }
    await db.selectNoFrom(waitingForTheDisk).execute();
    return { earlier, found: await findOwnUpload(em, owner.id, upload.id) };
  });
  if (!found || !mayGoOnWith(owner, found)) {
    if (hasTicket(owner)) throw ticketUsed();
    const message = "This idempotency key belongs to another upload. Use a new key for each file.";
    const isTold = !found && earlier?.state === "ready" && mayBeTold(owner, earlier);
    throw new ServiceError("CONFLICT", message, isTold ? { recordId: earlier.id } : {});
  }
  return { upload: found, created: !earlier };
}

/**
 * Begins a recording.
 * @returns the one that has the same idempotency key, if there is one; then nothing was begun
 */
async function beginOrFindKey(
  em: SqlEntityManager,
  upload: NewUpload,
  terms: UploadTerms,
): Promise<EarlierUpload | undefined> {
  for (;;) {
    const { begun, earlier } = await beginRecord(em, upload, terms);
    // Otherwise, another request was inserting the key, and has ended by now.
    if (begun || earlier) return earlier;
  }
}

/** Whether a caller may be told how to go on with an upload of its user: with UPLOAD alone, if the same token started it. */
export function mayGoOnWith(caller: Caller, { tokenId }: Pick<ShownUpload, "tokenId">): boolean {
  return hasScope(caller, "WRITE") || hasTicket(caller) || (hasScope(caller, "UPLOAD") && tokenId === caller.tokenId);
}

/** Nothing that was begun with a token outlives it. */
function expiryFor(tokenExpiresAt: Date | null, keptSeconds: number): Date {
  return new Date(Math.min(Date.now() + keptSeconds * 1000, tokenExpiresAt?.getTime() ?? Infinity));
}

/** An upload that this process holds, and what it takes to go on with it. */
export interface HeldUpload {
  readonly id: string;
  readonly epoch: number;
  readonly fileName: string;
  readonly title: string;
  readonly quality: Quality;
  readonly sourceSha256: string | null;
  readonly lengthBytes: number | null;
  readonly offsetBytes: number;
  readonly checkpointBytes: number;
  readonly state: Buffer | null;
  readonly rowCount: number;
  readonly rest: Buffer | null;
  readonly failedTries: number;
  readonly owner: Caller;
  /** The ticket whose upload it is; null if it has none. */
  readonly ticketId: string | null;
  /** Maximum size of the file, in bytes; null for that of the service. */
  readonly maxBytes: number | null;
}

const claim = statement((db: Kysely<UploadTables>, { secret, holder }: { secret: string; holder: string }) =>
  db
    .updateTable("ResumableUpload")
    .set((eb) => ({ epoch: eb("epoch", "+", 1), holder, seenAt: sql<Date>`now()`, isAsked: false }))
    .where("secret", "=", secret)
    .where("expiresAt", ">", sql<Date>`now()`)
    .where("failure", "is", null)
    .where((eb) => eb.or([eb("holder", "is", null), eb("seenAt", "<", holderDiedBefore)]))
    .where("recordId", "in", (eb) => eb.selectFrom("AudioRecord").select("id").where("state", "=", "receiving"))
    .returning(["id", "epoch", "tokenId", "ownerId", "title", "quality", "sourceSha256", "lengthBytes", "offsetBytes"])
    .returning(["checkpointBytes", "state", "rowCount", "rest", "failedTries", "ticketId"]),
);

interface OwnerQuestion {
  readonly ownerId: number;
  readonly tokenId: string | null;
  readonly ticketId: string | null;
}

const findOwner = statement((db: Kysely<UploadTables>, { ownerId, tokenId, ticketId }: OwnerQuestion) =>
  db
    .selectFrom("User")
    .leftJoin("AccessToken", (join) =>
      join
        .onRef("AccessToken.ownerId", "=", "User.id")
        .on("AccessToken.id", "=", tokenId)
        .on((eb) =>
          eb.or([eb("AccessToken.expiresAt", "is", null), eb("AccessToken.expiresAt", ">", sql<Date>`now()`)]),
        ),
    )
    .leftJoin("UploadTicket", (join) =>
      join
        .onRef("UploadTicket.ownerId", "=", "User.id")
        .on("UploadTicket.id", "=", ticketId)
        .on("UploadTicket.usedAt", "is", null)
        .on("UploadTicket.expiresAt", ">", sql<Date>`now()`),
    )
    .select(["User.id", "User.name", "User.createdAt", "AccessToken.id as tokenId", "UploadTicket.id as ticketId"])
    .select(["UploadTicket.maxBytes"])
    .select((eb) => eb.fn.coalesce("UploadTicket.expiresAt", "AccessToken.expiresAt").as("expiresAt"))
    .select((eb) => [
      eb("User.disabledAt", "is not", null).as("isDisabled"),
      eb.or([eb("User.isVouchedFor", "=", true), eb("User.quotaBytes", "is not", null)]).as("isVouchedFor"),
    ])
    .where("User.id", "=", ownerId),
);

/**
 * The user of an upload, with the token that started it, and the limit of its ticket.
 * @throws {ServiceError} UNAUTHENTICATED if the token or the ticket was revoked or has expired, USER_DISABLED
 */
async function ownerOf(em: SqlEntityManager, question: OwnerQuestion): Promise<Pick<HeldUpload, "owner" | "maxBytes">> {
  const [row] = await findOwner(em, question);
  if (!row || row.tokenId !== question.tokenId) throw tokenRevoked();
  if (row.ticketId !== question.ticketId) throw noSuchTicket();
  const { isDisabled, isVouchedFor, maxBytes, ticketId: _, ...user } = row;
  if (isDisabled) throw userDisabled();
  return { owner: { ...user, isVouchedFor: Boolean(isVouchedFor), scopes: ["UPLOAD"], playKey: null }, maxBytes };
}

/**
 * Checks that the token and the ticket that started an upload are still valid, and its user allowed.
 * @throws {ServiceError} UNAUTHENTICATED or USER_DISABLED
 */
export async function requireOwner(em: SqlEntityManager, { owner, ticketId }: HeldUpload): Promise<void> {
  await ownerOf(em, { ownerId: owner.id, tokenId: owner.tokenId, ticketId });
}

/**
 * Checks the same for an upload whose recording is ready. Its ticket is used, but not revoked.
 * @throws {ServiceError} UNAUTHENTICATED or USER_DISABLED
 */
export async function requireOwnerOfReady(
  em: SqlEntityManager,
  { ownerId, tokenId, ticketId }: ShownUpload,
): Promise<void> {
  await ownerOf(em, { ownerId, tokenId, ticketId: null });
  if (ticketId !== null && (await em.count(UploadTicket, { id: ticketId })) === 0) throw noSuchTicket();
}

/**
 * Makes this process the only one that can go on with an upload.
 * @returns undefined if another one holds it, or it cannot go on
 * @throws {ServiceError} UNAUTHENTICATED, USER_DISABLED, or NOT_FOUND if it is cancelled meanwhile
 */
export async function claimUpload(
  em: SqlEntityManager,
  secret: string,
  holder: string,
): Promise<HeldUpload | undefined> {
  const [row] = await claim(em, { secret, holder });
  if (!row) return undefined;
  const { ownerId, tokenId, state, rest, ...upload } = row;
  try {
    const { owner, maxBytes } = await ownerOf(em, { ownerId, tokenId, ticketId: upload.ticketId });
    const record = await em.findOne(AudioRecord, { id: upload.id }, { fields: ["fileName"] });
    // It was cancelled meanwhile.
    if (!record) throw noSuchUpload();
    const [kept, restOfMp3] = [state && Buffer.from(state), rest && Buffer.from(rest)];
    return { ...upload, state: kept, rest: restOfMp3, fileName: record.fileName, owner, maxBytes };
  } catch (error) {
    await releaseUpload(em, upload);
    throw error;
  }
}

/** An upload, and the epoch in which it is held. */
export type Hold = Pick<HeldUpload, "id" | "epoch">;

/** Lets another process go on. */
export async function releaseUpload(em: SqlEntityManager, { id, epoch }: Hold): Promise<void> {
  await em.nativeUpdate(ResumableUpload, { id, epoch }, { holder: null });
}

/** Asks the process that holds an upload to let go. */
export async function askForUpload(em: SqlEntityManager, id: string): Promise<void> {
  await em.nativeUpdate(ResumableUpload, { id, holder: { $ne: null } }, { isAsked: true });
}

/**
 * Says that these uploads are held by a process that is alive. So they do not expire, nor do their records, however long a request
 * takes.
 * @returns those that are still held, whether they are asked for, and when they expire
 */
export async function keepUploads(
  em: SqlEntityManager,
  holder: string,
  uploads: readonly HeldUpload[],
  keptSeconds: number,
): Promise<Pick<ResumableUpload, "id" | "isAsked" | "expiresAt">[]> {
  const ids = uploads.map(({ id }) => id);
  const latest = uploads.map(({ owner }) => owner.expiresAt?.toISOString() ?? "infinity");
  return await queryBuilder<UploadTables>(em)
    .with("kept", (db) =>
      db
        .updateTable("ResumableUpload")
        .from(
          sql<{ heldId: string; latest: Date }>`unnest(${ids}::uuid[], ${latest}::timestamptz[])`.as<"held">(
            sql`held(held_id, latest)`,
          ),
        )
        // Seldom, because the column has an index.
        .set((eb) => ({
          seenAt: sql<Date>`now()`,
          expiresAt: eb
            .case()
            .when("expiresAt", "<", sql<Date>`now() + make_interval(secs => ${keptSeconds - prolongEverySeconds})`)
            .then(eb.fn<Date>("least", [sql`now() + make_interval(secs => ${keptSeconds})`, "held.latest"]))
            .else(eb.ref("expiresAt"))
            .end(),
        }))
        .whereRef("ResumableUpload.id", "=", "held.heldId")
        .where("holder", "=", holder)
        .returning(["id", "isAsked", "expiresAt"]),
    )
    .with("prolonged", (db) =>
      db
        .updateTable("AudioRecord")
        .from("kept")
        .set((eb) => ({ leaseUntil: eb.ref("kept.expiresAt") }))
        .whereRef("AudioRecord.id", "=", "kept.id")
        // Who completes or deletes a record may hold its row and wait for that of the upload.
        .where("AudioRecord.id", "in", (eb) =>
          eb
            .selectFrom("AudioRecord as record")
            .innerJoin("kept", "kept.id", "record.id")
            .select("record.id")
            .where("record.state", "=", "receiving")
            .whereRef("record.leaseUntil", "<", "kept.expiresAt")
            .forNoKeyUpdate("record")
            .skipLocked(),
        ),
    )
    .selectFrom("kept")
    .select(["id", "isAsked", "expiresAt"])
    .execute();
}

/** The error for a request whose upload another one has taken over. */
export function takenOver(): ServiceError {
  return new ServiceError("CONFLICT", "Another request goes on with this upload. Ask for its offset with HEAD.");
}

/**
 * Changes an upload if this process still holds it.
 * @throws {ServiceError} CONFLICT if another one does, or if the upload was cancelled
 */
export async function changeHeld(
  em: SqlEntityManager,
  hold: Hold,
  change: EntityData<ResumableUpload>,
  also: (em: SqlEntityManager) => Promise<void> = async () => {},
): Promise<void> {
  await em.transactional(async (em) => {
    await changeHeldIn(em, hold, change);
    await also(em);
  });
}

/**
 * Notes that an upload has failed for good, and deletes what has arrived.
 * @throws {ServiceError} as {@link changeHeld} does
 */
export async function failHeld(em: SqlEntityManager, hold: Hold, failure: UploadFailure): Promise<void> {
  await em.transactional(async (em) => {
    await lockRecording(em, hold.id);
    await changeHeldIn(em, hold, { failure, holder: null, state: null, rest: null });
    await deletePieces(em, hold.id);
    await discardRecord(em, hold.id);
  });
}

/** Like {@link changeHeld}, in a transaction that has begun. `change` is not empty. */
export async function changeHeldIn(
  em: SqlEntityManager,
  { id, epoch }: Hold,
  change: EntityData<ResumableUpload>,
): Promise<void> {
  if ((await em.nativeUpdate(ResumableUpload, { id, epoch }, change)) === 0) throw takenOver();
}

/** Stores whole rows of the MP3, from this position on, in the transaction of {@link changeHeld}. */
export async function storeRows(
  em: SqlEntityManager,
  recordId: string,
  first: number,
  rows: readonly Buffer[],
  charge: Charge,
): Promise<void> {
  const db = queryBuilder<RecordTables>(em);
  for (const [at, bytes] of rows.entries()) {
    await takeAllowance(em, charge, bytes.length);
    await db
      .insertInto("Mp3Chunk")
      .values({ recordId, position: first + at, bytes })
      // A row that was stored behind the last checkpoint is made once more.
      .onConflict((conflict) =>
        conflict.columns(["recordId", "position"]).doUpdateSet((eb) => ({ bytes: eb.ref("excluded.bytes") })),
      )
      .execute();
  }
}

/**
 * Stores a piece of the file, in the transaction of {@link changeHeld}.
 * @param inPlaceOf the end of the piece before it, whose bytes it begins with
 */
export async function storePiece(
  em: SqlEntityManager,
  uploadId: string,
  piece: { readonly endBytes: number; readonly bytes: Buffer },
  inPlaceOf?: number,
): Promise<void> {
  if (inPlaceOf !== undefined) await em.nativeDelete(UploadPiece, { upload: uploadId, endBytes: inPlaceOf });
  await queryBuilder<UploadTables>(em)
    .insertInto("UploadPiece")
    .values({ uploadId, ...piece })
    // It ended here before: then its bytes are the same.
    .onConflict((conflict) => conflict.columns(["uploadId", "endBytes"]).doNothing())
    .execute();
}

/** Deletes the pieces that end before this position, in the transaction of {@link changeHeld}. */
export async function deletePieces(em: SqlEntityManager, uploadId: string, upToBytes = Infinity): Promise<void> {
  const deletion = queryBuilder<UploadTables>(em).deleteFrom("UploadPiece").where("uploadId", "=", uploadId);
  await (upToBytes === Infinity ? deletion : deletion.where("endBytes", "<=", upToBytes)).execute();
}

/** Yields the bytes of the stored pieces behind the checkpoint of an upload, one piece in memory at a time. */
export async function* readPieces(
  em: SqlEntityManager,
  { id: uploadId, checkpointBytes, offsetBytes }: HeldUpload,
): AsyncGenerator<Buffer, void, undefined> {
  for (let at = checkpointBytes; at < offsetBytes;) {
    const row = await queryBuilder<UploadTables>(em)
      .selectFrom("UploadPiece")
      .select(["endBytes", "bytes"])
      .where("uploadId", "=", uploadId)
      .where("endBytes", ">", at)
      .orderBy("endBytes")
      .limit(1)
      .executeTakeFirst();
    const bytes = Buffer.from(row?.bytes ?? []);
    const start = (row?.endBytes ?? Infinity) - bytes.length;
    if (!row || start > at) throw new Error(`Bytes from ${at} on of the upload ${uploadId} are not stored.`);
    yield bytes.subarray(at - start, Math.min(bytes.length, offsetBytes - start));
    at = row.endBytes;
  }
}

/** Bytes that the other open uploads of the same user have stored. They count against the quota, or many would evade it. */
export async function bytesOfOthers(em: SqlEntityManager, { id, owner }: HeldUpload): Promise<number> {
  const { bytes } = await queryBuilder<UploadTables>(em)
    .selectFrom("ResumableUpload")
    .innerJoin("AudioRecord", "AudioRecord.id", "ResumableUpload.recordId")
    .where("ResumableUpload.ownerId", "=", owner.id)
    .where("ResumableUpload.id", "!=", id)
    .where("AudioRecord.state", "=", "receiving")
    .select((eb) => {
      const bytesOf = (column: "rest" | "state") =>
        eb.fn.coalesce(eb.fn<number>("octet_length", [`ResumableUpload.${column}`]), sql.lit(0));
      const checkpoint = eb(bytesOf("rest"), "+", bytesOf("state"));
      const rows = eb("ResumableUpload.rowCount", "*", chunkBytes);
      const pieces = eb("ResumableUpload.offsetBytes", "-", eb.ref("ResumableUpload.checkpointBytes"));
      const sum = eb.fn.sum(eb(eb(rows, "+", checkpoint), "+", pieces));
      return eb.cast<number>(eb.fn.coalesce(sum, sql.lit(0)), "bigint").as("bytes");
    })
    .executeTakeFirstOrThrow();
  return bytes;
}

/** Number of uploads that one statement deletes, with the pieces of each. */
const uploadsAtOnce = 20;

/**
 * Deletes the rows of uploads that have expired and that no live process holds, in parts, until `stopping` is aborted. Their
 * recordings that are not ready expire with them. Replicas that do so at the same time do not wait for each other.
 */
export async function forgetExpiredUploads(em: SqlEntityManager, stopping: AbortSignal): Promise<void> {
  for (let more = true; more && !stopping.aborted;) {
    const { numDeletedRows } = await queryBuilder<UploadTables>(em)
      .deleteFrom("ResumableUpload")
      .where("id", "in", (eb) =>
        eb
          .selectFrom("ResumableUpload")
          .select("id")
          .where("expiresAt", "<", sql<Date>`now()`)
          .where((eb) => eb.or([eb("holder", "is", null), eb("seenAt", "<", holderDiedBefore)]))
          .limit(uploadsAtOnce)
          .forUpdate()
          .skipLocked(),
      )
      .executeTakeFirst();
    more = numDeletedRows === BigInt(uploadsAtOnce);
  }
}

/**
 * Locks the recording of an upload. A transaction that changes both does so before it changes the upload, like the one that
 * completes them: otherwise each could wait for the other. Rows of the MP3 can still be stored.
 */
async function lockRecording(em: SqlEntityManager, id: string): Promise<void> {
  await queryBuilder<UploadTables>(em)
    .selectFrom("AudioRecord")
    .select("id")
    .where("id", "=", id)
    .forNoKeyUpdate()
    .execute();
}

/**
 * Cancels an upload of this user and deletes what has arrived. What still arrives is refused.
 * @throws {ServiceError} NOT_FOUND; CONFLICT if its recording is ready
 */
export async function cancelUpload(em: SqlEntityManager, ownerId: number, id: string): Promise<void> {
  const upload = await findOwnUpload(em, ownerId, id);
  if (!upload) throw noSuchUpload();
  await em.transactional(async (em) => {
    await lockRecording(em, id);
    await em.nativeDelete(ResumableUpload, { id, owner: ownerId });
    const deleted = await em.nativeDelete(AudioRecord, { id, owner: ownerId, state: "receiving" });
    if (deleted === 0 && (await em.count(AudioRecord, { id })) > 0) {
      throw new ServiceError("CONFLICT", "The recording is ready. Delete it with deleteRecord.", { recordId: id });
    }
  });
}

/** The error for an upload that does not exist, has expired, or belongs to another user. */
export function noSuchUpload(): ServiceError {
  return new ServiceError("NOT_FOUND", "Upload not found. It may have expired or been cancelled; start a new one.");
}
