import { ApiError, call, unreachable, type ErrorBody } from "./client.ts";
import { RecordingDocument, StartUploadDocument, type RowFragment, type StartUploadMutation } from "./operations.ts";

/** A file to send, and the key that makes a retry find what has arrived. */
export interface Outgoing {
  readonly file: Blob;
  readonly name: string;
  readonly key: string;
  readonly token: string;
}

/** What the service has stored. `created` is false if an earlier attempt had stored it. */
export interface Stored {
  readonly record: RowFragment;
  readonly created: boolean;
}

/** Sends a file. `onSent` is told how many of its bytes have left: first, how many had left in earlier attempts. */
export type Send = (outgoing: Outgoing, onSent: (bytes: number) => void, signal: AbortSignal) => Promise<Stored>;

/** The state of an upload of the page. */
export type Begun = NonNullable<StartUploadMutation["startUpload"]>["upload"];

/**
 * Starts an upload that goes on where it was, or finds the one of this key. A take has no size yet.
 * @throws {ApiError}
 */
export async function beginUpload(name: string, key: string, token: string, sizeBytes?: number): Promise<Begun> {
  const variables = { fileName: name, idempotencyKey: key, sizeBytes };
  const { startUpload } = await call(StartUploadDocument, variables, { token });
  const { upload } = startUpload!;
  addresses.set(key, addressOf(upload));
  return upload;
}

/** The addresses of uploads that this page has begun and that are neither stored nor recalled, by key. */
const addresses = new Map<string, string>();

/** The address of an upload, beside the page, also behind a proxy that adds a path. */
export function addressOf({ url }: Begun): string {
  return new URL(`uploads/${url!.split("/").at(-1)}`, document.baseURI).href;
}

/** Deletes what the service has of an upload that nobody wants, if this page has begun it. A recording stays. */
export async function recall(key: string): Promise<void> {
  const address = addresses.get(key);
  addresses.delete(key);
  if (address !== undefined) await fetch(address, { method: "DELETE" }).catch(() => {});
}

/**
 * Sends what the service does not have yet of a file.
 * @throws {ApiError}
 */
export const sendOnwards: Send = async (outgoing, onSent, signal) => {
  const stored = await sendUntilStored(outgoing, onSent, signal);
  addresses.delete(outgoing.key);
  return stored;
};

const sendUntilStored: Send = async ({ file, name, key, token }, onSent, signal) => {
  for (let isFirst = true; ; isFirst = false) {
    let upload: Begun;
    try {
      upload = await beginUpload(name, key, token, file.size);
    } catch (error) {
      // Its recording has been ready for so long that the upload is forgotten.
      const id = error instanceof ApiError ? error.recordId : undefined;
      const { record } = id === undefined ? {} : await call(RecordingDocument, { id }, { token });
      if (record) return { record, created: false };
      throw error;
    }
    const { recording, failure, offset } = upload;
    if (recording) return { record: recording, created: !isFirst };
    if (failure) throw new ApiError(failure.code, failure.message);
    const id = await sendRest(addressOf(upload), file, offset, onSent, signal);
    const { record } = id === undefined ? {} : await call(RecordingDocument, { id }, { token });
    if (record) return { record, created: true };
    // Another tab, or the recorder, sends the same file: they must not interrupt each other all the time.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    signal.throwIfAborted();
  }
};

/**
 * Sends the bytes from `offset` on, by XMLHttpRequest, because fetch does not say how much has left.
 * @returns the id of the recording; undefined if the file goes on elsewhere
 */
async function sendRest(
  url: string,
  file: Blob,
  offset: number,
  onSent: (bytes: number) => void,
  signal: AbortSignal,
): Promise<string | undefined> {
  const request = new XMLHttpRequest();
  const answered = new Promise<void>((resolve, reject) => {
    request.addEventListener("load", () => resolve());
    // The same event for a lost connection and for a file that has changed, or was deleted.
    request.addEventListener("error", () => {
      const first = file.slice(0, 1).arrayBuffer();
      first.then(() => reject(unreachable()), reject);
    });
    request.addEventListener("abort", () => reject(signal.reason as Error));
  });
  request.upload.addEventListener("progress", ({ loaded }) => onSent(Math.min(offset + loaded, file.size)));
  request.open("PATCH", url);
  request.setRequestHeader("content-type", "application/offset+octet-stream");
  request.setRequestHeader("upload-offset", String(offset));
  request.setRequestHeader("upload-length", String(file.size));
  request.responseType = "json";
  const abort = (): void => request.abort();
  signal.addEventListener("abort", abort);
  try {
    signal.throwIfAborted();
    onSent(offset);
    request.send(file.slice(offset));
    await answered;
  } finally {
    signal.removeEventListener("abort", abort);
  }
  const { data, error } = (request.response ?? {}) as {
    data?: { upload: { recording: { id: string } } };
    error?: ErrorBody;
  };
  if (request.status < 300 || request.status === 409) return data?.upload.recording.id;
  if (!error) throw unreachable();
  throw new ApiError(error.code, error.message, error.retryAfterSeconds);
}
