import type { FileUpload } from "graphql-upload-minimal";
import { addAbortListener } from "node:events";
import type { Readable } from "node:stream";
import { cleanText } from "../input/plain-text.ts";
import { maxFileNameLength } from "../record/file-name.ts";

/** A file of a request that is arriving. Disposing of it abandons the bytes that have not been read. */
export interface IncomingFile extends Disposable {
  /** The client's file name as one line without folders, at most 255 characters. May be empty. */
  readonly fileName: string;
  /**
   * Yields the bytes once, as fast as they are read.
   *
   * @throws {ServiceError} UPLOAD_TOO_LARGE, UPLOAD_STALLED, UPLOAD_INCOMPLETE, CLIENT_CLOSED_REQUEST or BAD_REQUEST as
   * the multipart reader reports it. If the source ends without an error, the file is complete.
   */
  bytes(): AsyncGenerator<Buffer, void, undefined>;
}

/**
 * Waits for the file's part to begin.
 *
 * @param signal if it is aborted, waiting and reading end at once with its reason.
 * @throws {ServiceError} as `bytes()` does, if the file does not arrive.
 */
export async function openIncomingFile(upload: Promise<FileUpload>, signal?: AbortSignal): Promise<IncomingFile> {
  signal?.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {}); // after the file has begun, its stream reports the abort
  let stream: Readable | undefined;
  // A remaining listener would keep the signal, and everything that it refers to, in memory.
  using listening = new DisposableStack();
  if (signal) {
    listening.use(
      addAbortListener(signal, () => {
        aborted.reject(signal.reason);
        stream?.destroy(abortReason(signal));
      }),
    );
  }
  const file = await Promise.race([upload, aborted.promise]);
  stream = file.createReadStream();
  stream.on("error", () => {}); // the reader gets it
  const source = stream;
  const untilDisposed = listening.move();
  return {
    fileName: cleanText(file.filename, maxFileNameLength),
    async *bytes() {
      for await (const chunk of source) yield chunk;
    },
    [Symbol.dispose]() {
      untilDisposed.dispose();
      source.destroy();
    },
  };
}

/** A stream only accepts an Error. */
function abortReason(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new Error("Aborted.", { cause: reason });
}
