import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { chmod, lchown, mkdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { DataFolderInUseError, EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import { choosePostgresUser, mayEnter, type PostgresUser } from "./postgres-user.ts";

/** The folder with all data of the embedded PostgreSQL, locked for this service until it is disposed of. */
export interface DataFolder extends Disposable {
  /** Absolute, without symbolic links. */
  readonly path: string;
  /** A short name that is unique for this folder. */
  readonly id: string;
  /** Set if the service runs as root: the user who runs PostgreSQL and owns its files. */
  readonly user: PostgresUser | undefined;
}

/**
 * Finds or creates the data folder and locks it.
 *
 * @param dataDir the DATA_DIR setting; by default the folder is `data` in the project folder, or one below
 * /var/lib/web-user-music if root started the service and PostgreSQL's user may not enter the project folder
 * @throws {EmbeddedPostgresError} if another service uses the folder, or PostgreSQL cannot use it
 */
export async function openDataFolder(dataDir: string | undefined): Promise<DataFolder> {
  let path = resolve(dataDir ?? join(projectFolder(), "data"));
  const dataOwner = await stat(clusterFolder(path)).catch(() => undefined);
  const user = await choosePostgresUser(dataOwner);
  if (user && !(await mayEnter(nearestExistingFolder(path), user))) {
    if (dataDir !== undefined || dataOwner) {
      throw new EmbeddedPostgresError(
        `PostgreSQL does not run as root but as user ${user.name}, who may not enter ${path}. ` +
          "Choose a DATA_DIR outside of private folders, start the service as an ordinary user, or set DATABASE_URL.",
      );
    }
    path = join("/var/lib/web-user-music", `${basename(projectFolder())}-${shortHash(projectFolder())}`);
  }
  if (!user && dataOwner && dataOwner.uid !== process.getuid?.()) {
    throw new EmbeddedPostgresError(
      `The database in ${path} belongs to another user (uid ${dataOwner.uid}). Start the service as that user or ` +
        "as root, or choose another DATA_DIR.",
    );
  }
  await makeFolder(path, user).catch((error: unknown) => {
    throw unusable(path, error);
  });
  path = await realpath(path);
  const lock = lockFolder(path);
  if (user) await lchown(join(path, lockFile), user.uid, user.gid);
  return { path, id: folderId(path), user, [Symbol.dispose]: lock[Symbol.dispose] };
}

/** A short name that is unique for a data folder. */
export function folderId(path: string): string {
  return shortHash(path);
}

/** The folder with PostgreSQL's own data, inside the data folder. */
export function clusterFolder(dataFolder: string): string {
  return join(dataFolder, "postgres");
}

const lockFile = "service.lock";
const lockOwnerFile = "service.pid";

/**
 * Locks the folder, because two services would destroy it. The kernel holds the lock and releases it however the
 * service ends. Node offers such a lock only through SQLite: an open transaction on an empty database.
 */
function lockFolder(path: string): Disposable {
  const ownerFile = join(path, lockOwnerFile);
  let lock: DatabaseSync | undefined;
  try {
    lock = new DatabaseSync(join(path, lockFile), { timeout: 0 });
    lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
    rmSync(ownerFile, { force: true });
    writeFileSync(ownerFile, `${process.pid}\n`);
  } catch (error) {
    lock?.close();
    if (!isLockedBySomebodyElse(error)) throw unusable(path, error);
    const pid = existsSync(ownerFile) ? ` (process ${readFileSync(ownerFile, "utf8").trim()})` : "";
    throw new DataFolderInUseError(
      path,
      `Another service${pid} uses the data folder ${path}. Stop it, or give this one its own DATA_DIR.`,
      { cause: error },
    );
  }
  return {
    [Symbol.dispose]: () => {
      rmSync(ownerFile, { force: true });
      lock.close();
    },
  };
}

/** Whether the error is SQLITE_BUSY, the primary result code 5. */
function isLockedBySomebodyElse(error: unknown): boolean {
  return typeof error === "object" && error !== null && "errcode" in error && error.errcode === 5;
}

function unusable(path: string, cause: unknown): EmbeddedPostgresError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new EmbeddedPostgresError(
    `The data folder ${path} cannot be used. Choose another DATA_DIR. Reason: ${reason}`,
    {
      cause,
    },
  );
}

async function makeFolder(path: string, user: PostgresUser | undefined): Promise<void> {
  const first = await mkdir(path, { recursive: true });
  if (!user || first === undefined) return;
  // Root's umask may prevent others from entering folders that root creates.
  for (let folder = path; folder.startsWith(first); folder = dirname(folder)) await chmod(folder, 0o711);
}

function projectFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
}

function nearestExistingFolder(path: string): string {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ? path : nearestExistingFolder(dirname(path));
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 10);
}
