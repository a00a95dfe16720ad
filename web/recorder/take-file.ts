import { putRow } from "../store.ts";
import { headerBytes, wavHeader } from "./wav-header.ts";

interface Format {
  readonly sampleRateHz: number;
  readonly channels: number;
}

/** A take that is being written. */
export interface TakeFile {
  append(pcm: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Reads what was written; absent where that is not possible. */
  readonly read?: (at: number, byteCount: number) => Uint8Array<ArrayBuffer>;
  /** Makes sure that what was appended survives the end of the browser. */
  flush(): Promise<void>;
  /** Writes the true sizes. */
  close(soundBytes: number): Promise<void>;
}

/** The file in a worker (File System, section 2.7): the library of types for pages does not have it. */
interface SyncAccessHandle {
  write(bytes: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  read(bytes: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  flush(): void;
  close(): void;
}

/** Folder of the takes in the browser's own file system. */
export const takesFolder = "takes";

/** Opens a take for writing, in a worker: in the browser's file system, or in its database where it has none. */
export async function openTakeFile(
  name: string,
  format: Format,
): Promise<{ file: TakeFile; store: "file" | "database" }> {
  try {
    return { file: await inFileSystem(name, format), store: "file" };
  } catch {
    return { file: await inDatabase(name, format), store: "database" };
  }
}

async function inFileSystem(name: string, format: Format): Promise<TakeFile> {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle(takesFolder, { create: true });
  const entry: FileSystemFileHandle & { createSyncAccessHandle?: () => Promise<SyncAccessHandle> } =
    await folder.getFileHandle(name, { create: true });
  if (!entry.createSyncAccessHandle) throw new Error("There is no synchronous access.");
  const handle = await entry.createSyncAccessHandle();
  let size = handle.write(wavHeader(format), { at: 0 });
  handle.flush();
  return {
    append: async (pcm) => {
      const written = handle.write(pcm, { at: size });
      size += written;
      if (written < pcm.length) throw new DOMException("The disk is full.", "QuotaExceededError");
    },
    read: (at, byteCount) => {
      const bytes = new Uint8Array(byteCount);
      return bytes.subarray(0, handle.read(bytes, { at }));
    },
    flush: async () => handle.flush(),
    close: async (soundBytes) => {
      handle.write(wavHeader(format, soundBytes), { at: 0 });
      handle.flush();
      handle.close();
    },
  };
}

/** A row of the database for each flush: never one growing row. */
async function inDatabase(name: string, { sampleRateHz, channels }: Format): Promise<TakeFile> {
  await putRow("takes", { name, sampleRateHz, channels });
  let [parts, at]: [Uint8Array<ArrayBuffer>[], number] = [[], headerBytes];
  const flush = async (): Promise<void> => {
    if (parts.length === 0) return;
    const pcm = await new Blob(parts).arrayBuffer();
    await putRow("blocks", { take: name, at, pcm });
    at += pcm.byteLength;
    parts = [];
  };
  return { append: async (pcm) => void parts.push(pcm), flush, close: flush };
}
