import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { Caller } from "../caller/caller.ts";
import { ServiceError } from "../errors/errors.ts";
import { mayRead } from "../record/find-record.ts";
import { noSuchRecord } from "../record/record-refusals.ts";
import type { RecordAddress } from "../record/record-url.ts";
import { findByAddress, findByPlayLink, findBySecret, type OpenedRecord } from "./find-opened-record.ts";
import { noToken, readPlayLink } from "./play-link.ts";

/** A recording that a link has opened. */
export interface OpenedLink {
  readonly row: OpenedRecord;
  /** Whether anyone may open the link. */
  readonly isPublic: boolean;
  /** Set for a share link, whose downloads are counted. */
  readonly linkId?: string;
  /** When a share link expires; null if never. */
  readonly expiresAt?: Date | null;
}

/**
 * Opens a plain link.
 * @param findCaller finds the caller, if there is one; it is asked only for a private recording
 * @throws {ServiceError} NOT_FOUND, also for a private recording that does not open to the caller
 */
export async function openPlainLink(
  em: SqlEntityManager,
  address: RecordAddress,
  findCaller: () => Promise<Caller | undefined>,
): Promise<OpenedLink> {
  const row = await findByAddress(em, address);
  if (row?.visibility === "PUBLIC") return { row, isPublic: true };
  const caller = row && (await callerIfAny(findCaller));
  if (!row || caller?.id !== address.userId || !mayRead(caller, row.madeBy)) throw noSuchRecord();
  return { row, isPublic: false };
}

/** The caller. A token that does not count is treated like a missing one. */
async function callerIfAny(findCaller: () => Promise<Caller | undefined>): Promise<Caller | undefined> {
  try {
    return await findCaller();
  } catch (error) {
    if (isRefusedCaller(error)) return undefined;
    throw error;
  }
}

/**
 * Opens a share link.
 * @throws {ServiceError} NOT_FOUND for a link that does not exist or was revoked, GONE for one that has expired
 */
export async function openShareLink(
  em: SqlEntityManager,
  secret: string | undefined,
): Promise<OpenedLink & { readonly linkId: string }> {
  const row = secret === undefined ? undefined : await findBySecret(em, secret);
  if (!row) throw noSuchRecord();
  if (row.isExpired) throw linkExpired();
  return { row, isPublic: false, linkId: row.linkId, expiresAt: row.linkExpiresAt };
}

/**
 * Opens a play link. It is revoked with the token that asked for it.
 * @throws {ServiceError} NOT_FOUND for a link that was not signed by the service, or was revoked, or whose recording
 * was deleted; GONE for one that has expired
 */
export async function openPlayLink(em: SqlEntityManager, given: string): Promise<OpenedLink> {
  const link = readPlayLink(given);
  const row = link && (await findByPlayLink(em, link.terms));
  if (!link || !row?.playKey || !link.isSignedWith(row.playKey)) throw noSuchRecord();
  if (link.terms.expiresAt <= Date.now() / 1000) throw linkExpired();
  if (!row.tokenIsValid && link.terms.tokenId !== noToken) throw noSuchRecord();
  return { row, isPublic: false };
}

function linkExpired(): ServiceError {
  return new ServiceError("GONE", "This link has expired.");
}

/**
 * Whether an error only says that the caller has no token that counts, or one of an identity provider whose subject
 * cannot become a user now.
 */
function isRefusedCaller(error: unknown): boolean {
  const codes: readonly string[] = [
    "UNAUTHENTICATED",
    "USER_DISABLED",
    "FORBIDDEN",
    "REGISTRATION_CLOSED",
    "RATE_LIMITED",
  ];
  return error instanceof ServiceError && codes.includes(error.code);
}
