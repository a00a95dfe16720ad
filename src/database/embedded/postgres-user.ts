import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";

/** The system user that PostgreSQL runs as when the service itself runs as root, which PostgreSQL refuses to do. */
export interface PostgresUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Chooses the user to run PostgreSQL as: `undefined`, meaning the service's own, unless the service runs as root.
 * Then it is whoever owns the data already, so that the service can be started as root once and as that user later.
 *
 * @param dataOwner owner of the data that exists already
 * @throws {EmbeddedPostgresError} when the machine has no user that could take it
 */
export async function choosePostgresUser(
  dataOwner: Omit<PostgresUser, "name"> | undefined,
): Promise<PostgresUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const users = (await readFile("/etc/passwd", "utf8").catch(() => ""))
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .map((line) => line.split(":"))
    .map(([name = "", , uid, gid]) => ({ name, uid: Number(uid) >>> 0, gid: Number(gid) >>> 0 }))
    .filter(({ uid }) => uid !== 0);
  if (dataOwner && dataOwner.uid !== 0) {
    const { uid, gid } = dataOwner;
    return { name: users.find((user) => user.uid === uid)?.name ?? String(uid), uid, gid };
  }
  const user = users.find(({ name }) => name === "postgres") ?? users.find(({ name }) => name === "nobody");
  if (user) return user;
  throw new EmbeddedPostgresError(
    "PostgreSQL does not run as root, and this machine has neither a user postgres nor a user nobody. " +
      "Start the service as an ordinary user, or set DATABASE_URL.",
  );
}

/** Whether the user may enter a folder, asked of the system itself because groups and ACLs have a say. */
export async function mayEnter(folder: string, { uid, gid }: PostgresUser): Promise<boolean> {
  const entered = promisify(execFile)("/bin/sh", ["-c", 'cd -- "$1"', "sh", folder], { uid, gid, cwd: "/" });
  return await entered.then(
    () => true,
    () => false,
  );
}
