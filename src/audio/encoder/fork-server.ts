import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { Socket } from "node:net";
import { constants } from "node:os";
import type { ChildLimits, ProcessEnd, StartedProcess } from "./started-process.ts";

/** Pipes of each process: its standard input, output and error output. */
export const pipesEach = 3;

/** Pipes of a fork server, besides those of the processes. */
export const pipesOfServer = 2;

interface RunningFork {
  pid?: number;
  readonly end: (end: ProcessEnd) => void;
}

/**
 * A small process that starts others. A fork of the whole service stops it for some milliseconds; a fork of this one does
 * not. Node can pass no pipes to a process that runs, so this one gets those of all the processes that it may start when
 * it starts itself. It ends when they are used and the last process has ended. It ends with the service, and no process
 * outlives it. Its program is in `confinement.ts`.
 */
export class ForkServer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #commands: Socket;
  readonly #answers: Socket;
  /** The pipes of all processes, in order. */
  readonly #pipes: readonly Socket[];
  /** By place, which is the number of the start. */
  readonly #running = new Map<number, RunningFork>();
  #used = 0;
  #failure: string | undefined;
  #isGone = false;

  /**
   * @param starts how many processes it may start
   * @throws {Error} if the system has no pipes or memory left for it
   */
  constructor([program, ...args]: readonly string[], starts: number, options: { readonly detached: boolean }) {
    const pipes = Array.from({ length: starts * pipesEach }, () => "pipe" as const);
    const stdio = ["pipe" as const, "pipe" as const, "ignore" as const, ...pipes];
    this.#child = spawn(program!, args, { ...options, cwd: "/", env: {}, stdio });
    this.#child.on("error", (error) => (this.#failure = error.message));
    const sockets = Array.from(this.#child.stdio ?? []).filter((pipe) => pipe instanceof Socket);
    const [commands, answers, ...rest] = sockets;
    if (!commands || !answers) throw new Error("The system has no files left for pipes.");
    [this.#commands, this.#answers, this.#pipes] = [commands, answers, rest];
    this.#child.unref();
    for (const socket of sockets) {
      socket.unref();
      // A broken pipe only means that the process is gone.
      socket.on("error", () => {});
    }
    let begun = "";
    answers.on("data", (bytes: Buffer) => {
      const lines = (begun + bytes.toString()).split("\n");
      begun = lines.pop()!;
      for (const line of lines) this.#understand(line);
    });
    answers.once("close", () => this.#lose());
  }

  /** Whether it can start one more process. */
  get canStart(): boolean {
    return !this.#isGone && this.#used * pipesEach < this.#pipes.length;
  }

  /** Starts a process in the kernel's idle class, with low priority or with the fork server's own. */
  start(limits: ChildLimits, priority: "idle" | "low" | "normal", command: readonly string[]): StartedProcess {
    const { addressSpaceBytes, cpuSeconds } = limits;
    const place = this.#used++;
    const own = this.#pipes.slice(place * pipesEach, (place + 1) * pipesEach);
    const [stdin, stdout, stderr] = own;
    if (!stdin || !stdout || !stderr) throw new Error("The fork server has no pipes left.");
    for (const pipe of [this.#answers, ...own]) pipe.ref();
    const { promise, resolve } = Promise.withResolvers<ProcessEnd>();
    const running: RunningFork = { end: resolve };
    this.#running.set(place, running);
    const ended = endAndClose(promise, stdin, [stdout, stderr]);
    this.#tell("start", place, [String(addressSpaceBytes), String(cpuSeconds), priority, ...command]);
    let isKilled = false;
    return {
      get pid() {
        return running.pid;
      },
      stdin,
      stdout,
      stderr,
      get isKilled() {
        return isKilled;
      },
      ended,
      kill: () => {
        if (!this.#running.has(place)) return;
        isKilled = true;
        this.#tell("kill", place);
      },
      hurry: () => this.#tell("hurry", place),
    };
  }

  /** Ends it, and the processes that still run. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.ref();
    this.#answers.ref();
    this.#commands.destroy();
    if (!this.#isGone) await once(this.#answers, "close");
    if (this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    await once(this.#child, "exit");
  }

  /** Sends a command: its length, then its words. */
  #tell(what: "start" | "kill" | "hurry", place: number, words: readonly string[] = []): void {
    const command = Buffer.from([what, place, ...words].join("\0"));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(command.length);
    this.#commands.write(Buffer.concat([length, command]));
  }

  #understand(answer: string): void {
    const [what, place, ...rest] = answer.split(" ");
    const running = this.#running.get(Number(place));
    if (!running) return;
    if (what === "started") running.pid = Number(rest[0]);
    else if (what === "ended") this.#end(Number(place), endOf(Number(rest[0])));
    else this.#end(Number(place), { code: null, signal: null, error: rest.join(" ") });
  }

  #end(place: number, end: ProcessEnd): void {
    this.#running.get(place)?.end(end);
    this.#running.delete(place);
    if (this.#running.size > 0) return;
    this.#answers.unref();
    if (!this.canStart) this.#commands.end();
  }

  /** The fork server is gone, and all of its processes with it. */
  #lose(): void {
    this.#isGone = true;
    const error = this.#failure ?? "The process that had started it has ended.";
    for (const place of this.#running.keys()) this.#end(place, { code: null, signal: null, error });
    for (const unused of this.#pipes.slice(this.#used * pipesEach)) unused.destroy();
  }
}

/** Waits for the end and until the output was read, like a `ChildProcess` before it emits "close". */
async function endAndClose(ended: Promise<ProcessEnd>, stdin: Socket, outputs: readonly Socket[]): Promise<ProcessEnd> {
  const closed = outputs.map(async (output) => {
    if (!output.closed) await new Promise<void>((done) => output.once("close", () => done()));
  });
  const end = await ended;
  stdin.destroy();
  for (const output of outputs) if (output.readable) output.resume();
  await Promise.all(closed);
  return end;
}

/** What the status says that `wait` returns. */
function endOf(status: number): ProcessEnd {
  const number = status & 0x7f;
  if (number === 0) return { code: status >> 8, signal: null };
  const signal = Object.keys(constants.signals)
    .filter(isSignal)
    .find((name) => constants.signals[name] === number);
  if (signal) return { code: null, signal };
  return { code: null, signal: null, error: `It was ended by signal ${number}.` };
}

function isSignal(name: string): name is NodeJS.Signals {
  return name in constants.signals;
}
