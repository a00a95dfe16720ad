import type { S3 } from "@aws-sdk/client-s3";
import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { noPatience, throughFailover, type Patience } from "../database/failover.ts";
import { queryBuilder } from "../database/query-builder.ts";
import { ServiceError } from "../errors/errors.ts";
import type { ByteInterval } from "../http/byte-range.ts";
import { takeAllowance } from "../limits/write-allowance.ts";
import { HeldBytes } from "../memory/held-bytes.ts";
import { MemoryBlocks } from "../memory/memory-blocks.ts";
import type { Config } from "../settings/config.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { ArrivingMp3, WrittenFrames } from "./arriving-mp3.ts";
import type { StoredMp3 } from "./mp3-chunks.ts";
import { readAhead } from "./read-ahead.ts";
import { RemovedMeanwhile } from "./record-refusals.ts";
import type { RecordTables } from "./record.entity.ts";
import {
  isS3Code,
  openS3Client,
  refusalOfService,
  S3Error,
  shortObject,
  type OnS3Answer,
  type S3Client,
} from "./s3-client.ts";
import { abortUpload, contentType, PartSender, sizeOfObject } from "./s3-parts.ts";

/**
 * Size of all parts of an object but the last. No smaller one is allowed, and Cloudflare's R2 wants them equal. Up to this
 * size, the frames before the end need no parts.
 */
export const partBytes = 5 * 1024 ** 2;

/** Room for the head in the first part. A smaller head is padded to it. */
export const headRoomBytes = 16 * 1024;

/** Size of the pieces in which a range is read. */
const pieceBytes = 4 * 1024 ** 2;

/** A piece of a range. */
interface Piece {
  readonly offset: number;
  readonly byteLength: number;
}

/** An object of the store. */
export interface StoredObject {
  readonly recordId: string;
  readonly sizeBytes: number;
  /** When it was written; of one in parts, S3 may tell when the first part was begun. Undefined if S3 does not tell. */
  readonly writtenAt: Date | undefined;
}

/** An upload in parts that was begun and not ended. */
export interface OpenUpload {
  readonly recordId: string;
  readonly uploadId: string;
  readonly begunAt: Date | undefined;
}

/** How long the start waits for a store that does not answer. */
const trialSeconds = 5;

const prefix = "mp3/";

/** The object's key follows from the id alone, so no row has to name it. */
function keyOf(recordId: string): string {
  return `${prefix}${recordId.slice(0, 2)}/${recordId}`;
}

function recordIdIn(key: string | undefined): string | undefined {
  return /^mp3\/(..)\/(\1[\da-f]{6}(?:-[\da-f]{4}){3}-[\da-f]{12})$/.exec(key ?? "")?.[2];
}

/**
 * MP3s as objects of S3, one for each recording. An upload keeps up to two parts in memory: the first, which waits for the
 * head, and the one that is filled and then sent.
 */
export class S3Mp3Store implements Disposable {
  readonly #client: S3Client;
  /** Memory for the first part, of which short recordings need little. */
  readonly #rowMemory: MemoryBlocks;
  readonly #partMemory = new MemoryBlocks(partBytes, 4);
  readonly #pieceMemory = new MemoryBlocks(pieceBytes, 4);

  constructor(client: S3Client, rowMemory: MemoryBlocks) {
    this.#client = client;
    this.#rowMemory = rowMemory;
  }

  /**
   * Sends frames while they arrive. An MP3 whose frames fit into the first part becomes an object by one request, when its
   * head is known. Of a longer one, parts 2 and following are sent at once, and part 1 with the head last. What a failure
   * leaves behind is removed after its recording. While the database is away, no more frames are taken.
   * @param patience how long a statement is repeated
   * @throws {ServiceError} CONFLICT if the recording is no longer being received, RATE_LIMITED if an allowance is used up,
   * STORAGE_UNAVAILABLE or STORAGE_FULL
   */
  async write(
    em: SqlEntityManager,
    { recordId, frames, charge, signal }: ArrivingMp3,
    patience: Patience = noPatience,
  ): Promise<WrittenFrames> {
    const key = keyOf(recordId);
    const first = new HeldBytes(this.#rowMemory, partBytes - headRoomBytes);
    const parts = new PartSender(this.#client, key, signal);
    let part: Buffer | undefined;
    let filled = 0;
    let byteLength = 0;
    const pay = async (bytes: number): Promise<void> =>
      await throughFailover(async () => await takeAllowance(em, charge, bytes), patience);
    const sendPart = async (): Promise<void> => {
      if (part === undefined || filled === 0) return;
      await pay(filled);
      const goesOn = await throughFailover(async () => await isReceiving(em, recordId), patience);
      if (!goesOn) throw new RemovedMeanwhile();
      await parts.send(part.subarray(0, filled), parts.count + 2);
      filled = 0;
    };
    for await (const piece of frames) {
      byteLength += piece.length;
      for (let offset = first.add(piece); offset < piece.length;) {
        part ??= this.#partMemory.take();
        const copied = piece.copy(part, filled, offset);
        offset += copied;
        filled += copied;
        if (filled === part.length) await sendPart();
      }
    }
    return {
      store: "s3",
      byteLength,
      complete: async (makeHead) => {
        await pay(first.byteLength);
        if (part === undefined) {
          const head = makeHead();
          await this.#put(key, Buffer.concat([head, ...first.blocks()]), signal);
          first.giveBack();
          return head;
        }
        await sendPart();
        const head = makeHead(headRoomBytes);
        const fits = head.length === headRoomBytes;
        // A head with a cover or many chapters is longer. Then the room stays empty, until the object is written anew.
        if (fits) head.copy(part);
        else part.fill(0, 0, headRoomBytes);
        first.giveBackTo(part.subarray(headRoomBytes));
        await parts.send(part, 1);
        this.#partMemory.giveBack(part);
        await parts.complete(headRoomBytes + byteLength);
        if (fits) return head;
        const exact = makeHead();
        await this.#writeWithHead(recordId, exact, byteLength, signal);
        return exact;
      },
    };
  }

  /** Writes an object anew, with a longer head instead of the room for it. */
  async #writeWithHead(recordId: string, head: Buffer, frameBytes: number, signal: AbortSignal): Promise<void> {
    const range = { start: headRoomBytes, end: headRoomBytes + frameBytes - 1 };
    const frames = this.read({ id: recordId }, range, signal);
    await this.writeWhole(
      recordId,
      (async function* () {
        yield head;
        yield* frames;
      })(),
      signal,
    );
  }

  /**
   * Writes an object from its first byte to its last.
   * @throws {ServiceError} STORAGE_UNAVAILABLE or STORAGE_FULL
   */
  async writeWhole(recordId: string, bytes: AsyncIterable<Buffer>, signal?: AbortSignal): Promise<void> {
    const key = keyOf(recordId);
    const parts = new PartSender(this.#client, key, signal);
    const part = this.#partMemory.take();
    let filled = 0;
    let sizeBytes = 0;
    try {
      for await (const piece of bytes) {
        sizeBytes += piece.length;
        for (let offset = 0; offset < piece.length;) {
          if (filled === part.length) {
            await parts.send(part, parts.count + 1);
            filled = 0;
          }
          const copied = piece.copy(part, filled, offset);
          offset += copied;
          filled += copied;
        }
      }
      if (parts.count === 0) await this.#put(key, part.subarray(0, filled), signal);
      else {
        await parts.send(part.subarray(0, filled), parts.count + 1);
        await parts.complete(sizeBytes);
      }
    } catch (error) {
      await parts.abort().catch(() => {}); // the bucket's own rule, or reconcile, ends what this could not
      throw error;
    }
    this.#partMemory.giveBack(part);
  }

  async #put(key: string, bytes: Buffer, signal: AbortSignal | undefined): Promise<void> {
    const { bucket } = this.#client;
    await this.#client.run(
      async (s3, abortSignal) =>
        await s3.putObject({ Bucket: bucket, Key: key, Body: bytes, ContentType: contentType }, { abortSignal }),
      signal,
    );
  }

  /** Memory of a download that reads large pieces of an MP3 of this size. */
  readBytes(sizeBytes: number): number {
    return 2 * Math.min(sizeBytes, pieceBytes);
  }

  /**
   * Reads a range of an object, one piece ahead. A piece stays unchanged until the next one is requested.
   * @throws {ServiceError} NOT_FOUND if there is no such object, STORAGE_UNAVAILABLE
   * @throws the signal's reason, as soon as it is aborted
   */
  async *read(
    { id }: Pick<StoredMp3, "id">,
    { start, end }: ByteInterval,
    signal: AbortSignal,
    maxPieceBytes = Infinity,
  ): AsyncGenerator<Buffer, void, undefined> {
    const mostBytes = Math.min(pieceBytes, end - start + 1, maxPieceBytes);
    const giveUp = new AbortController();
    const either = AbortSignal.any([signal, giveUp.signal]);
    const read = async ({ offset }: Piece, target: Buffer) => await this.#readPiece(keyOf(id), offset, target, either);
    try {
      const parts = pieces(start, end, mostBytes);
      yield* readAhead({ parts, pieceBytes: mostBytes, blocks: this.#pieceMemory, read }, signal);
    } finally {
      // Ends the request for a piece that nobody wants any more.
      giveUp.abort();
    }
  }

  async #readPiece(key: string, offset: number, target: Buffer, signal: AbortSignal): Promise<Buffer> {
    const request = { Bucket: this.#client.bucket, Key: key, Range: `bytes=${offset}-${offset + target.length - 1}` };
    const read = async (s3: S3, abortSignal: AbortSignal): Promise<Buffer> => {
      const { Body: body, ContentLength: sentBytes } = await s3.getObject(request, { abortSignal });
      let filled = 0;
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- in Node, the body is a stream of buffers
      for await (const bytes of body as AsyncIterable<Buffer>) {
        if (filled + bytes.length > target.length) throw new Error("S3 sent more bytes than asked for");
        filled += bytes.copy(target, filled);
      }
      if (filled === target.length) return target;
      // It will not grow. An answer that was cut off is asked for again.
      if (filled === sentBytes) throw new S3Error(shortObject, 206, "the object ends before its recording");
      throw new Error("S3 sent fewer bytes than asked for");
    };
    try {
      return await this.#client.run(read, signal);
    } catch (error) {
      if (!isS3Code(error, "NoSuchKey", "InvalidRange")) throw error;
      throw new ServiceError("NOT_FOUND", "The recording was deleted while it was being read.");
    }
  }

  /**
   * Deletes an object. It may be repeated.
   * @param mayBeWritten whether an upload may have left parts
   * @throws {ServiceError} STORAGE_UNAVAILABLE
   * @throws the signal's reason, if it is aborted
   */
  async remove(
    recordId: string,
    { mayBeWritten, signal }: { mayBeWritten: boolean; signal?: AbortSignal },
  ): Promise<void> {
    const key = keyOf(recordId);
    if (mayBeWritten) {
      for await (const { uploadId } of this.openUploads(recordId, signal)) {
        await abortUpload(this.#client, key, uploadId, signal);
      }
    }
    const request = { Bucket: this.#client.bucket, Key: key };
    await this.#client.run(async (s3, abortSignal) => await s3.deleteObject(request, { abortSignal }), signal);
  }

  /** Size of an object in bytes; undefined if there is none. */
  async sizeOf(recordId: string): Promise<number | undefined> {
    return await sizeOfObject(this.#client, keyOf(recordId));
  }

  /** Ends an upload in parts, and deletes the parts. It may be repeated. */
  async abort({ recordId, uploadId }: Pick<OpenUpload, "recordId" | "uploadId">): Promise<void> {
    await abortUpload(this.#client, keyOf(recordId), uploadId);
  }

  /**
   * Lists all objects in the order of their ids.
   * @param after id of a recording; only the objects behind it are listed
   */
  async *objects(after?: string): AsyncGenerator<StoredObject, void, undefined> {
    const { bucket } = this.#client;
    let startAfter = after === undefined ? undefined : keyOf(after);
    for (let more = true; more;) {
      const request = { Bucket: bucket, Prefix: prefix, ...(startAfter !== undefined && { StartAfter: startAfter }) };
      const page = await this.#client.run(async (s3, abortSignal) => await s3.listObjectsV2(request, { abortSignal }));
      for (const { Key: key, Size: sizeBytes = 0, LastModified: writtenAt } of page.Contents ?? []) {
        const recordId = recordIdIn(key);
        if (recordId !== undefined) yield { recordId, sizeBytes, writtenAt };
        startAfter = key ?? startAfter;
      }
      more = page.IsTruncated === true && (page.Contents?.length ?? 0) > 0;
    }
  }

  /** Lists the uploads in parts that have not ended: all, or those of one recording. */
  async *openUploads(recordId?: string, signal?: AbortSignal): AsyncGenerator<OpenUpload, void, undefined> {
    const bucket = this.#client.bucket;
    let marker: { KeyMarker?: string; UploadIdMarker?: string } = {};
    for (let more = true; more;) {
      const request = { Bucket: bucket, Prefix: recordId === undefined ? prefix : keyOf(recordId), ...marker };
      const page = await this.#client.run(
        async (s3, abortSignal) => await s3.listMultipartUploads(request, { abortSignal }),
        signal,
      );
      for (const { Key: key, UploadId: uploadId, Initiated: begunAt } of page.Uploads ?? []) {
        const id = recordIdIn(key);
        if (id !== undefined && uploadId !== undefined) yield { recordId: id, uploadId, begunAt };
      }
      const { IsTruncated: isTruncated, NextKeyMarker: key, NextUploadIdMarker: upload } = page;
      more = isTruncated === true && key !== undefined;
      marker = {
        ...(key !== undefined && { KeyMarker: key }),
        ...(upload !== undefined && { UploadIdMarker: upload }),
      };
    }
  }

  /**
   * Asks the bucket for one object, to find out whether the settings are right.
   * @throws {ServiceError} STORAGE_UNAVAILABLE
   */
  async check(): Promise<void> {
    const request = { Bucket: this.#client.bucket, Prefix: prefix, MaxKeys: 1 };
    await this.#client.run(async (s3, abortSignal) => await s3.listObjectsV2(request, { abortSignal }));
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }
}

/** The settings of the store; `settings.ts` says what each means. */
export type S3Settings = Pick<
  Config,
  "s3Endpoint" | "s3Region" | "s3Bucket" | "s3AccessKey" | "s3SecretKey" | "s3TimeoutSeconds"
>;

/**
 * Opens the store and tries it. A store that does not answer is waited for later, when it is needed.
 * @throws {Error} with a sentence for the operator, if the store refuses the keys or has no such bucket
 */
export async function openS3Mp3Store(
  config: S3Settings,
  rowMemory: MemoryBlocks,
  logger: Pick<Logger, "warn">,
  onAnswer?: OnS3Answer,
): Promise<S3Mp3Store> {
  const { s3Endpoint: endpoint, s3Region: region, s3Bucket: bucket = "", s3AccessKey: accessKey } = config;
  const { s3SecretKey: secretKey, s3TimeoutSeconds: timeoutSeconds } = config;
  const keys = accessKey === undefined || secretKey === undefined ? undefined : { accessKey, secretKey };
  const open = async (seconds: number) =>
    new S3Mp3Store(
      await openS3Client({ endpoint, region, bucket, keys, timeoutSeconds: seconds, onAnswer }),
      rowMemory,
    );
  using trial = await open(Math.min(timeoutSeconds, trialSeconds));
  await trial.check().catch((error: unknown) => {
    const refusal = refusalOfService(error);
    if (!refusal) logger.warn({ err: error }, "S3 does not answer; recordings in it cannot be read or stored now");
    else throw new Error(`The bucket ${bucket} cannot be used: ${refusal.message}. See the settings S3_*.`);
  });
  return await open(timeoutSeconds);
}

function* pieces(start: number, end: number, maxBytes: number): Generator<Piece, undefined> {
  for (let offset = start; offset <= end; offset += maxBytes) {
    yield { offset, byteLength: Math.min(maxBytes, end + 1 - offset) };
  }
  return undefined;
}

async function isReceiving(em: SqlEntityManager, id: string): Promise<boolean> {
  const db = queryBuilder<RecordTables>(em);
  const query = db.selectFrom("AudioRecord").select("id").where("id", "=", id).where("state", "=", "receiving");
  return (await query.executeTakeFirst()) !== undefined;
}
