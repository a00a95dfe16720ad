import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";

/** The system user who runs PostgreSQL if the service runs as root, because PostgreSQL refuses to run as root. */
export interface PostgresUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Chooses the user who runs PostgreSQL: `undefined` (the service's own user), unless the service runs as root. Then it
 * is the owner of existing data, so that the service can be started as root once and as that user later.
 *
 * @param dataOwner owner of existing data
 * @throws {EmbeddedPostgresError} if the machine has no suitable user
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

/** Whether the user may enter a folder. The system decides, because of groups and ACLs. */
export async function mayEnter(folder: string, { uid, gid }: PostgresUser): Promise<boolean> {
  const entered = promisify(execFile)("/bin/sh", ["-c", 'cd -- "$1"', "sh", folder], { uid, gid, cwd: "/" });
  return await entered.then(
    () => true,
    () => false,
  );
}
