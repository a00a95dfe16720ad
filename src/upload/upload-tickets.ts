import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { sql, type Kysely } from "kysely";
import { v4 as uuidv4, validate as isUuid } from "uuid";
import type { Quality } from "../audio/mp3/quality.ts";
import { hasScope, type Caller } from "../caller/caller.ts";
import { hashToken } from "../caller/token.ts";
import { queryBuilder, statement } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import { requireFutureExpiry } from "../input/expiry.ts";
import { rowBytes, takeAllowance, type Charge } from "../limits/write-allowance.ts";
import { checkedTitle } from "../record/record-title.ts";
import type { Visibility } from "../settings/visibility.ts";
import { lockCaller } from "../user/access-tokens.ts";
import { standing, userDisabled } from "../user/authenticate-user.ts";
import { UploadTicket, type TicketTables } from "./upload-ticket.entity.ts";

/** Maximum number of a user's tickets that can still be used. */
export const maxTickets = 1000;

const hourMs = 3_600_000;
const defaultLifeMs = 24 * hourMs;
const maxLifeMs = 31 * 24 * hourMs;
/** How long a used ticket still answers a retry after it has expired, in hours. */
const answerableHours = 24;

/** What a ticket sets for its upload; undefined if the upload may choose. */
export interface TicketTerms {
  readonly title: string | undefined;
  readonly quality: Quality | undefined;
  readonly visibility: Visibility | undefined;
  /** Maximum size of the file; undefined for that of the service. */
  readonly maxBytes: number | undefined;
}

/** The properties of a new ticket. */
export interface TicketRequest extends TicketTerms {
  /** Undefined: in 24 hours, or earlier with the caller's token. */
  readonly expiresAt: Date | undefined;
}

/** A ticket, without its secret. */
export interface OpenTicket {
  readonly id: string;
  readonly terms: TicketTerms;
}

/** Somebody with a ticket: as far as it allows, they are its owner. */
export interface TicketHolder extends Caller {
  readonly ticket: OpenTicket;
}

/** Whether a caller has a ticket instead of a token. */
export function hasTicket(caller: Caller): caller is TicketHolder {
  return "ticket" in caller;
}

/**
 * Creates a ticket for one upload into the caller's library. It does not expire later than the caller's token, and is
 * revoked with it.
 * @throws {ServiceError} BAD_USER_INPUT, RATE_LIMITED, CONFLICT if {@link maxTickets} can still be used, or
 * UNAUTHENTICATED if the caller's token was revoked meanwhile
 */
export async function createUploadTicket(
  em: SqlEntityManager,
  caller: Caller,
  request: TicketRequest,
  charge: Charge,
): Promise<{ readonly id: string; readonly secret: string; readonly expiresAt: Date }> {
  const title = request.title === undefined ? null : checkedTitle(request.title);
  const expiresAt = expiryOf(request.expiresAt, caller);
  const { quality = null, visibility = null, maxBytes = null } = request;
  if (maxBytes !== null && maxBytes < 1) {
    throw new ServiceError("BAD_USER_INPUT", "maxBytes must be at least 1.", { argument: "maxBytes" });
  }
  const secret = uuidv4();
  const id = uuidv4();
  await em.transactional(async (em) => {
    await lockCaller(em, caller);
    const db = queryBuilder<TicketTables>(em);
    await db
      .deleteFrom("UploadTicket")
      .where("ownerId", "=", caller.id)
      .where("expiresAt", "<", sql<Date>`now() - make_interval(hours => ${answerableHours})`)
      .execute();
    const { usable } = await db
      .selectFrom("UploadTicket")
      .select((eb) => eb.fn.countAll<number>().as("usable"))
      .where("ownerId", "=", caller.id)
      .where("usedAt", "is", null)
      .where("expiresAt", ">", sql<Date>`now()`)
      .executeTakeFirstOrThrow();
    if (usable >= maxTickets) {
      const message = `You already have ${maxTickets} tickets that can be used. Revoke one, or wait until one expires.`;
      throw new ServiceError("CONFLICT", message, { max: maxTickets });
    }
    const terms = { title, quality, visibility, maxBytes };
    const ticket = { id, ownerId: caller.id, makerId: caller.tokenId, sha256: hashToken(secret), expiresAt, ...terms };
    await db.insertInto("UploadTicket").values(ticket).execute();
    await takeAllowance(em, charge, rowBytes.token);
  });
  return { id, secret, expiresAt };
}

function expiryOf(given: Date | undefined, caller: Caller): Date {
  const now = Date.now();
  const latest = Math.min(now + maxLifeMs, caller.expiresAt?.getTime() ?? Infinity);
  if (given === undefined) return new Date(Math.min(now + defaultLifeMs, latest));
  requireFutureExpiry(given);
  if (given.getTime() <= latest) return given;
  const message = "A ticket must expire within 31 days, and not later than the token that creates it.";
  throw new ServiceError("BAD_USER_INPUT", message, { argument: "expiresAt", max: new Date(latest).toISOString() });
}

const findUsable = statement((db: Kysely<TicketTables>, { ownerIds }: { ownerIds: readonly number[] }) =>
  db
    .selectFrom("UploadTicket")
    .select(["id", "ownerId", "makerId as tokenId", "createdAt", "expiresAt"])
    .select(["title", "quality", "visibility", "maxBytes"])
    .where((eb) => eb("ownerId", "=", eb.fn.any(eb.val(ownerIds))))
    .where("usedAt", "is", null)
    .where("expiresAt", ">", sql<Date>`now()`)
    .orderBy("createdAt", "desc")
    .orderBy("id"),
);

/** A ticket as its owner sees it. */
export interface TicketDescription {
  readonly id: string;
  /** The token that created it; null for one of an identity provider. */
  readonly tokenId: string | null;
  readonly createdAt: Date;
  readonly expiresAt: Date;
  readonly title: string | null;
  readonly quality: Quality | null;
  readonly visibility: Visibility | null;
  readonly maxBytes: number | null;
}

/** The tickets of users that can still be used, newest first, by user id. */
export async function findUploadTickets(
  em: SqlEntityManager,
  ownerIds: readonly number[],
): Promise<ReadonlyMap<number, readonly TicketDescription[]>> {
  return Map.groupBy(await findUsable(em, { ownerIds }), ({ ownerId }) => ownerId);
}

/**
 * Revokes a ticket of the caller. An upload that is running with it fails when it ends. A token that has no more than
 * UPLOAD revokes only the tickets that it created.
 * @throws {ServiceError} NOT_FOUND
 */
export async function revokeUploadTicket(em: SqlEntityManager, caller: Caller, id: string): Promise<void> {
  const own = hasScope(caller, "WRITE") ? {} : { maker: caller.tokenId };
  // In a transaction, whose outcome is asked for if the answer to its commit is lost.
  const deleteTicket = async (em: SqlEntityManager) =>
    await em.nativeDelete(UploadTicket, { id, owner: caller.id, ...own });
  const deleted = isUuid(id) ? await em.transactional(deleteTicket) : 0;
  if (deleted === 0) throw new ServiceError("NOT_FOUND", "Upload ticket not found.");
}

const findBySecret = statement((db: Kysely<TicketTables>, { sha256 }: { sha256: Uint8Array }) =>
  db
    .selectFrom("UploadTicket")
    .innerJoin("User", "User.id", "UploadTicket.ownerId")
    .select(["User.id", "User.name", "User.createdAt"])
    .select((eb) => [
      ...standing(),
      eb
        .and([
          eb("UploadTicket.usedAt", "is not", null),
          eb.not(
            eb.exists(
              eb
                .selectFrom("AudioRecord")
                .select("AudioRecord.id")
                .whereRef("AudioRecord.ownerId", "=", "UploadTicket.ownerId")
                .whereRef("AudioRecord.idempotencyKey", "=", "UploadTicket.id"),
            ),
          ),
        ])
        .as("isSpent"),
    ])
    .select(["UploadTicket.id as ticketId", "UploadTicket.makerId", "UploadTicket.expiresAt", "UploadTicket.title"])
    .select(["UploadTicket.quality", "UploadTicket.visibility", "UploadTicket.maxBytes"])
    .where("UploadTicket.sha256", "=", sha256)
    .where(
      "UploadTicket.expiresAt",
      ">",
      sql<Date>`now() - case when ${sql.ref("UploadTicket.usedAt")} is null then interval '0'
        else make_interval(hours => ${sql.lit(answerableHours)}) end`,
    ),
);

/**
 * Finds a ticket, and whose upload it allows. A used ticket is found while its recording exists, to answer a retry.
 * @throws {ServiceError} UNAUTHENTICATED if it is unknown, revoked or expired; CONFLICT if it was used for a recording
 * that was deleted; USER_DISABLED
 */
export async function openTicket(em: SqlEntityManager, secret: string): Promise<TicketHolder> {
  const [row] = await findBySecret(em, { sha256: hashToken(secret) });
  if (!row) {
    throw noSuchTicket();
  }
  if (row.isDisabled) throw userDisabled();
  if (row.isSpent) throw ticketUsed();
  const { id, name, createdAt, isVouchedFor, makerId, expiresAt } = row;
  const terms = {
    title: row.title ?? undefined,
    quality: row.quality ?? undefined,
    visibility: row.visibility ?? undefined,
    maxBytes: row.maxBytes ?? undefined,
  };
  return {
    id,
    name,
    createdAt,
    isVouchedFor,
    // It does what its maker could do, as far as UPLOAD goes.
    tokenId: makerId,
    scopes: ["UPLOAD"],
    expiresAt,
    playKey: null,
    ticket: { id: row.ticketId, terms },
  };
}

/** What an upload gives that a ticket may have decided; null or undefined for what it leaves open. */
interface GivenWithTicket {
  readonly title: string | null | undefined;
  readonly quality: Quality | null | undefined;
  readonly visibility: Visibility | null | undefined;
  readonly idempotencyKey: string | null | undefined;
}

/**
 * The options of an upload with a ticket.
 * @throws {ServiceError} BAD_USER_INPUT if the upload gives what the ticket decides
 */
export function withTicket<Given extends GivenWithTicket>(
  given: Given,
  ticket: OpenTicket,
): Given & { readonly ticket: OpenTicket } {
  const { title, quality, visibility } = ticket.terms;
  const decided = { title, quality, visibility, idempotencyKey: ticket.id };
  for (const argument of ["title", "quality", "visibility", "idempotencyKey"] as const) {
    if (given[argument] == null || decided[argument] === undefined) continue;
    const message = `The ticket decides ${argument}. Omit the argument.`;
    throw new ServiceError("BAD_USER_INPUT", message, { argument });
  }
  return {
    ...given,
    title: title ?? given.title,
    quality: quality ?? given.quality,
    visibility: visibility ?? given.visibility,
    idempotencyKey: ticket.id,
    ticket,
  };
}

/**
 * Marks a ticket as used, in the transaction that makes the recording ready.
 * @throws {ServiceError} CONFLICT if it was used or revoked meanwhile
 */
export async function consumeTicket(em: SqlEntityManager, id: string): Promise<void> {
  const used = await em.nativeUpdate(UploadTicket, { id, usedAt: null }, { usedAt: new Date() });
  if (used === 0) throw ticketUsed();
}

/** The error for a secret that no ticket has. */
export function noSuchTicket(): ServiceError {
  const message = "The upload ticket is unknown, revoked or expired. Ask for a new one.";
  return new ServiceError("UNAUTHENTICATED", message, { argument: "ticket" });
}

/** The error for a ticket that does not allow an upload any more. */
export function ticketUsed(): ServiceError {
  return new ServiceError("CONFLICT", "The upload ticket has been used or revoked. Ask for a new one.", {
    argument: "ticket",
  });
}
