import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { setTimeout as delay } from "node:timers/promises";
import { v4 as uuidv4 } from "uuid";
import { addressKeys } from "../addresses/address-key.ts";
import type { EncoderPool } from "../audio/encoder/encoder-pool.ts";
import { counted, ServiceError, shuttingDown, tryAgainLater } from "../errors/errors.ts";
import { chargeOf, type WriteAllowances } from "../limits/write-allowance.ts";
import { Tally } from "../queue/tally.ts";
import type { Config } from "../settings/config.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { userDeleted } from "../user/authenticate-user.ts";
import type { OwnerTurns } from "./owner-turns.ts";
import { findQuotaStates, quotaExceeded, roomLeft, type QuotaState } from "./quota.ts";
import { deadlineAfter } from "./upload-deadline.ts";
import { isFinal, Paused, ResumedConversion } from "./resumed-conversion.ts";
import type { UploadFailure } from "./resumable-upload.entity.ts";
import {
  askForUpload,
  bytesOfOthers,
  changeHeld,
  claimUpload,
  failHeld,
  findUploadBySecret,
  forgetExpiredUploads,
  isLost,
  keepUploads,
  noSuchUpload,
  releaseUpload,
  requireOwner,
  takenOver,
  type HeldUpload,
  type ShownUpload,
} from "./resumable-uploads.ts";
import { SmallPortions } from "./small-portions.ts";
import type { StorageRoom } from "./storage-room.ts";
import type { UploadSlots } from "./upload-slots.ts";

/** How long a request waits for another one to let go of the upload, and how often it looks. */
const letGoSeconds = 12;
const lookEveryMs = 100;

/** How many requests may wait for one upload: each of them asks the database again and again. */
const maxWaiting = 8;

/** Interval of the signs of life for uploads that this process holds. */
const aliveEveryMs = 1000;

const forgetEveryMs = 60_000;

/** How often in a row the encoder may fail at one place before the upload fails for good. */
const maxFailedTries = 5;

/** Bytes of a request, and what the request states about them. */
export interface Portion {
  /** Position in the file of the first byte. */
  readonly offsetBytes: number;
  /** Size of the whole file, if the request states it. */
  readonly lengthBytes: number | undefined;
  /** The bytes. When the client is lost, it ends with an error. */
  readonly bytes: AsyncGenerator<Buffer, void, undefined>;
  /** Number of bytes that the request states; 0 if nothing has to be claimed and stored, undefined if it states none. */
  readonly statedBytes: number | undefined;
  readonly clientAddress: string;
  readonly logger: Pick<Logger, "info" | "warn">;
}

/** How much of a file has arrived. */
export interface Progress extends Pick<ShownUpload, "offsetBytes" | "lengthBytes" | "expiresAt"> {
  readonly isReady: boolean;
}

/** What {@link ResumableUploader} needs. */
export interface ResumableUploaderDependencies {
  readonly em: SqlEntityManager;
  readonly encoders: EncoderPool;
  readonly slots: UploadSlots;
  readonly room: StorageRoom;
  readonly allowances: WriteAllowances;
  readonly ownerTurns: OwnerTurns;
  readonly logger: Logger;
  readonly metrics?: Metrics | undefined;
  readonly config: Config;
}

/** An upload that this process holds. */
interface Holding {
  readonly upload: HeldUpload;
  readonly conversion: ResumedConversion;
  /** Ends the request as if its bytes had ended, so that another one can go on. */
  readonly letGo: AbortController;
  expiresAt: Date;
  /** Resolves when the conversion has ended and what has become of it is noted. */
  noted: Promise<void>;
}

/** Receives portions of uploads. Whatever was acknowledged survives the end of the process. */
export class ResumableUploader implements AsyncDisposable {
  readonly #dependencies: ResumableUploaderDependencies;
  /** The name of this process among the holders of uploads. */
  readonly #holder = uuidv4();
  readonly #held = new Map<string, Holding>();
  readonly #smallPortions: SmallPortions;
  /** Requests that wait for an upload, by its id. */
  readonly #waiting = new Tally<string>();
  readonly #alive: NodeJS.Timeout;
  readonly #forget: NodeJS.Timeout;
  readonly #stopping = new AbortController();
  #forgetting: Promise<void>;
  #draining = false;

  constructor(dependencies: ResumableUploaderDependencies) {
    this.#dependencies = dependencies;
    this.#smallPortions = new SmallPortions(dependencies.config);
    // One at a time: while the database does not answer, statements must not pile up.
    let showing: Promise<void> | undefined;
    this.#alive = setInterval(() => {
      showing ??= this.#showAlive().finally(() => (showing = undefined));
    }, aliveEveryMs).unref();
    this.#forgetting = this.#forgetExpired();
    this.#forget = setInterval(() => {
      this.#forgetting = this.#forgetting.then(async () => await this.#forgetExpired());
    }, forgetEveryMs).unref();
  }

  /** Number of uploads that this process holds. */
  get underWay(): number {
    return this.#held.size;
  }

  /**
   * The state of an upload when no request sends bytes of it any more: a request that does is ended.
   * @throws {ServiceError} NOT_FOUND, GONE if it has failed, LOCKED
   */
  async settled(upload: ShownUpload): Promise<ShownUpload> {
    const em = this.#dependencies.em.fork();
    return await this.#whenFree(em, upload, (upload) => {
      const isSettled = !upload.isHeld || this.#held.get(upload.id)?.conversion.isIdle === true;
      return isSettled ? upload : undefined;
    });
  }

  /**
   * Takes a portion of a file, up to its last byte, or to the last one that arrives.
   * @throws {ServiceError} CONFLICT with `offset` if the portion begins elsewhere; RATE_LIMITED; what an upload can fail with
   */
  async append(upload: ShownUpload, portion: Portion): Promise<Progress> {
    if (portion.statedBytes === 0) {
      const { lengthBytes, offsetBytes, expiresAt } = await this.settled(upload);
      if (portion.offsetBytes !== offsetBytes) throw wrongOffset(offsetBytes);
      const statesLength = portion.lengthBytes !== undefined && portion.lengthBytes !== lengthBytes;
      // Of a file that has arrived, an empty portion may be all that is missing.
      if (!statesLength && offsetBytes !== lengthBytes) return { offsetBytes, lengthBytes, expiresAt, isReady: false };
    }
    await using counted = await this.#smallPortions.admit(upload, portion);
    const arriving = { ...portion, bytes: counted.bytes };
    const em = this.#dependencies.em.fork();
    const { taking } = await this.#whenFree(em, upload, async (shown) => {
      if (this.#draining) throw shuttingDown();
      if (shown.recordState === "ready") throw wrongOffset(shown.offsetBytes);
      if (isLost(shown)) throw noSuchUpload();
      const held = this.#held.get(shown.id);
      if (held?.conversion.isIdle) {
        await requireOwner(em, held.upload);
        await this.#dependencies.room.require();
        // Another request may have come first.
        return held.conversion.isIdle ? { taking: this.#take(held, arriving) } : undefined;
      }
      const claimed = shown.isHeld ? undefined : await claimUpload(em, shown.secret, this.#holder);
      return claimed && { taking: this.#begin(em, claimed, arriving) };
    });
    return await taking;
  }

  /** Lets go of all uploads. Their clients go on elsewhere, or later. */
  async drain(): Promise<void> {
    this.#draining = true;
    const held = [...this.#held.values()];
    for (const { letGo } of held) letGo.abort(new Paused(shuttingDown()));
    await Promise.all(held.map(async ({ noted }) => await noted));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#alive);
    clearInterval(this.#forget);
    this.#stopping.abort();
    await Promise.all([this.drain(), this.#forgetting]);
  }

  /**
   * Looks at an upload until `take` returns something, and asks whoever holds it to let go.
   * @throws {ServiceError} LOCKED if that does not happen in time
   */
  async #whenFree<T>(
    em: SqlEntityManager,
    first: ShownUpload,
    take: (upload: ShownUpload) => Promise<T | undefined> | T | undefined,
  ): Promise<T> {
    const giveUpAt = performance.now() + letGoSeconds * 1000;
    const locked = () => tryAgainLater("LOCKED", "Another request is sending bytes of this upload", 5);
    if (this.#waiting.of(first.id) >= maxWaiting) throw locked();
    this.#waiting.add(first.id);
    try {
      for (let upload = first; ; upload = await findUploadBySecret(em, first.secret)) {
        if (upload.failure) throw failed(upload.failure);
        const taken = await take(upload);
        if (taken !== undefined) return taken;
        if (performance.now() >= giveUpAt) throw locked();
        this.#held.get(upload.id)?.letGo.abort(new Paused());
        await askForUpload(em, upload.id);
        await delay(lookEveryMs);
      }
    } finally {
      this.#waiting.subtract(first.id);
    }
  }

  /** Begins a conversion with a portion. */
  async #begin(em: SqlEntityManager, upload: HeldUpload, portion: Portion): Promise<Progress> {
    const { owner } = upload;
    const { config, room, allowances } = this.#dependencies;
    const letGo = new AbortController();
    const uploader = { userId: owner.id, address: addressKeys(portion.clientAddress).narrow };
    const charge = chargeOf(allowances, owner, portion.clientAddress);
    const begun = async (): Promise<Holding> => {
      requirePlace(upload, upload, portion, config.maxUploadBytes);
      await room.require();
      const quota = await requireShareOfQuota(em, upload, config.quota);
      const conversion = new ResumedConversion(em, upload, { ...this.#dependencies, quota, charge, letGo, uploader });
      const [kept] = await keepUploads(em, this.#holder, [upload], config.resumableUploadSeconds);
      if (!kept) throw takenOver();
      if (this.#draining) throw shuttingDown();
      return { upload, conversion, letGo, expiresAt: kept.expiresAt, noted: Promise.resolve() };
    };
    const held = await begun().catch(async (error: unknown) => {
      await releaseUpload(em, upload);
      throw error;
    });
    const taking = this.#take(held, portion);
    this.#held.set(upload.id, held);
    held.noted = this.#noteEnd(em, held);
    return await taking;
  }

  /** Notes how a conversion has ended, also between two requests. */
  async #noteEnd(em: SqlEntityManager, held: Holding): Promise<void> {
    const { upload, conversion } = held;
    const { room, logger, metrics } = this.#dependencies;
    const error = await conversion.ended();
    if (error === undefined) metrics?.uploadEnded("stored");
    room.noteFailure(error);
    await this.#noteFailure(em, upload, conversion, error).catch((lost: unknown) => {
      logger.warn({ err: lost, record: upload.id }, "could not note that an upload has failed");
    });
    if (this.#held.get(upload.id) === held) this.#held.delete(upload.id);
  }

  /** Gives a portion to a conversion that waits for it. The conversion begins to take it at once. */
  async #take(held: Holding, portion: Portion): Promise<Progress> {
    const { config } = this.#dependencies;
    const { upload, conversion, letGo } = held;
    requirePlace(conversion, upload, portion, config.maxUploadBytes);
    using deadline = deadlineAfter(config.uploadTimeoutSeconds);
    const stop = () => letGo.abort(deadline.signal.reason);
    deadline.signal.addEventListener("abort", stop, { once: true });
    try {
      const isReady = await conversion.take(portion.bytes, portion.lengthBytes);
      if (isReady) portion.logger.info({ record: upload.id, sourceBytes: conversion.offsetBytes }, "upload stored");
      const { offsetBytes, lengthBytes = null } = conversion;
      return { offsetBytes, lengthBytes, expiresAt: held.expiresAt, isReady };
    } catch (error) {
      await held.noted;
      throw error;
    }
  }

  /** Notes that the upload cannot go on, or that an encoder has failed. */
  async #noteFailure(
    em: SqlEntityManager,
    upload: HeldUpload,
    conversion: ResumedConversion,
    error: unknown,
  ): Promise<void> {
    const isEncoder = error instanceof ServiceError && error.code === "CONVERSION_FAILED";
    const failedTries = isEncoder ? (conversion.hasGotFurther ? 1 : upload.failedTries + 1) : 0;
    if (error instanceof ServiceError && (isFinal.has(error.code) || failedTries >= maxFailedTries)) {
      const { code, message } = error;
      await failHeld(em, upload, { code, message });
      this.#dependencies.metrics?.uploadEnded(code);
    } else if (isEncoder) await changeHeld(em, upload, { failedTries });
  }

  async #showAlive(): Promise<void> {
    const uploads = [...this.#held.values()].map(({ upload }) => upload);
    if (uploads.length === 0) return;
    const { em, config, logger } = this.#dependencies;
    try {
      for (const kept of await keepUploads(em.fork(), this.#holder, uploads, config.resumableUploadSeconds)) {
        const held = this.#held.get(kept.id);
        if (!held) continue;
        held.expiresAt = kept.expiresAt;
        if (kept.isAsked) held.letGo.abort(new Paused());
      }
    } catch (error) {
      logger.warn({ err: error }, "could not say that uploads are alive; will try again");
    }
  }

  async #forgetExpired(): Promise<void> {
    try {
      await forgetExpiredUploads(this.#dependencies.em.fork(), this.#stopping.signal);
    } catch (error) {
      this.#dependencies.logger.warn({ err: error }, "could not delete expired uploads; will try again later");
    }
  }
}

/**
 * The quota of an upload's user.
 * @throws {ServiceError} QUOTA_EXCEEDED if the user's other open uploads have taken all; this one can go on without them
 */
async function requireShareOfQuota(
  em: SqlEntityManager,
  upload: HeldUpload,
  defaults: Config["quota"],
): Promise<QuotaState> {
  const [quota] = await findQuotaStates(em, [upload.owner.id], defaults);
  if (!quota) throw userDeleted();
  const room = roomLeft(quota);
  if (room.bytes === Infinity) return quota;
  const others = await bytesOfOthers(em, upload);
  if (room.bytes <= others) throw quotaExceeded("bytes", { ...quota, usedBytes: quota.usedBytes + others });
  return quota;
}

function wrongOffset(offset: number): ServiceError {
  return new ServiceError("CONFLICT", `The upload goes on at byte ${offset}. Send the file from there.`, { offset });
}

function failed({ code, message }: UploadFailure): ServiceError {
  return new ServiceError("GONE", code === "GONE" ? message : `The upload has failed: ${message} Start a new one.`);
}

/**
 * Checks that a portion goes on where the upload is, and states no other length.
 * @throws {ServiceError} CONFLICT, BAD_REQUEST, UPLOAD_TOO_LARGE or BAD_USER_INPUT
 */
function requirePlace(
  { offsetBytes, lengthBytes }: Pick<HeldUpload | ResumedConversion, "offsetBytes" | "lengthBytes">,
  upload: HeldUpload,
  portion: Portion,
  maxBytes: number,
): void {
  if (portion.offsetBytes !== offsetBytes) throw wrongOffset(offsetBytes);
  const stated = portion.lengthBytes;
  const length = lengthBytes ?? stated;
  if (length === undefined) return;
  if (stated !== undefined && stated !== length) {
    const message = `The upload was started with a length of ${counted(length, "byte")}. It cannot change.`;
    throw new ServiceError("BAD_REQUEST", message);
  }
  requireLength(length, Math.min(upload.maxBytes ?? Infinity, maxBytes));
  if (length < offsetBytes)
    throw new ServiceError("BAD_REQUEST", `${counted(offsetBytes, "byte")} have arrived already.`);
}

/** @throws {ServiceError} UPLOAD_TOO_LARGE, or BAD_USER_INPUT if it is not positive */
export function requireLength(bytes: number, maxBytes: number): void {
  if (bytes > maxBytes) {
    throw new ServiceError("UPLOAD_TOO_LARGE", `A file may have at most ${counted(maxBytes, "byte")}.`, { maxBytes });
  }
  if (!Number.isSafeInteger(bytes) || bytes < 1) {
    throw new ServiceError("BAD_USER_INPUT", "The length must be at least 1.", { argument: "sizeBytes" });
  }
}
