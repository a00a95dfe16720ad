import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { createHash } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { hasScope, type Caller } from "../caller/caller.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { ServiceError, tryAgainLater } from "../errors/errors.ts";
import type { Charge } from "../limits/write-allowance.ts";
import { findOwnRecord, mayRead } from "../record/find-record.ts";
import { AudioRecord, type ListedRecord } from "../record/record.entity.ts";
import type { Config } from "../settings/config.ts";
import type { QuotaState } from "./quota.ts";
import { ticketUsed, type OpenTicket } from "./upload-tickets.ts";
import { beginRecord, type EarlierUpload, type NewUpload } from "./begin-record.ts";

/** Maximum size of a request whose file is read to decide whether it is a retry. */
const maxComparedBytes = 16 * 1024 * 1024;

/** An upload of which no byte has been read. */
export interface BeginningUpload {
  readonly upload: NewUpload;
  /** The bytes of the file. Read them once. */
  readonly source: AsyncIterable<Buffer>;
  /** Size of the whole request; undefined if it is not stated. */
  readonly requestBytes: number | undefined;
  readonly owner: Caller;
  readonly charge: Charge;
  readonly options: {
    /** The expected SHA-256 of the file, in hexadecimal digits. */
    readonly sourceSha256: string | undefined;
    readonly ticket?: OpenTicket;
  };
  readonly em: RequestContext["em"];
  readonly signal: AbortSignal;
  /** Runs a statement beside those of others (`request-turns.ts`). */
  readonly inTurn: RequestContext["inTurn"];
}

/**
 * Inserts the row of the upload, or returns the recording of an earlier upload with the same key when it is ready.
 * @param admit is called first, in the same turn
 * @throws {ServiceError} CONFLICT if the key belongs to another file, and what {@link beginRecord} throws
 */
export async function beginOrFind(
  work: BeginningUpload,
  config: Pick<Config, "quota" | "queueTimeoutSeconds">,
  admit: () => Promise<void> = async () => {},
): Promise<{ record: ListedRecord | null; quota: QuotaState }> {
  const { upload, owner, charge, em, signal, inTurn } = work;
  const isByTicket = work.options.ticket !== undefined;
  // The key of a ticket's upload is known only with the ticket, whoever has it.
  const isTold = (earlier: EarlierUpload): boolean => isByTicket || mayBeTold(owner, earlier);
  const keyTaken = (earlier: EarlierUpload): ServiceError =>
    isByTicket ? ticketUsed() : keyOfAnotherFile(earlier, isTold(earlier));
  let isAdmitted = false;
  for (;;) {
    const terms = { quota: config.quota, charge };
    const { begun, earlier, quota } = await inTurn(async () => {
      if (!isAdmitted) await admit();
      isAdmitted = true;
      return await beginRecord(em(), upload, terms);
    });
    if (begun) return { record: null, quota };
    if (!earlier) continue;
    if (earlier.fileName !== upload.fileName) throw keyTaken(earlier);
    if (earlier.state === "receiving") {
      await waitForUpload(em(), earlier.id, config.queueTimeoutSeconds, signal);
      continue;
    }
    if (!isTold(earlier)) throw keyTaken(earlier);
    const record = await findOwnRecord(em(), upload.ownerId, earlier.id);
    if (!record) continue;
    if (!(await isSameFile(earlier, work))) throw keyTaken(earlier);
    return { record, quota };
  }
}

/** Shortest and longest interval between two checks of another upload. */
const firstLookMs = 50;
const lastLookMs = 1000;

/**
 * Waits until an upload, which may run in another replica, is ready or has failed. It polls the row, so that no
 * connection is held.
 * @throws {ServiceError} BUSY if that does not happen within `maxSeconds`
 * @throws the signal's reason if it is aborted
 */
async function waitForUpload(em: SqlEntityManager, id: string, maxSeconds: number, signal: AbortSignal): Promise<void> {
  const giveUpAt = performance.now() + maxSeconds * 1000;
  for (let waitMs = firstLookMs; performance.now() < giveUpAt; waitMs = Math.min(waitMs * 1.5, lastLookMs)) {
    await setTimeout(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    if ((await em.count(AudioRecord, { id, state: "receiving" })) === 0) return;
  }
  throw tryAgainLater("BUSY", "The first upload with this idempotency key is still running", 10);
}

/**
 * Decides whether an upload is a retry or another file: by the SHA-256 that the client sent, else by reading the file
 * if it is not large. For a large file, the name is enough, because a retry with a key should not have to send it
 * again.
 */
async function isSameFile({ sourceBytes, sha256 }: EarlierUpload, work: BeginningUpload): Promise<boolean> {
  const { sourceSha256 } = work.options;
  if (sourceSha256 !== undefined) return sourceSha256 === sha256;
  if ((work.requestBytes ?? Infinity) > maxComparedBytes) return true;
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const piece of work.source) {
    bytes += piece.length;
    if (bytes > sourceBytes) return false;
    hash.update(piece);
  }
  return hash.digest("hex") === sha256;
}

/** Whether an upload whose key exists may get the recording that has it. */
export function mayBeTold(owner: Caller, { madeBy }: EarlierUpload): boolean {
  return hasScope(owner, "WRITE") || mayRead(owner, madeBy);
}

function keyOfAnotherFile({ id, state }: EarlierUpload, isTold: boolean): ServiceError {
  const message = isTold
    ? "This idempotency key belongs to another file. Use a new key for each file, and send retries unchanged."
    : "This idempotency key was used with another token. Use a new key for each file, and retry with the same token.";
  return new ServiceError("CONFLICT", message, isTold && state === "ready" ? { recordId: id } : {});
}
