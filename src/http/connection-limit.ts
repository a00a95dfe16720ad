import { readFile } from "node:fs/promises";

/** Files that the service has open without any client: for Node.js, the log, and programs that it checks. */
const ownFiles = 32;

/**
 * Maximum number of open connections, so that idle ones leave file descriptors for the database and the encoders: all
 * descriptors of the process that nothing else needs, but at least a quarter. `undefined` if the system has no limit or
 * does not tell it.
 */
export async function connectionLimit(needs: {
  encoderFiles: number;
  databaseConnections: number;
}): Promise<number | undefined> {
  const limits = await readFile("/proc/self/limits", "utf8").catch(() => "");
  const soft = /^Max open files +(\d+) /m.exec(limits)?.[1];
  if (soft === undefined) return undefined;
  const reserve = ownFiles + needs.databaseConnections + needs.encoderFiles;
  return Math.max(Math.floor(Number(soft) / 4), Number(soft) - reserve);
}
