import type { FileUpload } from "graphql-upload-minimal";
import type { Pool } from "pg";
import { v4 as uuidv4 } from "uuid";
import type { EncoderPool } from "../audio/encoder-pool.ts";
import { cleanText } from "../audio/wav-tags.ts";
import { openConversion, type Quality } from "../audio/wav-to-mp3.ts";
import type { Config } from "../config.ts";
import { ServiceError } from "../errors.ts";
import type { RequestContext } from "../request-context.ts";
import type { Caller } from "../user/authenticate-user.ts";
import { openIncomingFile } from "./incoming-file.ts";
import { writeMp3 } from "./mp3-chunks.ts";
import { beginRecord, chunkBytes, discardRecord, finishRecord } from "./receiving-record.ts";
import type { AudioRecord } from "./record.entity.ts";
import type { UploadLeases } from "./upload-leases.ts";
import type { UploadSlots } from "./upload-slots.ts";
import type { Visibility } from "./visibility.ts";

/** What a client may choose for an upload. */
export interface UploadOptions {
  readonly title: string | undefined;
  readonly quality: Quality | undefined;
  readonly visibility: Visibility | undefined;
}

interface UploaderDependencies {
  readonly pool: Pool;
  readonly encoders: EncoderPool;
  readonly slots: UploadSlots;
  readonly leases: UploadLeases;
  readonly config: Config;
}

/** Turns WAV files that arrive into stored records, and knows which uploads are under way. */
export class RecordUploader {
  readonly #dependencies: UploaderDependencies;
  readonly #running = new Set<Promise<unknown>>();
  readonly #stop = new AbortController();

  constructor(dependencies: UploaderDependencies) {
    this.#dependencies = dependencies;
  }

  /**
   * Converts and stores one file; whatever goes wrong, nothing of it stays.
   * @throws {ServiceError} when the file, the client or the service's load does not allow it
   */
  async upload(
    owner: Caller,
    file: Promise<FileUpload>,
    options: UploadOptions,
    context: RequestContext,
  ): Promise<AudioRecord> {
    const work = this.#upload(owner, file, options, context);
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    this.#running.add(settled);
    try {
      return await work;
    } finally {
      this.#running.delete(settled);
    }
  }

  /** Waits for the uploads that are under way, and after the grace period cancels those that are left. */
  async drain(graceSeconds: number): Promise<void> {
    const timer = setTimeout(() => {
      this.#stop.abort(new ServiceError("SHUTTING_DOWN", "The service is stopping; send the file again in a moment."));
    }, graceSeconds * 1000);
    while (this.#running.size > 0) await Promise.all(this.#running);
    clearTimeout(timer);
  }

  async #upload(
    owner: Caller,
    file: Promise<FileUpload>,
    options: UploadOptions,
    context: RequestContext,
  ): Promise<AudioRecord> {
    const { config, encoders, leases, slots, pool } = this.#dependencies;
    using deadline = deadlineAfter(config.uploadTimeoutSeconds);
    const signal = AbortSignal.any([context.signal, this.#stop.signal, deadline.signal]);
    using _slot = await slots.acquire(owner.id, signal);
    using incoming = await openIncomingFile(file);

    const conversion = await openConversion(incoming.bytes(), {
      encoders,
      quality: options.quality ?? config.quality,
      maxDurationSeconds: config.maxDurationSeconds,
      signal,
    });
    const id = uuidv4();
    using _lease = leases.hold(id);
    try {
      const visibility = options.visibility ?? config.visibility;
      await beginRecord(pool, { id, ownerId: owner.id, fileName: incoming.fileName, visibility });
      const { bytes: frameBytes } = await writeMp3(pool, id, conversion.frames(), chunkBytes);
      const facts = conversion.facts();
      const title =
        cleanText(options.title ?? "") || facts.source.tags.get("title") || titleFromFileName(incoming.fileName);
      const head = conversion.head(title);
      return await finishRecord({ em: context.em, pool }, id, owner, { title, head, frameBytes, facts });
    } catch (error) {
      await this.#discard(id, context);
      throw error;
    }
  }

  /** What cannot be removed now, because the database is away, is left to the sweeper. */
  async #discard(id: string, { logger }: RequestContext): Promise<void> {
    try {
      await discardRecord(this.#dependencies.pool, id);
    } catch (error) {
      logger.warn({ err: error, record: id }, "could not remove an unfinished record; its lease will run out");
    }
  }
}

/** `take 3.wav` without its ending; a name that is nothing but an ending stays. */
function titleFromFileName(fileName: string): string {
  return cleanText(fileName.replace(/(?<=.)\.[^.]{1,5}$/, "")) || "Recording";
}

/** A signal that aborts after so many seconds, unless it is disposed of before. */
function deadlineAfter(maxSeconds: number): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const timer = setTimeout(() => {
    const message = `The upload took longer than ${maxSeconds} seconds.`;
    controller.abort(new ServiceError("CONVERSION_TIMEOUT", message, { maxSeconds }));
  }, maxSeconds * 1000);
  return { signal: controller.signal, [Symbol.dispose]: () => clearTimeout(timer) };
}
