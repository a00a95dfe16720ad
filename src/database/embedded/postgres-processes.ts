import { execFile } from "node:child_process";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";

interface PostgresProcess {
  readonly pid: number;
  /** Whether it is the server itself rather than one of its workers. */
  readonly isPostmaster: boolean;
}

/**
 * Ends the remaining processes of a server whose service was killed: first by a clean shutdown, then by a quick one,
 * then by force. None of these loses committed data. The caller holds the lock of the data folder.
 *
 * @param clusterName the server's `cluster_name`, which is part of each of its processes' command lines
 * @returns how many processes there were
 */
export async function endLeftoverServer(clusterName: string): Promise<number> {
  const found = await findProcesses(clusterName);
  let left = found;
  for (const [sent, waitMs] of [
    ["SIGINT", 15_000],
    ["SIGQUIT", 5_000],
    ["SIGKILL", 5_000],
  ] as const) {
    // Workers without a postmaster cannot be asked to stop: for them, SIGINT means "cancel the query".
    const receivers = sent === "SIGINT" ? left.filter(({ isPostmaster }) => isPostmaster) : left;
    if (receivers.length === 0) continue;
    for (const { pid } of receivers) {
      signal(pid, sent);
      signal(pid, "SIGCONT");
    }
    const deadline = performance.now() + waitMs;
    do {
      await delay(20);
      left = await findProcesses(clusterName);
    } while (left.length > 0 && performance.now() < deadline);
    if (left.length === 0) return found.length;
  }
  if (left.length === 0) return found.length;
  throw new EmbeddedPostgresError(
    `An older PostgreSQL (process ${left.map(({ pid }) => pid).join(", ")}) uses the data folder and does not stop. Stop it, then start the service again.`,
  );
}

/**
 * Removes a `postmaster.pid` that would prevent PostgreSQL from starting although its server is gone: if another
 * program now has the process id (PostgreSQL itself handles the case that no program has it), or if it is incomplete.
 *
 * @throws {EmbeddedPostgresError} if a server that was started by hand runs there
 */
export async function clearStalePidFile(cluster: string): Promise<void> {
  const file = join(cluster, "postmaster.pid");
  const content = await readFile(file, "utf8").catch(() => undefined);
  if (content === undefined) return;
  const pid = /^(\d+)\n/.exec(content)?.[1];
  if (pid === undefined) {
    await rm(file);
    return;
  }
  if (!signal(Number(pid), 0)) return;
  const commandLine = (await commandLines()).get(Number(pid)) ?? "";
  if (commandLine.includes("postgres") && commandLine.includes(cluster)) {
    throw new EmbeddedPostgresError(
      `A PostgreSQL server (process ${pid}) that this service did not start uses ${cluster}. Stop it first.`,
    );
  }
  // PostgreSQL ignores the id of its parent process, but still checks that the shared memory named in the file is
  // unused. Removing the file would lose that second check.
  await writeFile(file, content.replace(pid, String(process.pid)));
}

async function findProcesses(clusterName: string): Promise<PostgresProcess[]> {
  return [...(await commandLines())]
    .filter(([, commandLine]) => commandLine.includes(clusterName))
    .map(([pid, commandLine]) => ({ pid, isPostmaster: !commandLine.startsWith("postgres: ") }));
}

async function commandLines(): Promise<Map<number, string>> {
  const lines = process.platform === "linux" ? await readProc() : await askPs();
  return new Map(lines.filter(([pid, commandLine]) => pid !== process.pid && commandLine !== ""));
}

async function readProc(): Promise<[number, string][]> {
  const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry));
  const lines: [number, string][] = [];
  // One at a time: the machine may have more processes than this process may open files.
  for (const pid of pids) {
    // A process may end between listing and reading.
    const commandLine = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    lines.push([Number(pid), commandLine.replaceAll("\0", " ").trim()]);
  }
  return lines;
}

async function askPs(): Promise<[number, string][]> {
  const { stdout } = await promisify(execFile)("ps", ["-A", "-ww", "-o", "pid=,command="], { maxBuffer: 64 << 20 });
  return stdout
    .split("\n")
    .map((line) => /^\s*(\d+)\s+(.*)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, pid, commandLine = ""]) => [Number(pid), commandLine]);
}

/** Sends a signal and returns whether there was such a process, including one that has ended but is still listed. */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}
