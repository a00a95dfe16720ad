import { execFile, spawn, type ChildProcessByStdio } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, cp, lchown, readdir, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import type { Readable } from "node:stream";
import { promisify } from "node:util";
import type { DataFolder } from "./data-folder.ts";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import { mayEnter, type PostgresUser } from "./postgres-user.ts";

/** PostgreSQL's programs, in a folder that the user who runs them can enter. */
export interface PostgresPrograms {
  readonly postgres: string;
  readonly initdb: string;
  /** For example `18.4`. */
  readonly version: string;
}

/**
 * Makes the programs in `installed` usable for PostgreSQL's user. If that user may not enter their folder (a checkout
 * below a private home folder), they are copied to the data folder, once per version.
 *
 * @throws {EmbeddedPostgresError} if they do not run on this machine
 */
export async function openPostgresPrograms(installed: string, dataFolder: DataFolder): Promise<PostgresPrograms> {
  const { user } = dataFolder;
  let bin = installed;
  if (user && !(await mayEnter(bin, user))) bin = await copyPrograms(dirname(bin), dataFolder.path, user);
  const postgres = join(bin, "postgres");
  const version = /\d+(\.\d+|\w+)/.exec(await runProgram(postgres, ["--version"], { user }))?.[0] ?? "";
  return { postgres, initdb: join(bin, "initdb"), version };
}

/** How to run one of the programs. */
interface RunOptions {
  readonly user: PostgresUser | undefined;
  readonly input?: string;
}

/**
 * Runs a program to its end and returns what it printed.
 *
 * @throws {EmbeddedPostgresError} with its last output, if it cannot be started or fails
 */
export async function runProgram(program: string, args: readonly string[], options: RunOptions): Promise<string> {
  const running = promisify(execFile)(...withoutNewPrivileges(program, args), howToSpawn(options.user));
  // It may end before it has read everything. Its exit code tells why.
  running.child.stdin?.on("error", () => {}).end(options.input ?? "");
  try {
    return (await running).stdout;
  } catch (error) {
    const reason = error instanceof Error ? error.message.trim().slice(-2048) : String(error);
    throw new EmbeddedPostgresError(
      `PostgreSQL's ${basename(program)} failed. Run npm ci again, or set DATABASE_URL. ${reason}`,
      { cause: error },
    );
  }
}

/**
 * Starts the server in its own process group, so that Ctrl-C in a terminal does not stop it before the service.
 *
 * @throws {EmbeddedPostgresError} if the system has no pipe left for its log
 */
export function spawnServer(program: string, args: readonly string[], user: PostgresUser | undefined): ServerProcess {
  const child = spawn(...withoutNewPrivileges(program, args), {
    ...howToSpawn(user),
    stdio: ["ignore", "ignore", "pipe"],
    detached: true,
  });
  child.on("error", () => {}); // without a listener, the error would end the service
  const { stderr }: { stderr: Readable | undefined } = child;
  if (!stderr)
    throw new EmbeddedPostgresError("PostgreSQL cannot be started, because the process has too many open files.");
  return child;
}

/** A server process whose log can be read. */
export type ServerProcess = ChildProcessByStdio<null, null, Readable>;

/** Prefixes the command with util-linux' program that drops privileges, if there is one. */
function withoutNewPrivileges(program: string, args: readonly string[]): [program: string, args: readonly string[]] {
  const setpriv = "/usr/bin/setpriv";
  return existsSync(setpriv) ? [setpriv, ["--no-new-privs", program, ...args]] : [program, args];
}

/**
 * The server allocates and frees megabytes for each row; by default, glibc would return them to the kernel each time.
 */
const memoryKept = String(32 * 1024 * 1024);

/** Spawn options: the given user, and no environment of the service that could change what a program does. */
function howToSpawn(user: PostgresUser | undefined) {
  return {
    cwd: "/",
    env: {
      LC_ALL: "C",
      PATH: process.env["PATH"],
      MALLOC_MMAP_THRESHOLD_: memoryKept,
      MALLOC_TRIM_THRESHOLD_: memoryKept,
    },
    ...(user && { uid: user.uid, gid: user.gid }),
  };
}

/**
 * The folder with the programs that `npm ci` installed.
 *
 * @throws {EmbeddedPostgresError} if there are none for this machine
 */
export async function installedBinFolder(): Promise<string> {
  const platform = `${process.platform}-${process.arch}`;
  try {
    // Not through the class in `embedded-postgres`, which stops the server at once on SIGTERM although uploads need it.
    const { postgres }: { postgres: string } = await import(`@embedded-postgres/${platform}`);
    return dirname(postgres);
  } catch (error) {
    throw new EmbeddedPostgresError(`No embedded PostgreSQL for ${platform} is installed. Set DATABASE_URL.`, {
      cause: error,
    });
  }
}

async function copyPrograms(native: string, dataFolder: string, user: PostgresUser): Promise<string> {
  const manifest: { version: string } = JSON.parse(await readFile(join(native, "..", "package.json"), "utf8"));
  const name = `programs-${manifest.version}`;
  const target = join(dataFolder, name);
  const present = (await readdir(dataFolder)).filter((entry) => entry.startsWith("programs-"));
  for (const entry of present) if (entry !== name) await rm(join(dataFolder, entry), { recursive: true });
  if (!present.includes(name)) {
    await cp(native, `${target}.new`, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (source) => extname(source) !== ".a",
    });
    await chownTree(`${target}.new`, user);
    await rename(`${target}.new`, target);
  }
  return join(target, "bin");
}

async function chownTree(root: string, { uid, gid }: PostgresUser): Promise<void> {
  await chmod(root, 0o700);
  await lchown(root, uid, gid);
  for (const entry of await readdir(root, { recursive: true })) await lchown(join(root, entry), uid, gid);
}
