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

/** The key in the name of a take. */
export function keyOf(name: string): string {
  return name.split(".")[1] ?? "";
}

/**
 * A take of this device, or undefined if it is gone or has no sound.
 * @throws {Error} if it cannot be read now
 */
export async function findTake(name: string): Promise<Take | undefined> {
  const file = await fileOf(name);
  return file && file.size > headerBytes ? await takeOf(name, file) : undefined;
}

async function takeOf(name: string, file: Blob): Promise<Take> {
  const { sampleRateHz, channels } = readTakeFormat(await file.slice(0, headerBytes).arrayBuffer());
  const seconds = (file.size - headerBytes) / 2 / channels / sampleRateHz;
  return { name, key: keyOf(name), startedAt: Number.parseInt(name, 10), seconds, file };
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

/** The names of all takes of this device, also of those that a page is recording or sending. */
export async function namesOfTakes(): Promise<string[]> {
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

async function fileOf(name: string): Promise<Blob | undefined> {
  return (await fromFileSystem(name)) ?? (await fromDatabase(name));
}

async function fromFileSystem(name: string): Promise<Blob | undefined> {
  try {
    return await (await (await folder())?.getFileHandle(name))?.getFile();
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotFoundError") return undefined;
    throw error;
  }
}

function rowsOf(name: string): IDBKeyRange {
  return IDBKeyRange.bound([name], [name, Infinity]);
}

async function fromDatabase(name: string): Promise<Blob | undefined> {
  const db = await openStore().catch(() => undefined); // no database, no takes in it
  if (!db) return undefined;
  const take = await promised<{ sampleRateHz: number; channels: number } | undefined>(
    db.transaction("takes").objectStore("takes").get(name),
  );
  if (!take) return undefined;
  const rows = await promised<{ pcm: ArrayBuffer }[]>(
    db.transaction("blocks").objectStore("blocks").getAll(rowsOf(name)),
  );
  const pcm = new Blob(rows.map((row) => row.pcm));
  return new Blob([wavHeader(take, pcm.size), pcm], { type: "audio/wav" });
}
