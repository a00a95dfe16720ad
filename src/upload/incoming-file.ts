import type { FileUpload } from "graphql-upload-minimal";
import { addAbortListener } from "node:events";
import type { Readable } from "node:stream";
import { cleanText } from "../input/plain-text.ts";
import { maxFileNameLength } from "../record/file-name.ts";

/** One file of a request, on its way in. Disposing of it gives up what has not been read. */
export interface IncomingFile extends Disposable {
  /** As the client wrote it, as one line without folders, of at most 255 characters; may be empty. */
  readonly fileName: string;
  /**
   * The bytes, once, as fast as they are taken.
   *
   * @throws {ServiceError} UPLOAD_TOO_LARGE, UPLOAD_STALLED, UPLOAD_INCOMPLETE, CLIENT_CLOSED_REQUEST or BAD_REQUEST
   * as the multipart reader found it; a source that ends without an error was whole.
   */
  bytes(): AsyncGenerator<Buffer, void, undefined>;
}

/**
 * Waits for the file's part to begin.
 *
 * @param signal when it is aborted, waiting and reading end at once with its reason.
 * @throws {ServiceError} as `bytes()` does, when the file does not come.
 */
export async function openIncomingFile(upload: Promise<FileUpload>, signal?: AbortSignal): Promise<IncomingFile> {
  signal?.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {}); // what is aborted after the file has begun is told by its stream
  let stream: Readable | undefined;
  // A listener that stayed would keep the signal, and through it all that it was made of.
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
  stream.on("error", () => {}); // told to whoever reads
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

/** A stream takes an Error only. */
function abortReason(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new Error("Aborted.", { cause: reason });
}
