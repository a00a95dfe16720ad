import { readFile } from "node:fs/promises";

/** Files that the service has open without any client: Node.js itself, its log, programs that it checks. */
const ownFiles = 32;

/** An encoder process has three pipes. */
const filesForEachEncoder = 3;

/**
 * How many connections may be open at once, so that idle ones leave files for the database and for encoders: of those
 * that the process may have open, all that nothing else needs, but a quarter at least. `undefined` where the system does
 * not say, or sets no limit.
 */
export async function connectionLimit(needs: {
  encoders: number;
  databaseConnections: number;
}): Promise<number | undefined> {
  const limits = await readFile("/proc/self/limits", "utf8").catch(() => "");
  const soft = /^Max open files +(\d+) /m.exec(limits)?.[1];
  if (soft === undefined) return undefined;
  const reserve = ownFiles + needs.databaseConnections + filesForEachEncoder * needs.encoders;
  return Math.max(Math.floor(Number(soft) / 4), Number(soft) - reserve);
}
