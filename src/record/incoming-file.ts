import type { FileUpload } from "graphql-upload-minimal";

/** Longest file name that is kept, in characters. */
const maxFileNameLength = 255;

/** One file of a request, on its way in. Disposing of it gives up what has not been read. */
export interface IncomingFile extends Disposable {
  /** As the client wrote it, without folders, control characters and all beyond 255 characters; may be empty. */
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
 * @throws {ServiceError} as `bytes()` does, when the file does not come.
 */
export async function openIncomingFile(upload: Promise<FileUpload>): Promise<IncomingFile> {
  const file = await upload;
  const stream = file.createReadStream();
  return {
    fileName: cleanFileName(file.filename),
    async *bytes() {
      for await (const chunk of stream) yield chunk;
    },
    [Symbol.dispose]() {
      stream.destroy();
    },
  };
}

/** Percent-escapes and foreign charsets bring in what a part header cannot hold and a database cannot store. */
function cleanFileName(fileName: string): string {
  const characters = fileName.toWellFormed().replaceAll(/\p{Cc}/gu, "");
  return Array.from(characters).slice(0, maxFileNameLength).join("");
}
