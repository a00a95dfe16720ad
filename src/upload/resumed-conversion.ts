import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { setTimeout as delay } from "node:timers/promises";
import type { EncoderPool } from "../audio/encoder/encoder-pool.ts";
import { UnknownStateError } from "../audio/conversion-state.ts";
import { resumableSourceHash } from "../audio/source-hash.ts";
import { openConversion, type Checkpoint, type Conversion, type ConversionFacts } from "../audio/wav-to-mp3.ts";
import { counted, ServiceError, type ErrorCode, type ErrorDetails } from "../errors/errors.ts";
import { takeAllowance, type Charge } from "../limits/write-allowance.ts";
import { framesInRows } from "../record/arriving-mp3.ts";
import { KeptBytes } from "../memory/kept-bytes.ts";
import { chunkBytes } from "../record/mp3-chunks.ts";
import { AudioRecord } from "../record/record.entity.ts";
import { RemovedMeanwhile } from "../record/record-refusals.ts";
import type { Config } from "../settings/config.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { ClientSpeed } from "./client-speed.ts";
import { noPatience } from "../database/failover.ts";
import { completeRecord } from "./complete-record.ts";
import { noteStored } from "./note-upload.ts";
import type { OwnerTurns } from "./owner-turns.ts";
import { quotaExceeded, roomLeft, type QuotaState } from "./quota.ts";
import {
  changeHeld,
  changeHeldIn,
  deletePieces,
  readPieces,
  releaseUpload,
  storePiece,
  storeRows,
  type HeldUpload,
} from "./resumable-uploads.ts";
import type { StorageRoom } from "./storage-room.ts";
import { suspendWhileSlow } from "./suspend-while-slow.ts";
import type { UploadSlots, Uploader } from "./upload-slots.ts";
import { consumeTicket } from "./upload-tickets.ts";
import { upTo, whileRoom } from "./while-room.ts";

/** Bytes of the file between two checkpoints, about. */
const checkpointEveryBytes = 1024 * 1024;

/**
 * Bytes of the file behind the last checkpoint that are kept in memory, at most. If the encoders are far behind, the file
 * waits for them; where no checkpoint is possible, the bytes are stored.
 */
const maxKeptBytes = 8 * 1024 * 1024;

/** Bytes of a request that are read ahead of the conversion, at most: while it waits for a slot, and then. */
const firstAheadBytes = 256 * 1024;
const maxAheadBytes = 2 * 1024 * 1024;

/** Bytes that the conversion gets at once, at most. */
const readAtOnceBytes = 64 * 1024;

/** Bytes behind the last checkpoint from which on a request waits for the next one before it ends, and for how long. */
const manyPiecesBytes = 4 * 1024 * 1024;

/** A stored piece with fewer bytes is joined with the next one, so that portions of single bytes leave few pieces. */
const leastPieceBytes = 4 * 1024;

/** Bytes that are stored behind the last checkpoint, at most. Only a chunk without sound can be so large. */
const maxPiecesBytes = 64 * 1024 * 1024;

/** A checkpoint is stored at the latest so long after the last one, also if its MP3 fills no row. */
const storeEveryMs = 10_000;

/** How long a conversion waits for the next request after one that ended in order. */
const idleMs = 5000;

const checkpointWaitMs = 3000;
const lookEveryMs = 20;

/** Failures that sending the rest of the file cannot change. */
export const isFinal = new Set<ErrorCode>([
  "UNSUPPORTED_MEDIA",
  "UPLOAD_INCOMPLETE",
  "UPLOAD_TOO_LONG",
  "UPLOAD_TOO_LARGE",
  "QUOTA_EXCEEDED",
  "BAD_USER_INPUT",
  "GONE",
]);

/** A request for the bytes of a portion has ended before the file. */
export class Paused extends Error {
  /** What its client is told; undefined if nothing is wrong. */
  readonly reason: ServiceError | undefined;

  constructor(reason?: ServiceError) {
    super("The upload pauses.");
    this.reason = reason;
  }
}

/** What a {@link ResumedConversion} needs. */
export interface ResumedConversionOptions {
  readonly encoders: EncoderPool;
  readonly slots: UploadSlots;
  readonly uploader: Omit<Uploader, "client">;
  readonly room: StorageRoom;
  readonly ownerTurns: OwnerTurns;
  readonly logger: Pick<Logger, "warn">;
  readonly charge: Charge;
  /** The quota of the upload's user when the conversion begins. */
  readonly quota: QuotaState;
  readonly metrics?: Metrics | undefined;
  readonly config: Config;
  /** Aborted, with {@link Paused} or an error for the client, if the upload has to pause. */
  readonly letGo: AbortController;
}

/** A piece of the file that is not stored. */
interface Piece {
  readonly endBytes: number;
  readonly bytes: Buffer;
}

/** A checkpoint whose frames have been taken, and the bytes of all frames before it. */
interface Passed {
  readonly checkpoint: Checkpoint;
  readonly frameBytes: number;
}

/**
 * Converts a file that arrives in portions: goes on from the stored checkpoint with the stored pieces behind it, then with
 * the bytes of requests. Whole rows of the MP3 are stored with the checkpoint behind them. After a portion that ended in order,
 * the conversion waits for the next one for a while. When it pauses, it stores the newest checkpoint and the pieces behind that.
 */
export class ResumedConversion {
  /** Bytes of the file that have arrived. */
  offsetBytes: number;
  readonly #em: SqlEntityManager;
  readonly #upload: HeldUpload;
  readonly #options: ResumedConversionOptions;
  readonly #speed: ClientSpeed;
  readonly #signal: AbortSignal;
  /** Size of the whole file, if it is known. */
  #lengthBytes: number | undefined;
  /** Bytes of the file that are stored, in one form or the other. */
  #storedBytes: number;
  /** Position of the checkpoint that is stored. */
  #checkpointBytes: number;
  /** The most bytes that were stored beside whole rows, and are charged. */
  #chargedBytes: number;
  /** The bytes of the stored checkpoint. */
  #checkpointRoom: number;
  /** What has arrived, of which at least the bytes behind the newest checkpoint that are not stored. */
  readonly #arrived: KeptBytes;
  /** Bytes of the file that the conversion has got. */
  #readBytes: number;
  /** The piece that was stored last, if the next one is to be joined with it. */
  #smallPiece: Piece | undefined;
  #passed: Passed | undefined;
  /** Number of whole rows that are stored, and the frames of the MP3, of which at least those behind them. */
  #rowCount: number;
  readonly #frames: KeptBytes;
  #conversion: Conversion | undefined;
  #storing: Promise<void> = Promise.resolve();
  #storedAt = performance.now();
  /** How many bytes may be there that the conversion has not got yet. */
  #maxAheadBytes = firstAheadBytes;
  /** Whether the conversion has read all that has arrived. */
  #isHungry = false;
  /** Whether no more bytes come. */
  #isAtEnd = false;
  /** Why the request ended before the file; undefined if its client is gone or has sent all of it. */
  #reason: ServiceError | undefined;
  #change = Promise.withResolvers<void>();
  #running: Promise<void> | undefined;
  #isPaused = false;
  /** Ends the conversion if no request comes. */
  #idle: NodeJS.Timeout | undefined;

  constructor(em: SqlEntityManager, upload: HeldUpload, options: ResumedConversionOptions) {
    this.#em = em;
    this.#upload = upload;
    this.#options = options;
    this.#speed = new ClientSpeed(options.config);
    this.#signal = AbortSignal.any([options.letGo.signal, this.#speed.signal]);
    this.#lengthBytes = upload.lengthBytes ?? undefined;
    this.offsetBytes = upload.offsetBytes;
    this.#storedBytes = upload.offsetBytes;
    this.#checkpointBytes = upload.checkpointBytes;
    this.#checkpointRoom = (upload.state?.length ?? 0) + (upload.rest?.length ?? 0);
    this.#chargedBytes = this.#roomUpTo(upload.offsetBytes);
    const { blocks } = options.encoders;
    this.#arrived = new KeptBytes(blocks, upload.offsetBytes);
    this.#readBytes = upload.offsetBytes;
    this.#rowCount = upload.rowCount;
    this.#frames = new KeptBytes(blocks, upload.rowCount * chunkBytes);
    if (upload.rest) this.#frames.push(upload.rest);
  }

  /** Size of the whole file, if it is known. */
  get lengthBytes(): number | undefined {
    return this.#lengthBytes;
  }

  /** Whether there is a newer checkpoint than at the beginning. */
  get hasGotFurther(): boolean {
    return this.#checkpointBytes > this.#upload.checkpointBytes;
  }

  /** Whether the conversion waits for the next request. All bytes that have arrived are stored then. */
  get isIdle(): boolean {
    return this.#idle !== undefined && !this.#signal.aborted;
  }

  /** Resolves when the conversion has ended, with the error if it failed. */
  async ended(): Promise<unknown> {
    return await this.#running?.then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  /**
   * Takes the bytes of a request. To be called when no other request is being taken.
   * @param lengthBytes size of the whole file, if it is known
   * @returns whether the file and its recording are complete
   * @throws {ServiceError} if the client, the file or the load does not allow to go on; what has arrived is stored then, too
   */
  async take(bytes: AsyncGenerator<Buffer, void, undefined>, lengthBytes: number | undefined): Promise<boolean> {
    this.#isIdleNoMore();
    this.#lengthBytes ??= lengthBytes;
    this.#running ??= this.#run();
    this.#running.catch(() => {}); // it may end between two requests
    try {
      const isInOrder = await this.#whileRunning(this.#read(this.#speed.watch(bytes)));
      if (isInOrder && this.offsetBytes !== this.#lengthBytes) {
        await this.#whileRunning(this.#store());
        this.#idle = setTimeout(() => this.#options.letGo.abort(new Paused()), idleMs).unref();
        return false;
      }
      this.#isAtEnd = true;
      this.#notify();
      await this.#running;
      return true;
    } catch (error) {
      // After a portion that could not be stored, the conversion would wait for bytes for ever.
      this.#options.letGo.abort(error);
      if (!(error instanceof Paused)) throw error;
      if (error.reason) throw error.reason;
      return false;
    } finally {
      // A conversion that never began has not closed it. It may still wait for bytes that never come.
      void bytes.return().catch(() => {});
    }
  }

  /** @throws what the conversion throws, if that happens first */
  async #whileRunning<T>(work: Promise<T>): Promise<T> {
    const never = this.#running!.then(() => new Promise<never>(() => {}));
    return await Promise.race([work, never]);
  }

  async #run(): Promise<void> {
    this.#signal.addEventListener("abort", this.#notify);
    try {
      await this.#convert();
    } catch (error) {
      this.#isIdleNoMore();
      this.#isPaused = true;
      this.#notify();
      await this.#pauseAfter(error);
      throw error;
    } finally {
      // A signal of others lives, with all that its listeners know, until it has none.
      this.#signal.removeEventListener("abort", this.#notify);
      this.#arrived.forgetBefore(Infinity);
      this.#frames.forgetBefore(Infinity);
    }
  }

  /** Stores what has arrived, unless that is of no use any more. If it cannot be stored, another request goes on from what is. */
  async #pauseAfter(why: unknown): Promise<void> {
    if (why instanceof ServiceError && (why.code === "CONFLICT" || isFinal.has(why.code))) return;
    try {
      await this.#pause();
    } catch (cause) {
      this.#options.logger.warn({ err: cause, record: this.#upload.id }, "could not store the end of a portion");
      await releaseUpload(this.#em, this.#upload).catch(() => {});
      // What has arrived is not stored, so the request cannot be answered as if it was.
      if (why instanceof Paused) throw why.reason ?? cause;
    }
  }

  #isIdleNoMore(): void {
    clearTimeout(this.#idle);
    this.#idle = undefined;
  }

  async #convert(): Promise<void> {
    const { encoders, slots, uploader, config, quota, room: storage } = this.#options;
    const upload = this.#upload;
    const { owner } = upload;
    const signal = this.#signal;
    const room = roomLeft(quota);
    const askedAt = performance.now();
    using slot = await slots.acquire({ ...uploader, client: this.#client() }, signal);
    this.#options.metrics?.uploadWaited((performance.now() - askedAt) / 1000);
    this.#maxAheadBytes = maxAheadBytes;
    this.#notify();
    const source = suspendWhileSlow(this.#source(), slot);
    try {
      this.#conversion = await openConversion(source, {
        encoders,
        quality: upload.quality,
        maxDurationSeconds: Math.min(config.maxDurationSeconds, room.seconds),
        maxSourceBytes: this.#lengthBytes,
        signal,
        checkpoints: {
          hash: await resumableSourceHash(),
          from: upload.state ?? undefined,
          everyBytes: checkpointEveryBytes,
          onCheckpoint: (checkpoint) => this.#pass(checkpoint),
        },
      });
      const conversion = this.#conversion;
      const converted = Promise.withResolvers<ConversionFacts>();
      async function* frames(): AsyncGenerator<Buffer, void, undefined> {
        converted.resolve(yield* conversion.frames({ owner: owner.id, slot }));
      }
      const fitting = upTo(room.bytes - this.#frames.end, frames(), () => quotaExceeded("bytes", quota));
      for await (const piece of whileRoom(storage, fitting)) {
        this.#frames.push(piece);
        if (this.#isCheckpointDue) await this.#inTurn(async () => await this.#storeCheckpoint());
      }
      await this.#complete(await converted.promise);
    } catch (error) {
      if (error instanceof UnknownStateError) throw begunByAnotherVersion(error);
      if (error instanceof RemovedMeanwhile && (await this.#isReceiving())) throw partIsGone(error);
      const isQuota = room.seconds < config.maxDurationSeconds;
      throw isQuota && error instanceof ServiceError && error.code === "UPLOAD_TOO_LONG"
        ? quotaExceeded("seconds", quota)
        : error;
    }
  }

  async #isReceiving(): Promise<boolean> {
    return (await this.#em.count(AudioRecord, { id: this.#upload.id, state: "receiving" })) > 0;
  }

  async #complete(facts: ConversionFacts): Promise<void> {
    const { charge, ownerTurns, quota, config, metrics } = this.#options;
    const { id, owner, ticketId, fileName, title, sourceSha256 } = this.#upload;
    const frameBytes = this.#frames.end;
    const rows = this.#rowsUpTo(frameBytes);
    const given = { fileName, title, sourceSha256: sourceSha256 ?? undefined };
    await changeHeld(this.#em, this.#upload, { failedTries: 0 }, async (em) => {
      await storeRows(em, id, this.#rowCount + 1, rows, charge);
    });
    const lengthBytes = this.offsetBytes;
    // If the answer to the commit is lost, the upload is paused: that must not change one that is complete.
    const epoch = this.#upload.epoch + 1;
    const done = { lengthBytes, offsetBytes: lengthBytes, epoch, holder: null, state: null, rest: null };
    const consume = async (em: SqlEntityManager): Promise<void> => {
      await changeHeldIn(em, this.#upload, done);
      await deletePieces(em, id);
      if (ticketId !== null) await consumeTicket(em, ticketId);
    };
    const frames = framesInRows(frameBytes);
    const complete = { id, owner, charge, facts, frames, quota, consume, patience: noPatience, ...given };
    // A fork, because this one knows the recording as it was when the upload began.
    noteStored(metrics, await completeRecord(this.#em.fork(), complete, ownerTurns, config.quota), this.#speed);
  }

  /** The client as the slots see it: one that sends nothing now may have to make room. */
  #client(): Uploader["client"] {
    const speed = this.#speed;
    const isIdle = () => this.isIdle;
    return {
      get isSlow() {
        return isIdle() || speed.isSlow;
      },
      get bytesPerSecond() {
        return isIdle() ? 0 : speed.bytesPerSecond;
      },
      end: () => speed.end(),
    };
  }

  /**
   * Reads the request, ahead of the conversion: what has been read is kept if the connection breaks, even if the
   * conversion has not come so far.
   * @returns whether the request ended in order
   */
  async #read(bytes: AsyncIterable<Buffer>): Promise<boolean> {
    try {
      for await (const piece of bytes) {
        this.#take(piece);
        this.#notify();
        while (this.#aheadBytes >= this.#maxAheadBytes && !this.#isPaused) await this.#change.promise;
      }
      return true;
    } catch (error) {
      // A client that is gone is no fault.
      this.#reason = error instanceof ServiceError ? error : undefined;
      return false;
    }
  }

  /** The file from the checkpoint on, as far as it has arrived; then the bytes of the requests. */
  async *#source(): AsyncGenerator<Buffer, void, undefined> {
    yield* readPieces(this.#em, this.#upload);
    for (;;) {
      this.#signal.throwIfAborted();
      if (this.#aheadBytes > 0) {
        const from = this.#readBytes;
        this.#readBytes += Math.min(this.#aheadBytes, readAtOnceBytes);
        const piece = this.#arrived.between(from, this.#readBytes);
        this.#forget();
        this.#notify();
        yield piece;
        await this.#relieveMemory();
      } else if (this.#isAtEnd) break;
      else await this.#waitForBytes();
    }
    if (this.#reason?.code === "UPLOAD_TOO_LARGE") throw this.#reason;
    if (this.offsetBytes === this.#lengthBytes) return;
    await this.#waitForCheckpoint();
    throw new Paused(this.#reason);
  }

  async #waitForBytes(): Promise<void> {
    this.#isHungry = true;
    this.#notify();
    await this.#change.promise;
    this.#isHungry = false;
  }

  readonly #notify = (): void => {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  };

  #take(bytes: Buffer): void {
    const { maxUploadBytes } = this.#options.config;
    const maxBytes = this.#lengthBytes ?? Math.min(this.#upload.maxBytes ?? Infinity, maxUploadBytes);
    // What arrives now would be told as stored.
    if (this.#isPaused) throw new Paused();
    this.offsetBytes += bytes.length;
    if (this.offsetBytes > maxBytes) {
      this.offsetBytes -= bytes.length;
      const details: ErrorDetails = { maxBytes };
      throw new ServiceError("UPLOAD_TOO_LARGE", `The file may have at most ${counted(maxBytes, "byte")}.`, details);
    }
    this.#arrived.push(bytes);
  }

  get #aheadBytes(): number {
    return this.#arrived.end - this.#readBytes;
  }

  /**
   * Bytes of the file that clients may be told to have arrived. They take an upload of which everything has arrived for complete, so
   * the last byte is told when its recording is ready, unless it was stored before the length was known.
   */
  get #tellableBytes(): number {
    const isWhole = this.offsetBytes === this.#lengthBytes;
    return isWhole ? Math.max(this.#storedBytes, this.offsetBytes - 1) : this.offsetBytes;
  }

  /** Forgets the bytes that nothing needs any more. */
  #forget(): void {
    const { checkpoint } = this.#passed ?? {};
    this.#arrived.forgetBefore(Math.min(this.#readBytes, Math.max(this.#storedBytes, checkpoint?.sourceBytes ?? 0)));
  }

  /** Whether the newest checkpoint should be stored: with each row of the MP3, and from time to time. */
  get #isCheckpointDue(): boolean {
    if (!this.#passed) return false;
    const unstoredBytes = this.#passed.frameBytes - this.#rowCount * chunkBytes;
    return unstoredBytes >= chunkBytes || performance.now() - this.#storedAt >= storeEveryMs;
  }

  /** Bytes behind the newest checkpoint. */
  get #behindBytes(): number {
    return this.offsetBytes - (this.#passed?.checkpoint.sourceBytes ?? this.#checkpointBytes);
  }

  async #relieveMemory(): Promise<void> {
    const keptBytes = () => this.offsetBytes - Math.max(this.#storedBytes, this.offsetBytes - this.#behindBytes);
    if (keptBytes() < maxKeptBytes) return;
    const giveUpAt = performance.now() + checkpointWaitMs;
    while (keptBytes() >= maxKeptBytes && this.#mayPass(giveUpAt)) await delay(lookEveryMs);
    if (this.#behindBytes > maxPiecesBytes) throw tooFarFromSound();
    // Of a file that has arrived, the last byte must not be told before its recording is ready.
    const isWhole = this.offsetBytes === this.#lengthBytes;
    if (keptBytes() >= maxKeptBytes && !isWhole) await this.#storeArrived();
  }

  /** So that many short requests do not collect ever more pieces. */
  async #waitForCheckpoint(): Promise<void> {
    const giveUpAt = performance.now() + checkpointWaitMs;
    while (this.#behindBytes >= manyPiecesBytes && this.#mayPass(giveUpAt)) await delay(lookEveryMs);
  }

  #mayPass(giveUpAt: number): boolean {
    const isAborted = this.#signal.aborted;
    return !isAborted && this.#conversion?.hasCheckpointsAhead === true && performance.now() < giveUpAt;
  }

  #pass(checkpoint: Checkpoint): void {
    // Behind the last byte there is nothing to go on with.
    if (checkpoint.sourceBytes === this.#lengthBytes) return;
    this.#passed = { checkpoint, frameBytes: this.#frames.end };
    this.#forget();
  }

  /** Runs one change after the other, because each builds on the last one. */
  async #inTurn(store: () => Promise<void>): Promise<void> {
    const storing = this.#storing.then(store);
    this.#storing = storing.catch(() => {});
    await storing;
  }

  /** Stores all that has arrived, so that it can be told, after the conversion had the opportunity to refuse it. */
  async #store(): Promise<void> {
    while (!this.#isHungry || this.#aheadBytes > 0) await this.#change.promise;
    await this.#waitForCheckpoint();
    await this.#storeArrived({ lengthBytes: this.#lengthBytes ?? null });
  }

  /**
   * Stores what has arrived. The bytes before the newest checkpoint are no longer in memory: unless they are stored as pieces, it
   * is stored, too.
   */
  async #storeArrived(change: object = {}): Promise<void> {
    await this.#inTurn(async () => {
      const isMissing = (this.#passed?.checkpoint.sourceBytes ?? 0) > this.#storedBytes;
      const told = { offsetBytes: this.#tellableBytes, ...change };
      await (isMissing || this.#isCheckpointDue ? this.#storeCheckpoint(told) : this.#storePieces(told));
    });
  }

  /** Stores the newest checkpoint with the rows before it; if an offset is told, also the pieces up to there. */
  async #storeCheckpoint(told: { readonly offsetBytes?: number } = {}): Promise<void> {
    const passed = this.#passed;
    if (!passed) {
      await this.#storePieces({ offsetBytes: this.#tellableBytes, ...told });
      return;
    }
    const { checkpoint, frameBytes } = passed;
    const { id } = this.#upload;
    const rowCount = Math.floor(frameBytes / chunkBytes);
    const rows = this.#rowsUpTo(frameBytes);
    const rest = this.#rowCount + rows.length > rowCount ? rows.pop()! : null;
    const checkpointBytes = checkpoint.sourceBytes;
    const offsetBytes = told.offsetBytes ?? Math.max(this.#storedBytes, checkpointBytes);
    const piece = this.#unstoredUpTo(offsetBytes);
    const state = { state: checkpoint.state(), rest, rowCount, checkpointBytes };
    const checkpointRoom = state.state.length + (rest?.length ?? 0);
    await changeHeld(this.#em, this.#upload, { ...state, failedTries: 0, ...told, offsetBytes }, async (em) => {
      await storeRows(em, id, this.#rowCount + 1, rows, this.#options.charge);
      await deletePieces(em, id, checkpointBytes);
      await this.#takeRoom(em, checkpointRoom + offsetBytes - checkpointBytes);
      await this.#storePiece(em, piece);
    });
    this.#rowCount = rowCount;
    this.#frames.forgetBefore(rowCount * chunkBytes);
    this.#storedAt = performance.now();
    this.#checkpointBytes = checkpointBytes;
    this.#checkpointRoom = checkpointRoom;
    this.#noteStored(offsetBytes, piece);
    // A newer one may have been passed in the meantime.
    if (this.#passed === passed) this.#passed = undefined;
  }

  /** Stores the pieces up to an offset that are only in memory. No checkpoint before them may be only in memory. */
  async #storePieces(told: { readonly offsetBytes: number }): Promise<void> {
    const piece = this.#unstoredUpTo(told.offsetBytes);
    await changeHeld(this.#em, this.#upload, told, async (em) => {
      await this.#takeRoom(em, this.#roomUpTo(told.offsetBytes));
      await this.#storePiece(em, piece);
    });
    this.#noteStored(told.offsetBytes, piece);
  }

  /** What has arrived up to an offset and is only in memory, as one piece; undefined if there is nothing. */
  #unstoredUpTo(offsetBytes: number): Piece | undefined {
    const from = Math.max(this.#storedBytes, this.#passed?.checkpoint.sourceBytes ?? 0);
    if (from >= offsetBytes) return undefined;
    const small = this.#smallPiece;
    const bytes = this.#arrived.between(from, offsetBytes);
    // A newer checkpoint may be between them.
    const isJoined = small !== undefined && from === small.endBytes;
    return { endBytes: offsetBytes, bytes: isJoined ? Buffer.concat([small.bytes, bytes]) : bytes };
  }

  #noteStored(offsetBytes: number, piece: Piece | undefined): void {
    this.#storedBytes = offsetBytes;
    this.#chargedBytes = Math.max(this.#chargedBytes, this.#roomUpTo(offsetBytes));
    if (piece) this.#smallPiece = piece.bytes.length < leastPieceBytes ? piece : undefined;
    this.#forget();
  }

  /** Bytes of the stored checkpoint and of what is stored behind it, up to an offset. */
  #roomUpTo(offsetBytes: number): number {
    return this.#checkpointRoom + offsetBytes - this.#checkpointBytes;
  }

  /** Charges room beside whole rows, once: what comes later takes the room of what it replaces. */
  async #takeRoom(em: SqlEntityManager, bytes: number): Promise<void> {
    const freshBytes = bytes - this.#chargedBytes;
    if (freshBytes > 0) await takeAllowance(em, this.#options.charge, freshBytes);
  }

  async #storePiece(em: SqlEntityManager, piece: Piece | undefined): Promise<void> {
    if (piece) await storePiece(em, this.#upload.id, piece, this.#smallPiece?.endBytes);
  }

  /** Stores all that has arrived, and lets go. */
  async #pause(): Promise<void> {
    this.offsetBytes = this.#tellableBytes;
    // If everything was told before the length was known, that has to come again.
    const isWhole = this.offsetBytes === this.#lengthBytes;
    const lengthBytes = isWhole ? this.#upload.lengthBytes : (this.#lengthBytes ?? null);
    const change = { offsetBytes: this.offsetBytes, lengthBytes, holder: null };
    await this.#inTurn(async () => await this.#storeCheckpoint(change));
  }

  /** The frames that are not in stored rows, up to this place of the MP3, as rows; the last one may be a part of one. */
  #rowsUpTo(frameBytes: number): Buffer[] {
    const rows: Buffer[] = [];
    for (let at = this.#rowCount * chunkBytes; at < frameBytes; at += chunkBytes)
      rows.push(this.#frames.between(at, Math.min(at + chunkBytes, frameBytes)));
    return rows;
  }
}

function begunByAnotherVersion(cause: UnknownStateError): ServiceError {
  const message =
    "Another version of the service has begun this upload, and this one cannot go on with it. Start a new one.";
  return new ServiceError("GONE", message, {}, { cause });
}

/** The recording is there, but not all of its rows: a standby that has taken over did not have them yet. */
function partIsGone(cause: RemovedMeanwhile): ServiceError {
  const message = "A part of this upload is no longer in the database. Start a new one.";
  return new ServiceError("GONE", message, {}, { cause });
}

function tooFarFromSound(): ServiceError {
  const message =
    `The file has more than ${maxPiecesBytes / 1024 ** 2} MiB without sound in one place. ` +
    "Remove them, or send the file with uploadRecord.";
  return new ServiceError("UNSUPPORTED_MEDIA", message);
}
