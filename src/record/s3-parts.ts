import type { CompletedPart, S3 } from "@aws-sdk/client-s3";
import { RemovedMeanwhile } from "./record-refusals.ts";
import { isS3Code, type S3Client } from "./s3-client.ts";

/** The type of all objects. */
export const contentType = "audio/mpeg";

/** Sends the parts of one object. The upload begins with the first of them. */
export class PartSender {
  readonly #client: S3Client;
  readonly #key: string;
  readonly #signal: AbortSignal | undefined;
  readonly #sent: CompletedPart[] = [];
  #uploadId: string | undefined;

  constructor(client: S3Client, key: string, signal: AbortSignal | undefined) {
    this.#client = client;
    this.#key = key;
    this.#signal = signal;
  }

  /** Number of parts that have been sent. */
  get count(): number {
    return this.#sent.length;
  }

  get #target() {
    return { Bucket: this.#client.bucket, Key: this.#key };
  }

  async send(bytes: Buffer, number: number): Promise<void> {
    this.#uploadId ??= await this.#begin();
    const request = { ...this.#target, UploadId: this.#uploadId, PartNumber: number, Body: bytes };
    const { ETag: etag } = await this.#run(async (s3, abortSignal) => await s3.uploadPart(request, { abortSignal }));
    this.#sent.push({ PartNumber: number, ...(etag !== undefined && { ETag: etag }) });
  }

  async #begin(): Promise<string> {
    const request = { ...this.#target, ContentType: contentType };
    const begin = async (s3: S3, abortSignal: AbortSignal) => await s3.createMultipartUpload(request, { abortSignal });
    const { UploadId: uploadId } = await this.#run(begin);
    if (uploadId === undefined) throw new Error("S3 began an upload without an id");
    return uploadId;
  }

  /** Joins the parts to an object of this size. */
  async complete(sizeBytes: number): Promise<void> {
    const parts = this.#sent.toSorted((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0));
    const request = { ...this.#target, UploadId: this.#uploadId, MultipartUpload: { Parts: parts } };
    try {
      await this.#client.run(
        async (s3, abortSignal) => await s3.completeMultipartUpload(request, { abortSignal }),
        this.#signal,
      );
    } catch (error) {
      // If the answer to an earlier attempt was lost, the upload has ended, and the object is there.
      if (isS3Code(error, "NoSuchUpload") && (await sizeOfObject(this.#client, this.#key, this.#signal)) === sizeBytes)
        return;
      throw asRemoved(error);
    }
  }

  /** Deletes what was sent. */
  async abort(): Promise<void> {
    if (this.#uploadId !== undefined) await abortUpload(this.#client, this.#key, this.#uploadId);
  }

  async #run<T>(attempt: (client: S3, abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    return await this.#client.run(attempt, this.#signal).catch((error: unknown) => {
      throw asRemoved(error);
    });
  }
}

/** Size of an object in bytes; undefined if there is none. */
export async function sizeOfObject(client: S3Client, key: string, signal?: AbortSignal): Promise<number | undefined> {
  const request = { Bucket: client.bucket, Key: key };
  const head = async (s3: S3, abortSignal: AbortSignal) => await s3.headObject(request, { abortSignal });
  try {
    return (await client.run(head, signal)).ContentLength;
  } catch (error) {
    if (isS3Code(error, "NotFound", "NoSuchKey")) return undefined;
    throw error;
  }
}

/** Ends an upload in parts, and deletes the parts. It may be repeated. */
export async function abortUpload(
  client: S3Client,
  key: string,
  uploadId: string,
  signal?: AbortSignal,
): Promise<void> {
  const request = { Bucket: client.bucket, Key: key, UploadId: uploadId };
  try {
    await client.run(async (s3, abortSignal) => await s3.abortMultipartUpload(request, { abortSignal }), signal);
  } catch (error) {
    if (!isS3Code(error, "NoSuchUpload")) throw error;
  }
}

/** An upload in parts disappears when its recording was deleted. */
function asRemoved(error: unknown): unknown {
  return isS3Code(error, "NoSuchUpload") ? new RemovedMeanwhile() : error;
}
