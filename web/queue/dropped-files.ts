/** Most files of one drop. */
const maxFiles = 2000;

/** What a drop has. */
export interface FoundFiles {
  readonly files: readonly File[];
  /** Number of files and folders that could not be read. */
  readonly unread: number;
  /** Whether there were more than can be taken at once. */
  readonly isCut: boolean;
}

/**
 * The files of a drop or a paste, also those in folders. Hidden files in folders are left out. Call it in the event:
 * the browser empties the list afterwards.
 */
export async function filesOf(transfer: DataTransfer): Promise<FoundFiles> {
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const found = items.map((item) => item.webkitGetAsEntry() ?? item.getAsFile());
  const all = { files: [] as File[], unread: 0, isCut: false };
  for (const entry of found) {
    if (entry instanceof File) all.files.push(entry);
    else if (entry) await collect(entry, all);
  }
  return all;
}

async function collect(
  entry: FileSystemEntry,
  all: { files: File[]; unread: number; isCut: boolean },
  isInFolder = false,
): Promise<void> {
  if (isInFolder && entry.name.startsWith(".")) return;
  if (all.files.length >= maxFiles) {
    all.isCut = true;
    return;
  }
  try {
    await collectReadable(entry, all);
  } catch {
    all.unread += 1; // the others are taken all the same
  }
}

async function collectReadable(
  entry: FileSystemEntry,
  all: { files: File[]; unread: number; isCut: boolean },
): Promise<void> {
  if (isFile(entry)) {
    all.files.push(await new Promise<File>((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  if (!isFolder(entry)) return;
  const reader = entry.createReader();
  // It gives at most 100 entries at a time, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const one of some) await collect(one, all, true);
  }
}

function isFile(entry: FileSystemEntry): entry is FileSystemFileEntry {
  return entry.isFile;
}

function isFolder(entry: FileSystemEntry): entry is FileSystemDirectoryEntry {
  return entry.isDirectory;
}
