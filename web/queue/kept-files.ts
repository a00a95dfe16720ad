import { openStore, promised, putRow } from "../store.ts";

/** A file of the queue that a reload must not lose. */
export interface KeptFile {
  readonly key: string;
  readonly name: string;
  readonly file: Blob;
}

/** Larger files are not copied into the browser's store: after a reload, they are chosen again. */
const maxKeptBytes = 300_000_000;

/** Keeps a file until {@link forgetFile}. Resolves with whether there was room for it. */
export async function keepFile(kept: KeptFile): Promise<boolean> {
  if (kept.file.size > maxKeptBytes) return false;
  try {
    await putRow("files", kept);
    return true;
  } catch {
    return false;
  }
}

/** Forgets a file. */
export async function forgetFile(key: string): Promise<void> {
  try {
    const db = await openStore();
    await promised(db.transaction("files", "readwrite").objectStore("files").delete(key));
  } catch {
    // It was not kept.
  }
}

/** The keys of the files that were kept, for example before a reload. */
export async function keptKeys(): Promise<string[]> {
  try {
    return (await promised((await openStore()).transaction("files").objectStore("files").getAllKeys())).map(String);
  } catch {
    return [];
  }
}

/** A file that was kept, or undefined if it was forgotten. */
export async function keptFile(key: string): Promise<KeptFile | undefined> {
  const db = await openStore();
  return await promised<KeptFile | undefined>(db.transaction("files").objectStore("files").get(key));
}
