import { openStore, promised } from "../store.ts";
import { takesFolder } from "./take-file.ts";
import { headerBytes, readTakeFormat, wavHeader } from "./wav-header.ts";

/** A take that is complete on this device. */
export interface Take {
  /** `<time it began, in ms>.<key>.wav`: the key makes a second upload find the first. */
  readonly name: string;
  readonly key: string;
  readonly startedAt: number;
  readonly seconds: number;
  readonly file: Blob;
}

/** The name of a new take. */
export function takeName(key: string, startedAt = Date.now()): string {
  return `${startedAt}.${key}.wav`;
}

/** The name of the file that is sent, such as `Recording 2026-11-27 09.12.05.wav`. It depends on the take alone. */
export function fileNameOf(startedAt: number): string {
  const two = (n: number): string => String(n).padStart(2, "0");
  const at = new Date(startedAt);
  const date = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  return `Recording ${date} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(".")}.wav`;
}

/** The lock that a page holds while it records a take, so that no other tab takes it for a lost one. */
export function lockOf(name: string): string {
  return `take ${name}`;
}

/** A take of this device, or undefined if it is gone or has no sound. */
export async function findTake(name: string): Promise<Take | undefined> {
  const file = (await fromFileSystem(name)) ?? (await fromDatabase(name));
  if (!file || file.size <= headerBytes) return undefined;
  const { sampleRateHz, channels } = readTakeFormat(await file.slice(0, headerBytes).arrayBuffer());
  const [startedAt = "0", key = ""] = name.split(".");
  const seconds = (file.size - headerBytes) / 2 / channels / sampleRateHz;
  return { name, key, startedAt: Number(startedAt), seconds, file };
}

/** The takes that no page is recording and that were not stored, oldest first. Those without sound are deleted. */
export async function lostTakes(): Promise<Take[]> {
  const locks = await (navigator.locks as LockManager | undefined)?.query();
  const held = new Set(locks?.held?.map(({ name }) => name));
  const found: Take[] = [];
  for (const name of await namesOfTakes()) {
    if (held.has(lockOf(name))) continue;
    const take = await findTake(name);
    if (take) found.push(take);
    else await deleteTake(name);
  }
  return found.toSorted((a, b) => a.startedAt - b.startedAt);
}

/** Deletes a take from this device. */
export async function deleteTake(name: string): Promise<void> {
  await (await folder())?.removeEntry(name).catch(() => {});
  try {
    const db = await openStore();
    const transaction = db.transaction(["takes", "blocks"], "readwrite");
    transaction.objectStore("takes").delete(name);
    transaction.objectStore("blocks").delete(rowsOf(name));
  } catch {
    // There is no database, so the take was not in it.
  }
}

async function folder(): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    return await (await navigator.storage.getDirectory()).getDirectoryHandle(takesFolder);
  } catch {
    return undefined;
  }
}

async function namesOfTakes(): Promise<string[]> {
  const names: string[] = [];
  const directory = await folder();
  if (directory) for await (const name of directory.keys()) names.push(name);
  try {
    const rows = await promised((await openStore()).transaction("takes").objectStore("takes").getAllKeys());
    names.push(...rows.map(String));
  } catch {
    // No database, no takes in it.
  }
  return names;
}

async function fromFileSystem(name: string): Promise<Blob | undefined> {
  try {
    return await (await (await folder())?.getFileHandle(name))?.getFile();
  } catch {
    return undefined;
  }
}

function rowsOf(name: string): IDBKeyRange {
  return IDBKeyRange.bound([name], [name, Infinity]);
}

async function fromDatabase(name: string): Promise<Blob | undefined> {
  try {
    const db = await openStore();
    const take = await promised<{ sampleRateHz: number; channels: number } | undefined>(
      db.transaction("takes").objectStore("takes").get(name),
    );
    if (!take) return undefined;
    const rows = await promised<{ pcm: ArrayBuffer }[]>(
      db.transaction("blocks").objectStore("blocks").getAll(rowsOf(name)),
    );
    const pcm = new Blob(rows.map((row) => row.pcm));
    return new Blob([wavHeader(take, pcm.size), pcm], { type: "audio/wav" });
  } catch {
    return undefined;
  }
}
