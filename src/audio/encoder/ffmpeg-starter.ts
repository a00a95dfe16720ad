import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { counted, ServiceError } from "../../errors/errors.ts";
import { blockSignals, startDirectly } from "./direct-start.ts";
import type { Ffmpeg } from "./ffmpeg.ts";
import { ForkServer, pipesEach, pipesOfServer } from "./fork-server.ts";
import type { ChildLimits, StartedProcess } from "./started-process.ts";

/** How a child ended: its exit code or the signal that killed it, and the last 2 KiB of its stderr. */
export interface FfmpegEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** A running ffmpeg. Disposing of it kills the process, if it still runs, and waits until it has ended. */
export interface FfmpegProcess extends AsyncDisposable {
  readonly pid: number | undefined;
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Whether it was killed. It needs a moment to end. */
  readonly isKilled: boolean;
  /** Whether it has written to stderr so far. */
  readonly hasComplained: boolean;
  /** Resolves when the child has ended and its output was read or abandoned. It never rejects. */
  readonly ended: Promise<FfmpegEnd>;
  /** Moves the child out of the background, if the system allows it. */
  hurry(): void;
  /** Whether the child could run but gets no CPU time, rather than being stopped or stuck. False if that is unknown. */
  isStarved(): boolean;
}

const stderrTailBytes = 2048;

/** How many processes a fork server starts before the next one takes its place. Each takes six open files until then. */
const startsEach = 32;

/**
 * Starts ffmpeg without a shell, environment or terminal. It can write only to its pipes. Where the system has a
 * confinement, a fork server starts it. Dispose of it when all processes have ended, or were killed.
 */
export class FfmpegStarter implements AsyncDisposable {
  readonly #ffmpeg: Ffmpeg;
  readonly #limits: ChildLimits;
  #server: ForkServer | undefined;

  constructor(ffmpeg: Ffmpeg, limits: ChildLimits) {
    this.#ffmpeg = ffmpeg;
    this.#limits = limits;
  }

  /** @throws {ServiceError} `BUSY` if the system has no pipes or memory left for it */
  start(args: readonly string[]): FfmpegProcess {
    try {
      return asFfmpeg(this.#start(args));
    } catch (cause) {
      const retryAfterSeconds = 10;
      const sentence = `The service is overloaded; try again in ${counted(retryAfterSeconds, "second")}.`;
      throw new ServiceError("BUSY", sentence, { retryAfterSeconds }, { cause });
    }
  }

  /** Maximum of files that are open for so many processes, and while a fork server starts. */
  maxFiles(processes: number): number {
    const direct = processes * pipesEach;
    if (!this.#ffmpeg.confinement) return direct;
    return direct + processes * pipesOfServer + 2 * (pipesOfServer + startsEach * pipesEach + 1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server?.[Symbol.asyncDispose]();
  }

  #start(args: readonly string[]): StartedProcess {
    const { confinement, background, path } = this.#ffmpeg;
    if (!confinement) return startDirectly(this.#ffmpeg, this.#limits, args);
    if (!this.#server?.canStart) this.#server = openServer(confinement, background !== undefined);
    return this.#server.start(this.#limits, background ? "idle" : "low", [path, ...args]);
  }
}

/** Starts a fork server. If there are few files left, it is one for a single process. */
function openServer(confinement: readonly string[], blocksSignals: boolean): ForkServer {
  const command = [...(blocksSignals ? blockSignals : []), ...confinement];
  const options = { detached: !blocksSignals };
  try {
    return new ForkServer(command, startsEach, options);
  } catch {
    return new ForkServer(command, 1, options);
  }
}

function asFfmpeg(child: StartedProcess): FfmpegProcess {
  const { stdin, stdout } = child;
  let stderr = Buffer.alloc(0);
  child.stderr.on("data", (bytes: Buffer) => {
    stderr = Buffer.concat([stderr, bytes]).subarray(-stderrTailBytes);
  });
  const ended = child.ended.then(({ code, signal, error }) => ({ code, signal, stderr: error ?? stderr.toString() }));
  return {
    get pid() {
      return child.pid;
    },
    stdin,
    stdout,
    get isKilled() {
      return child.isKilled;
    },
    get hasComplained() {
      return stderr.length > 0;
    },
    ended,
    hurry: () => child.hurry(),
    isStarved: () => child.pid !== undefined && threadStates(child.pid).includes("R"),
    async [Symbol.asyncDispose]() {
      child.kill();
      // "close" would wait for pipes that are no longer read.
      for (const pipe of [stdin, stdout, child.stderr]) pipe.destroy();
      await ended;
    },
  };
}

/** State of each thread of a process: `R` runs or is ready, `S` and `D` wait, `T` is stopped (proc_pid_stat(5)). */
function threadStates(pid: number): string[] {
  try {
    const tasks = `/proc/${pid}/task`;
    return readdirSync(tasks).map(
      (task) => /\) (\w)/.exec(readFileSync(join(tasks, task, "stat"), "latin1"))?.[1] ?? "",
    );
  } catch {
    return []; // the process is gone, or this is not Linux
  }
}
