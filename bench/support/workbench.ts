import { chmod, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "../../src/database/embedded/embedded-postgres.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { BareFfmpeg } from "./bare-ffmpeg.ts";
import { writeMusic } from "./music.ts";
import { startServiceProcess, type ServiceProcess } from "./service-process.ts";

/** What all groups of figures use. Disposing of it deletes everything that it created. */
export interface Workbench extends AsyncDisposable {
  /** Without the hour-long recording. */
  readonly quick: boolean;
  /** A folder for files of any kind, which is deleted with the workbench. */
  readonly folder: string;
  readonly databaseUrl: string;
  /** The id of PostgreSQL's first process, whose children do its work. */
  readonly postgresPid: number;
  readonly ffmpeg: BareFfmpeg;
  /** A WAV of music of this many seconds, created when it is first needed. */
  music(seconds: number): Promise<string>;
  /** The service with its defaults on the workbench's PostgreSQL. */
  startService(settings?: Readonly<Record<string, string>>): Promise<ServiceProcess>;
}

/**
 * Starts a PostgreSQL in a temporary folder. It is not a child of the service, whose CPU time includes its children.
 */
export async function openWorkbench({ quick }: { quick: boolean }): Promise<Workbench> {
  await using opening = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "web-user-music-bench-"));
  opening.defer(async () => await rm(folder, { recursive: true, force: true }));
  // If run as root, PostgreSQL runs as another user, who must be able to enter.
  await chmod(folder, 0o711);
  const dataDir = join(folder, "data");
  await mkdir(dataDir);
  const postgres = opening.use(await startEmbeddedPostgres({ dataDir, log: createLogger({ logLevel: "warn" }) }));
  const pidFile = await readFile(join(dataDir, "postgres/postmaster.pid"), "utf8");
  const ffmpeg = await BareFfmpeg.find();
  const made = new Map<number, string>();
  const open = opening.move();
  return {
    quick,
    folder,
    databaseUrl: postgres.url,
    postgresPid: Number.parseInt(pidFile, 10),
    ffmpeg,
    async music(seconds) {
      const path = made.get(seconds) ?? join(folder, `${seconds}.wav`);
      if (!made.has(seconds)) await writeMusic(path, seconds);
      made.set(seconds, path);
      return path;
    },
    startService: async (settings) => await startServiceProcess({ DATABASE_URL: postgres.url, ...settings }),
    [Symbol.asyncDispose]: async () => await open.disposeAsync(),
  };
}

/** Runs a task `count` times, `atOnce` of them at a time, and returns the seconds that all of it took. */
export async function secondsFor(
  count: number,
  atOnce: number,
  task: (index: number, client: number) => Promise<unknown>,
): Promise<number> {
  let next = 0;
  const started = performance.now();
  const clients = Array.from({ length: atOnce }, async (_, client) => {
    while (next < count) await task(next++, client);
  });
  await Promise.all(clients);
  return (performance.now() - started) / 1000;
}
