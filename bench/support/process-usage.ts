import { readFile, writeFile } from "node:fs/promises";

/** Linux reports CPU time in hundredths of a second, whatever the clock of the kernel (`getconf CLK_TCK`). */
const ticksPerSecond = 100;

/** CPU time of a process and of those of its children that have ended, in seconds (proc_pid_stat(5)). */
export async function cpuSeconds(pid: number | "self"): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  // The second field is a name in parentheses, which may contain any characters.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [utime, stime, cutime, cstime] = fields.slice(11, 15).map(Number);
  return (utime! + stime! + cutime! + cstime!) / ticksPerSecond;
}

/** Resident memory of a process, in bytes. */
export async function residentBytes(pid: number): Promise<number> {
  return await statusBytes(pid, "VmRSS");
}

/** Peak resident memory of a process since its start or {@link forgetPeak}, in bytes. */
export async function peakResidentBytes(pid: number): Promise<number> {
  return await statusBytes(pid, "VmHWM");
}

/** Resets the peak to the current value (proc_pid_clear_refs(5)). */
export async function forgetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, "5");
}

async function statusBytes(pid: number, name: string): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const kibibytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
  if (kibibytes === undefined) throw new Error(`The kernel does not tell ${name}`);
  return Number(kibibytes) * 1024;
}

/** CPU time of a process, its children and theirs, also of those that still run, in seconds. */
export async function cpuSecondsWithChildren(pid: number): Promise<number> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim().split(" ").filter(Boolean);
  // A child that has just ended is among those that are counted with its parent.
  const each = children.map(async (child) => await cpuSecondsWithChildren(Number(child)).catch(() => 0));
  const ofChildren = (await Promise.all(each)).reduce((sum, seconds) => sum + seconds, 0);
  return (await cpuSeconds(pid)) + ofChildren;
}
