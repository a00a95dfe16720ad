import { readdir, readFile } from "node:fs/promises";

/** A process of the machine, as the kernel describes it (proc_pid_stat(5)). */
export interface RunningProcess {
  readonly pid: number;
  readonly parentPid: number;
  /** Its command line. */
  readonly args: string;
}

/** All processes, without those that have ended and only wait for their parent to notice. */
export async function listProcesses(): Promise<RunningProcess[]> {
  const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry));
  const processes = await Promise.all(pids.map(async (pid) => await describeProcess(Number(pid))));
  return processes.filter((each) => each !== undefined);
}

async function describeProcess(pid: number): Promise<RunningProcess | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    const args = (await readFile(`/proc/${pid}/cmdline`, "utf8")).replaceAll("\0", " ").trim();
    // The second field is a name in parentheses, which may contain any characters.
    const [state, parentPid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return state === "Z" ? undefined : { pid, parentPid: Number(parentPid), args };
  } catch {
    return undefined; // it ended meanwhile
  }
}
