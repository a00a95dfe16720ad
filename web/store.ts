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

/** The result of a request, once it is stored or read. */
export async function promised<T>(request: IDBRequest<T>): Promise<T> {
  return await new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(request.error ?? new Error("The store failed.")));
  });
}
