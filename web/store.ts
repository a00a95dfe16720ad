let opening: Promise<IDBDatabase> | undefined;

/** The browser's database of the page: files that wait, and blocks of takes where there is no file system. */
export async function openStore(): Promise<IDBDatabase> {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("web-user-music", 1);
    request.addEventListener("upgradeneeded", () => {
      request.result.createObjectStore("files", { keyPath: "key" });
      request.result.createObjectStore("takes", { keyPath: "name" });
      request.result.createObjectStore("blocks", { keyPath: ["take", "at"] });
    });
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error ?? new Error("The store cannot be opened.")));
  });
  return await opening;
}

/** Stores a row. A full disk is noticed only when the transaction ends. */
export async function putRow(store: string, row: object): Promise<void> {
  const transaction = (await openStore()).transaction(store, "readwrite");
  transaction.objectStore(store).put(row);
  await new Promise<void>((resolve, reject) => {
    transaction.addEventListener("complete", () => resolve());
    transaction.addEventListener("abort", () => reject(transaction.error ?? new Error("The store failed.")));
  });
}

/** The result of a request. */
export async function promised<T>(request: IDBRequest<T>): Promise<T> {
  return await new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error ?? new Error("The store failed.")));
  });
}
