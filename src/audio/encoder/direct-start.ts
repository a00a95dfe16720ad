import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { constants, setPriority } from "node:os";
import type { Readable } from "node:stream";
import type { Ffmpeg } from "./ffmpeg.ts";
import type { ChildLimits, ProcessEnd, StartedProcess } from "./started-process.ts";

/**
 * Comes first, because a signal that arrives earlier ends the child: Node starts children with no signal blocked, and
 * this program starts in less than half of Perl's time.
 */
export const blockSignals = ["/usr/bin/env", "--block-signal=INT,QUIT,TERM"];

/**
 * Runs a child in the kernel's idle class, because encoding uses every core that it gets, and requests have priority.
 * Such a child leaves a core as soon as another process needs it, and keeps it otherwise, which halves the switches
 * between ffmpeg's threads. If Linux groups processes by session (`sched_autogroup_enabled`), the class only has an
 * effect within one session. So the child stays in the service's session, and blocks the signals that a terminal or
 * supervisor sends to the whole session, because the service lets uploads finish. (`env` is from coreutils, `chrt` from
 * util-linux.)
 */
export const backgroundCommand = [...blockSignals, "/usr/bin/chrt", "--idle", "0"];

/**
 * Starts ffmpeg as a child of this process, where the system has no confinement.
 * @throws {Error} if the system has no pipes or memory left for it
 */
export function startDirectly(ffmpeg: Ffmpeg, limits: ChildLimits, args: readonly string[]): StartedProcess {
  const { background, prlimit } = ffmpeg;
  const bounds = [`--as=${limits.addressSpaceBytes}`, `--cpu=${limits.cpuSeconds}`, "--core=0", "--fsize=0"];
  const before = [...(background ?? []), ...(prlimit ? [prlimit, ...bounds] : [])];
  const [program, ...parameters] = [...before, ffmpeg.path, ...args];
  // On other systems, its own process group keeps the terminal's signals away from it.
  const child = spawnWithPipes(program!, parameters, { detached: !background });
  if (!background && child.pid !== undefined) lowerPriority(child.pid);
  // A broken pipe only means that the child is gone. How it ended tells why.
  for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.on("error", () => {});
  const ended = new Promise<ProcessEnd>((settle) => {
    child.once("error", (error) => settle({ code: null, signal: null, error: error.message }));
    child.once("close", (code, signal) => settle({ code, signal }));
  });
  return {
    pid: child.pid,
    stdin: child.stdin,
    stdout: child.stdout,
    stderr: child.stderr,
    get isKilled() {
      return child.killed;
    },
    ended,
    kill: () => void child.kill("SIGKILL"),
    hurry() {
      if (!background || child.pid === undefined) return;
      const args = ["--all-tasks", "--other", "--pid", "0", String(child.pid)];
      try {
        spawn("/usr/bin/chrt", args, { cwd: "/", env: {}, stdio: "ignore" }).on("error", () => {});
      } catch {
        // Without memory for a process, the encoder stays in the background.
      }
    },
  };
}

/**
 * Without file descriptors, `spawn` returns a child without pipes and emits the reason later. Without memory, it
 * throws.
 */
function spawnWithPipes(
  program: string,
  args: readonly string[],
  options: { readonly detached: boolean },
): ChildProcessWithoutNullStreams {
  const spawned = spawn(program, args, { ...options, cwd: "/", env: {}, stdio: ["pipe", "pipe", "pipe"] });
  spawned.on("error", () => {}); // handled by other listeners; without any listener, the error would end the service
  const { stderr }: { stderr: Readable | undefined } = spawned;
  if (!stderr) throw new Error("The system has no files left for pipes.");
  return spawned;
}

function lowerPriority(pid: number): void {
  try {
    setPriority(pid, constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // It has already ended.
  }
}
