/** Most files of one drop. */
const maxFiles = 2000;

/**
 * The files of a drop or a paste, also those in folders. Hidden files in folders are left out. Call it in the event: the
 * browser empties the list afterwards.
 */
export async function filesOf(transfer: DataTransfer): Promise<File[]> {
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const found = items.map((item) => item.webkitGetAsEntry() ?? item.getAsFile());
  const files: File[] = [];
  for (const entry of found) {
    if (entry instanceof File) files.push(entry);
    else if (entry) await collect(entry, files);
  }
  return files;
}

async function collect(entry: FileSystemEntry, files: File[], isInFolder = false): Promise<void> {
  if (files.length >= maxFiles || (isInFolder && entry.name.startsWith("."))) return;
  if (isFile(entry)) {
    files.push(await new Promise<File>((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  if (!isFolder(entry)) return;
  const reader = entry.createReader();
  // It gives at most 100 entries at a time, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const one of some) await collect(one, files, true);
  }
}

function isFile(entry: FileSystemEntry): entry is FileSystemFileEntry {
  return entry.isFile;
}

function isFolder(entry: FileSystemEntry): entry is FileSystemDirectoryEntry {
  return entry.isDirectory;
}
