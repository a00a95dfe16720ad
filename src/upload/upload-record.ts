import type { SqlEntityManager } from "@mikro-orm/postgresql";
import type { FileUpload } from "graphql-upload-minimal";
import { setImmediate } from "node:timers/promises";
import { addressKeys } from "../addresses/address-key.ts";
import type { EncoderPool } from "../audio/encoder/encoder-pool.ts";
import type { Quality } from "../audio/mp3/quality.ts";
import { encodedAhead, openConversion, type Conversion, type ConversionFacts } from "../audio/wav-to-mp3.ts";
import type { Caller } from "../caller/caller.ts";
import type { Config } from "../settings/config.ts";
import { isDatabaseUnavailable, isStorageFull } from "../errors/database-failures.ts";
import { counted, ServiceError, shuttingDown } from "../errors/errors.ts";
import { cleanText } from "../input/plain-text.ts";
import type { AddressLimiter, RateLimiter } from "../limits/rate-limiter.ts";
import { chargeOf, type WriteAllowances } from "../limits/write-allowance.ts";
import { isSmall, type RequestContext } from "../graphql/request-context.ts";
import { beginOrFind, type BeginningUpload } from "./begin-or-find.ts";
import { ClientSpeed } from "./client-speed.ts";
import { completeRecord } from "./complete-record.ts";
import { deadlineAfter } from "./upload-deadline.ts";
import { noteStored } from "./note-upload.ts";
import type { OwnerTurns } from "./owner-turns.ts";
import { openIncomingFile } from "./incoming-file.ts";
import type { Mp3Store } from "../record/mp3-store.ts";
import { quotaExceeded, roomLeft, type QuotaState } from "./quota.ts";
import type { NewUpload } from "./begin-record.ts";
import { discardRecord } from "./finish-record.ts";
import { maxTitleLength } from "../record/record-title.ts";
import type { ListedRecord } from "../record/record.entity.ts";
import { noteLostObject } from "../record/object-sweeper.ts";
import { newRecordId } from "../record/record-id.ts";
import { RemovedMeanwhile } from "../record/record-refusals.ts";
import { checkedSha256 } from "../record/source-sha256.ts";
import { suspendWhileSlow } from "./suspend-while-slow.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { StorageRoom } from "./storage-room.ts";
import type { UploadLeases } from "./upload-leases.ts";
import type { Uploader, UploadSlot, UploadSlots } from "./upload-slots.ts";
import { consumeTicket, type OpenTicket } from "./upload-tickets.ts";
import { upTo, whileRoom } from "./while-room.ts";
import type { Visibility } from "../settings/visibility.ts";
import { User } from "../user/user.entity.ts";

/** The longest sound that is encoded before its row is there, in seconds. It takes a processor about 15 ms. */
const briefSeconds = 1;

/** Most users who are remembered because their last upload was refused. */
const maxRefused = 4096;

/** Options of an upload, from the client. */
export interface UploadOptions {
  readonly title: string | undefined;
  readonly quality: Quality | undefined;
  readonly visibility: Visibility | undefined;
  /** The same user and key lead to the same recording. */
  readonly idempotencyKey: string | undefined;
  /** The expected SHA-256 of the file, in hexadecimal digits. */
  readonly sourceSha256: string | undefined;
  /** Set if the upload is made with a ticket, whose id is then the idempotency key. */
  readonly ticket?: OpenTicket;
}

/** The result of an upload. */
export interface UploadedRecord {
  readonly record: ListedRecord;
  /** False if an earlier upload with the same idempotency key had stored it. Then this file was at most compared. */
  readonly created: boolean;
}

/** A running upload. */
interface Work extends BeginningUpload {
  readonly fileName: string;
  /** Whose slot it is. */
  readonly uploader: Uploader;
  readonly options: UploadOptions;
}

/** A file that is being opened for its conversion, and the slot in which that happens. */
interface OpenFile extends Disposable {
  readonly slot: UploadSlot;
  readonly conversion: Promise<Conversion>;
}

interface UploaderDependencies {
  readonly store: Mp3Store;
  readonly encoders: EncoderPool;
  readonly slots: UploadSlots;
  readonly leases: UploadLeases;
  readonly uploadsOfUser: RateLimiter;
  readonly uploadsFromAddress: AddressLimiter;
  readonly room: StorageRoom;
  readonly allowances: WriteAllowances;
  readonly ownerTurns: OwnerTurns;
  readonly metrics?: Metrics | undefined;
  readonly config: Config;
}

/** Converts arriving WAV files to stored recordings, and keeps track of the running uploads. */
export class RecordUploader {
  readonly #dependencies: UploaderDependencies;
  readonly #running = new Set<Promise<unknown>>();
  readonly #stop = new AbortController();
  /** Users whose last upload was refused by a limit, the longest known first. */
  readonly #refused = new Set<number>();
  #draining = false;

  constructor(dependencies: UploaderDependencies) {
    this.#dependencies = dependencies;
  }

  /**
   * Checks whether one more upload may begin, and counts the attempt. To be called before the file is read, unless the request
   * is small.
   * @throws {ServiceError} SHUTTING_DOWN, BUSY, STORAGE_FULL or RATE_LIMITED
   */
  async admit(owner: Caller, clientAddress: string): Promise<void> {
    const { slots, room, uploadsOfUser, uploadsFromAddress } = this.#dependencies;
    if (this.#draining) throw shuttingDown();
    slots.refuseWhenFull(owner.id);
    await room.require();
    await uploadsOfUser.consume(String(owner.id));
    await uploadsFromAddress.consume(clientAddress);
  }

  /**
   * Converts and stores one file. If anything fails, nothing of it remains. A small request is admitted here.
   * @throws {ServiceError} if the file, the client or the load of the service does not allow it
   */
  async upload(
    owner: Caller,
    file: Promise<FileUpload>,
    options: UploadOptions,
    context: RequestContext,
  ): Promise<UploadedRecord> {
    const { metrics } = this.#dependencies;
    try {
      if (this.#draining) throw shuttingDown();
      const work = this.#upload(owner, file, options, context);
      this.#track(work);
      const uploaded = await work;
      metrics?.uploadEnded(uploaded.created ? "stored" : "again");
      return uploaded;
    } catch (error) {
      if (error instanceof NotAdmitted) throw error.cause;
      metrics?.uploadEnded(outcomeOf(error));
      throw error;
    }
  }

  #noteRefused(userId: number): void {
    this.#refused.add(userId);
    const [oldest] = this.#refused;
    if (this.#refused.size > maxRefused) this.#refused.delete(oldest!);
  }

  /** Number of uploads under way, including those that are being cleaned up. */
  get underWay(): number {
    return this.#running.size;
  }

  /** Prevents the service from stopping before the work is done. */
  #track(work: Promise<unknown>): void {
    const settled = work.then(
      () => void this.#running.delete(settled),
      () => void this.#running.delete(settled),
    );
    this.#running.add(settled);
  }

  /** Waits for running uploads, and cancels the remaining ones after the grace period. */
  async drain(graceSeconds: number): Promise<void> {
    this.#draining = true;
    const timer = setTimeout(() => this.#stop.abort(shuttingDown()), graceSeconds * 1000);
    while (this.#running.size > 0) await Promise.all(this.#running);
    clearTimeout(timer);
  }

  async #upload(
    owner: Caller,
    file: Promise<FileUpload>,
    options: UploadOptions,
    context: RequestContext,
  ): Promise<UploadedRecord> {
    const started = performance.now();
    const { config, leases, store } = this.#dependencies;
    const title = cleanText(options.title ?? "", maxTitleLength);
    const sourceSha256 = options.sourceSha256 == null ? undefined : checkedSha256(options.sourceSha256, "sourceSha256");
    using deadline = deadlineAfter(config.uploadTimeoutSeconds);
    const speed = new ClientSpeed(config);
    const signal = AbortSignal.any([context.signal, this.#stop.signal, deadline.signal, speed.signal]);
    using incoming = await openIncomingFile(file, signal);

    const upload: NewUpload = {
      id: newRecordId(),
      ownerId: owner.id,
      fileName: incoming.fileName,
      visibility: options.visibility ?? config.visibility,
      idempotencyKey: options.idempotencyKey,
      store: store.newIn,
    };
    const { requestBytes } = context;
    const checkedOptions = { ...options, title, sourceSha256 };
    const charge = chargeOf(this.#dependencies.allowances, owner, context.clientAddress);
    const work: Work = {
      upload,
      fileName: incoming.fileName,
      source: speed.watch(upToTicket(options.ticket, incoming.bytes())),
      uploader: { userId: owner.id, address: addressKeys(context.clientAddress).narrow, client: speed },
      requestBytes,
      owner,
      charge,
      options: checkedOptions,
      em: context.em,
      signal,
      inTurn: context.inTurn,
    };
    using _lease = leases.hold(upload.id);
    let hasBegun = false;
    try {
      using opened = new DisposableStack();
      let early: OpenFile | undefined;
      const admit = async () => {
        const admitted = context.admitUpload(owner); // the statement goes out first
        early = opened.use(this.#openEarly(work));
        await admitted.catch(notAdmitted);
      };
      const { record: earlier, quota } = await beginOrFind(work, config, isSmall(context) ? admit : undefined);
      if (earlier) return { record: earlier, created: false };
      hasBegun = true;
      if (early) this.#dependencies.metrics?.uploadWaited(0);
      const record = await this.#convert(work, quota, early);
      this.#refused.delete(owner.id);
      noteStored(this.#dependencies.metrics, record, speed);
      const facts = {
        record: record.id,
        sourceBytes: record.sourceBytes,
        mp3Bytes: record.sizeBytes,
        soundSeconds: record.sourceSamples / record.sourceSampleRateHz,
        ms: Math.round(performance.now() - started),
      };
      const logger = context.logger();
      void setImmediate().then(() => logger.info(facts, "upload stored")); // after the answer
      return { record, created: true };
    } catch (error) {
      if (!hasBegun || isQuotaExceeded(error)) this.#noteRefused(owner.id);
      if (error instanceof NotAdmitted) throw error;
      this.#dependencies.room.noteFailure(error);
      const discarding = this.#discard(upload, hasBegun, context);
      this.#track(discarding);
      // Other errors may be due to the database. The client does not wait for it again.
      if (error instanceof ServiceError && error.code !== "OUTCOME_UNKNOWN") await discarding;
      if (error instanceof RemovedMeanwhile && (await context.em().count(User, { id: owner.id })) > 0)
        throw partIsGone(error);
      throw error;
    }
  }

  /**
   * Opens a small file while its row is being inserted, if a slot is free. Not if it may have to be compared with that of an
   * earlier upload, and not if the user's last one was refused: refusing the next one then costs no encoder.
   */
  #openEarly(work: Work): OpenFile | undefined {
    if (work.upload.idempotencyKey !== undefined || this.#refused.has(work.owner.id)) return undefined;
    const slot = this.#dependencies.slots.tryAcquire(work.uploader);
    if (!slot) return undefined;
    const over = new AbortController();
    const signal = AbortSignal.any([work.signal, over.signal]);
    let isUnderWay = true;
    const conversion = this.#encodeEarly({ ...work, signal }, slot).finally(() => (isUnderWay = false));
    conversion.catch(() => {}); // nobody awaits it if the row cannot be inserted
    return {
      slot,
      conversion,
      [Symbol.dispose]() {
        if (isUnderWay) over.abort(uploadOver);
        slot[Symbol.dispose]();
      },
    };
  }

  /** Opens a file, and encodes it if it is brief. */
  async #encodeEarly(work: Work, slot: UploadSlot): Promise<Conversion> {
    await setImmediate(); // the statement that was just begun goes out first
    work.signal.throwIfAborted();
    const conversion = await this.#open(work, slot, this.#dependencies.config.maxDurationSeconds);
    const { wholeSeconds = Infinity } = conversion;
    return wholeSeconds > briefSeconds ? conversion : await encodedAhead(conversion, { owner: work.owner.id, slot });
  }

  async #openInTurn(work: Work, maxDurationSeconds: number): Promise<OpenFile> {
    const { slots, metrics } = this.#dependencies;
    const askedAt = performance.now();
    const slot = await slots.acquire(work.uploader, work.signal);
    metrics?.uploadWaited((performance.now() - askedAt) / 1000);
    return {
      slot,
      conversion: this.#open(work, slot, maxDurationSeconds),
      [Symbol.dispose]: () => slot[Symbol.dispose](),
    };
  }

  /** Reads the header of the file and its first sound. */
  async #open(
    { source, requestBytes, options, signal }: Work,
    slot: UploadSlot,
    maxDurationSeconds: number,
  ): Promise<Conversion> {
    const { config, encoders } = this.#dependencies;
    const quality = options.quality ?? config.quality;
    const limits = { maxDurationSeconds, maxSourceBytes: requestBytes };
    return await openConversion(suspendWhileSlow(source, slot), { encoders, quality, ...limits, signal });
  }

  /** Converts and stores a file whose row was inserted. */
  async #convert(work: Work, quota: QuotaState, early: OpenFile | undefined): Promise<ListedRecord> {
    const { id } = work.upload;
    const { fileName, owner, charge, options, signal } = work;
    const em = work.em();
    const { config, store, room: storage } = this.#dependencies;
    const room = roomLeft(quota);
    const patience = { seconds: config.databaseFailoverSeconds, signal };
    const maxDurationSeconds = Math.min(config.maxDurationSeconds, room.seconds);
    try {
      using file = early ?? (await this.#openInTurn(work, maxDurationSeconds));
      const { slot } = file;
      const conversion = await file.conversion;
      const { wholeSeconds = 0 } = conversion;
      if (wholeSeconds > maxDurationSeconds) throw quotaExceeded("seconds", quota);
      const converted = Promise.withResolvers<ConversionFacts>();
      async function* frames(): AsyncGenerator<Buffer, void, undefined> {
        converted.resolve(yield* conversion.frames({ owner: owner.id, slot, maxDurationSeconds }));
      }
      const fitting = upTo(room.bytes, frames(), () => quotaExceeded("bytes", quota));
      const arriving = { recordId: id, frames: whileRoom(storage, fitting), charge, signal };
      const written = await store.write(em, arriving);
      const facts = await converted.promise;
      const { ticket, title, sourceSha256 } = options;
      const consume = ticket && (async (em: SqlEntityManager) => await consumeTicket(em, ticket.id));
      const given = { fileName, title: title ?? "", sourceSha256, quota, consume };
      const complete = { id, owner, charge, facts, frames: written, patience, ...given };
      return await completeRecord(em, complete, this.#dependencies.ownerTurns, config.quota);
    } catch (error) {
      const isQuota = room.seconds < config.maxDurationSeconds;
      throw isQuota && error instanceof ServiceError && error.code === "UPLOAD_TOO_LONG"
        ? quotaExceeded("seconds", quota)
        : error;
    }
  }

  /** Deletes the recording of a failed upload. If the database is unavailable, it is deleted later. */
  async #discard({ id, store }: NewUpload, hasBegun: boolean, { em, logger, inTurn }: RequestContext): Promise<void> {
    const discard = async (): Promise<void> => {
      const isDiscarded = await discardRecord(em(), id);
      // The trigger has noted nothing of a row that the database has lost.
      if (!isDiscarded && hasBegun && store === "s3") await noteLostObject(em(), id);
    };
    try {
      await inTurn(discard, { evenIfGone: true });
    } catch (error) {
      logger().warn({ err: error, record: id }, "could not delete an unfinished recording; will try again later");
      this.#dependencies.leases.abandon(id);
    }
  }
}

/** Thrown in place of a refusal to admit an upload, which has then not begun. */
class NotAdmitted extends Error {}

function notAdmitted(cause: unknown): never {
  throw new NotAdmitted("The upload was not admitted.", { cause });
}

/** Why an early conversion ends that nobody needs any more. Without a reason, `abort()` would make an error each time. */
const uploadOver = new Error("The upload is over.");

/**
 * The error for an upload whose recording is gone, although its user is there: a database that stops suddenly loses what it has
 * not yet written to the disk, and a replica deletes what another one has not renewed the lease of, for example because
 * that was paused.
 */
function partIsGone(cause: RemovedMeanwhile): ServiceError {
  const message = "A part of this upload is no longer in the database. Send the file again.";
  return new ServiceError("DATABASE_UNAVAILABLE", message, { retryAfterSeconds: 5 }, { cause });
}

function isQuotaExceeded(error: unknown): boolean {
  return error instanceof ServiceError && error.code === "QUOTA_EXCEEDED";
}

/** The code with which a failed upload is answered, for metrics. */
function outcomeOf(error: unknown): string {
  if (error instanceof ServiceError) return error.code;
  if (isStorageFull(error)) return "STORAGE_FULL";
  return isDatabaseUnavailable(error) ? "DATABASE_UNAVAILABLE" : "INTERNAL_SERVER_ERROR";
}

/** The bytes of a file, up to the limit of the ticket. */
function upToTicket(
  ticket: OpenTicket | undefined,
  source: AsyncGenerator<Buffer, void, undefined>,
): AsyncGenerator<Buffer, void, undefined> {
  const maxBytes = ticket?.terms.maxBytes;
  if (maxBytes === undefined) return source;
  const failure = () =>
    new ServiceError("UPLOAD_TOO_LARGE", `The file has more than the ${counted(maxBytes, "byte")} of the ticket.`, {
      maxBytes,
    });
  return upTo(maxBytes, source, failure);
}
