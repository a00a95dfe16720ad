import type { S3 } from "@aws-sdk/client-s3";
import { setTimeout as delay } from "node:timers/promises";
import { ServiceError, storageFull, storageUnavailable } from "../errors/errors.ts";

/** Where the bucket is. */
export interface S3Place {
  /** Undefined for AWS. */
  readonly endpoint: string | undefined;
  readonly region: string;
  readonly bucket: string;
  /** Undefined to use what AWS's client finds, such as the role of the machine. */
  readonly keys: { readonly accessKey: string; readonly secretKey: string } | undefined;
  /** Longest time of one operation with its repetitions. */
  readonly timeoutSeconds: number;
  readonly onAnswer?: OnS3Answer | undefined;
}

/**
 * Is told how long each operation took. `failure` says why it failed, unless what was asked for is not there, or nobody
 * waits for it any more.
 */
export type OnS3Answer = (operation: string, seconds: number, failure: string | undefined) => void;

/** A connection that says nothing for this long has failed. It is longer than a pause of a busy S3. */
const silenceMs = 15_000;
const connectMs = 5000;

const firstWaitMs = 100;
const longestWaitMs = 2000;

/** Codes of a bucket, user or disk that is full: Ceph, AWS and others, MinIO. */
const fullCodes = new Set(["QuotaExceeded", "InsufficientStorage", "InsufficientCapacity", "XMinioStorageFull"]);

/** Answers of a store that is busy or at odds with itself. */
const momentaryCodes = new Set(["RequestTimeout", "SlowDown", "OperationAborted"]);

/** Answers that a later attempt may change. A clock that is wrong may be set right. */
const transientCodes = new Set([...momentaryCodes, "RequestTimeTooSkewed"]);

/** The code, of our own, for an object that ends before its recording. */
export const shortObject = "ShortObject";

/** An answer of S3 that is an error, or no answer. It keeps no headers and no keys, so it can be logged. */
export class S3Error extends Error {
  override readonly name = "S3Error";
  /** The code of S3, such as `NoSuchKey`, or the name of the failure. */
  readonly s3Code: string;
  /** Undefined if no answer came. */
  readonly status: number | undefined;

  constructor(s3Code: string, status: number | undefined, message: string) {
    super(`S3: ${s3Code}${status === undefined ? "" : ` (${status})`}: ${message}`);
    this.s3Code = s3Code;
    this.status = status;
  }
}

/** A client for one bucket. It repeats what fails for the moment, until the time is up. */
export class S3Client implements Disposable {
  readonly bucket: string;
  readonly #client: S3;
  readonly #timeoutMs: number;

  constructor(client: S3, bucket: string, timeoutMs: number) {
    this.#client = client;
    this.bucket = bucket;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Runs an operation.
   * @param attempt must be safe to repeat, and end when its signal is aborted
   * @throws {S3Error} if S3 refuses it for a reason of its own, such as `NoSuchKey`
   * @throws {ServiceError} STORAGE_UNAVAILABLE or STORAGE_FULL
   * @throws the signal's reason, if it is aborted
   */
  async run<T>(attempt: (client: S3, abortSignal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const timeout = AbortSignal.timeout(this.#timeoutMs);
    const abortSignal = signal ? AbortSignal.any([signal, timeout]) : timeout;
    let failure: S3Error | undefined;
    for (let waitMs = firstWaitMs; ; waitMs = Math.min(2 * waitMs, longestWaitMs)) {
      try {
        return await attempt(this.#client, abortSignal);
      } catch (error) {
        signal?.throwIfAborted();
        // What failed before the time was up says more.
        if (!timeout.aborted || failure === undefined) failure = toS3Error(error);
        if (timeout.aborted || !isTransient(failure)) throw translated(failure);
        // At random, so that replicas do not ask all at once.
        await delay(waitMs * (0.5 + Math.random() / 2), undefined, { signal: abortSignal }).catch(() => {});
        signal?.throwIfAborted();
        if (timeout.aborted) throw translated(failure);
      }
    }
  }

  [Symbol.dispose](): void {
    this.#client.destroy();
  }
}

/** Opens a client. AWS's library takes a quarter of a second and 37 MB, so only a service with a bucket loads it. */
export async function openS3Client({
  endpoint,
  region,
  bucket,
  keys,
  timeoutSeconds,
  onAnswer,
}: S3Place): Promise<S3Client> {
  const { S3 } = await import("@aws-sdk/client-s3");
  const client = new S3({
    region,
    ...(endpoint !== undefined && { endpoint }),
    ...(keys && { credentials: { accessKeyId: keys.accessKey, secretAccessKey: keys.secretKey } }),
    // Names of buckets in the host need certificates and DNS of their own.
    forcePathStyle: true,
    // Several servers of other makers do not know these checksums (aws-sdk-js-v3#6810).
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    // `S3Client.run` repeats. AWS's own pauses grow until none is left of a short timeout.
    maxAttempts: 1,
    requestHandler: {
      connectionTimeout: connectMs,
      socketTimeout: silenceMs,
      httpAgent: { maxSockets: 256 },
      httpsAgent: { maxSockets: 256 },
    },
  });
  if (onAnswer) {
    client.middlewareStack.add(
      (next, { commandName = "" }) =>
        async (request) => {
          const started = performance.now();
          const tell = (failure?: string): void =>
            onAnswer(commandName.replace(/Command$/, ""), (performance.now() - started) / 1000, failure);
          try {
            const answer = await next(request);
            tell();
            return answer;
          } catch (error) {
            tell(failureOf(error));
            throw error;
          }
        },
      { name: "tellAnswer", step: "initialize" },
    );
  }
  return new S3Client(client, bucket, timeoutSeconds * 1000);
}

function toS3Error(error: unknown): S3Error {
  if (error instanceof S3Error) return error;
  if (!(error instanceof Error)) return new S3Error("UnknownError", undefined, String(error));
  const status = "$metadata" in error ? statusIn(error.$metadata) : undefined;
  const code = "code" in error && typeof error.code === "string" ? error.code : error.name;
  return new S3Error(code, status, error.message);
}

function statusIn(metadata: unknown): number | undefined {
  if (typeof metadata !== "object" || metadata === null || !("httpStatusCode" in metadata)) return undefined;
  return typeof metadata.httpStatusCode === "number" ? metadata.httpStatusCode : undefined;
}

/** What {@link OnS3Answer} is told of an error of AWS's library. */
function failureOf(error: unknown): string | undefined {
  const { s3Code } = toS3Error(error);
  if (ownCodes.has(s3Code)) return undefined;
  if (s3Code !== "AbortError" || !(error instanceof Error)) return s3Code;
  // The library keeps the reason of the signal as the cause, or as text if it takes it for no Error.
  const { cause, message } = error;
  const reason = typeof cause === "object" && cause !== null && "name" in cause ? cause.name : message.split(":", 1)[0];
  return reason === "TimeoutError" ? reason : undefined;
}

function isFull({ s3Code, status }: S3Error): boolean {
  return fullCodes.has(s3Code) || status === 507;
}

function isTransient(error: S3Error): boolean {
  const { s3Code, status } = error;
  if (isFull(error) || s3Code === "CredentialsProviderError") return false;
  return status === undefined || status >= 500 || status === 429 || transientCodes.has(s3Code);
}

/** Refusals that depend on what was asked, and not on the state or the settings of the store. */
const ownCodes = new Set(["NoSuchKey", "NoSuchUpload", "InvalidRange", "NotFound"]);

function translated(error: S3Error): Error {
  if (isFull(error)) return storageFull({ cause: Object.assign(error, { code: "ENOSPC" }) });
  if (ownCodes.has(error.s3Code)) return error;
  return storageUnavailable({ cause: error });
}

/** Whether S3 answered with this code. */
export function isS3Code(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof S3Error && codes.includes(error.s3Code);
}

/** The error if it says that the store refuses the service itself, such as its keys, its bucket or its clock. */
export function refusalOfService(error: unknown): S3Error | undefined {
  const cause = error instanceof ServiceError ? error.cause : undefined;
  if (!(cause instanceof S3Error)) return undefined;
  if (isFull(cause) || cause.status === 429 || momentaryCodes.has(cause.s3Code)) return undefined;
  const isOurs = cause.s3Code === "CredentialsProviderError" || (cause.status !== undefined && cause.status < 500);
  return isOurs ? cause : undefined;
}
