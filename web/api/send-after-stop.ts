import { resultOf, endpoint, unreachable, type Answer } from "./client.ts";
import { UploadDocument, type RowFragment, type UploadMutation } from "./operations.ts";

/** A file to send, and the key that makes a retry find what was stored. */
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

/** Sends a file. `onSent` is told how many of its bytes have left. */
export type Send = (outgoing: Outgoing, onSent: (bytes: number) => void, signal: AbortSignal) => Promise<Stored>;

/**
 * Sends a complete file with `uploadRecord`, by XMLHttpRequest, because fetch does not say how much has left.
 * @throws {ApiError}
 */
export const sendAfterStop: Send = async ({ file, name, key, token }, onSent, signal) => {
  const form = new FormData();
  const operations = { query: String(UploadDocument), variables: { file: null, idempotencyKey: key } };
  form.set("operations", JSON.stringify(operations));
  form.set("map", JSON.stringify({ 0: ["variables.file"] }));
  form.set("0", file, name);
  const request = new XMLHttpRequest();
  const answered = new Promise<void>((resolve, reject) => {
    request.addEventListener("load", () => resolve());
    request.addEventListener("error", () => reject(unreachable()));
    request.addEventListener("abort", () => reject(signal.reason as Error));
  });
  request.upload.addEventListener("progress", ({ loaded }) => onSent(Math.min(loaded, file.size)));
  request.open("POST", endpoint());
  request.setRequestHeader("authorization", `Bearer ${token}`);
  request.responseType = "json";
  const abort = (): void => request.abort();
  signal.addEventListener("abort", abort);
  try {
    signal.throwIfAborted();
    request.send(form);
    await answered;
  } finally {
    signal.removeEventListener("abort", abort);
  }
  const answer = (request.response ?? {}) as Answer<UploadMutation>;
  const { uploadRecord } = resultOf(answer, request.status);
  return uploadRecord!;
};
