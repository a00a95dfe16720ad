import { execFile } from "node:child_process";
import { appendFile, chmod, chown, mkdtemp, rm } from "node:fs/promises";
import { existsSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { choosePostgresUser } from "../../src/database/embedded/postgres-user.ts";

/** A PostgreSQL server with all its programs, as Debian installs it. The embedded one has no pg_dump. */
export interface SystemPostgres extends AsyncDisposable {
  /** A folder that its user may write to, and that goes with it. */
  readonly folder: string;
  /** The folder of its data. */
  readonly dataFolder: string;
  /** The address of one of its databases. */
  urlOf(database: string): string;
  /** Runs commands in a shell as the server's user, in the folder of the compiled project. Returns what they print. */
  run(commands: string, env?: Readonly<Record<string, string>>): Promise<string>;
  start(): Promise<void>;
  stop(mode: "fast" | "immediate"): Promise<void>;
}

const versionsFolder = "/usr/lib/postgresql";

/** The folder of the newest server's programs, if there is one. */
export function systemPostgresPrograms(): string | undefined {
  const versions = existsSync(versionsFolder) ? readdirSync(versionsFolder) : [];
  return versions
    .toSorted((one, other) => Number(other) - Number(one))
    .map((version) => join(versionsFolder, version, "bin"))
    .find((bin) => ["postgres", "pg_dump", "pg_basebackup"].every((name) => existsSync(join(bin, name))));
}

/**
 * Starts one with an empty cluster, or with what `fill` puts into the folder of its data.
 * @param settings lines of `postgresql.conf`, in which FOLDER stands for the folder
 */
export async function startSystemPostgres(
  settings: string,
  fill: (server: SystemPostgres) => Promise<unknown> = createCluster,
): Promise<SystemPostgres> {
  const bin = systemPostgresPrograms();
  if (bin === undefined) throw new Error("The programs of PostgreSQL are not installed");
  await using undo = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "system-postgres-"));
  undo.defer(async () => await rm(folder, { recursive: true }));
  const user = await choosePostgresUser(undefined);
  await chmod(folder, 0o711);
  if (user) await chown(folder, user.uid, user.gid);
  const dataFolder = join(folder, "data");
  const server: SystemPostgres = {
    folder,
    dataFolder,
    urlOf: (database) => `postgresql://postgres@${encodeURIComponent(folder)}/${database}`,
    async run(commands, env = {}) {
      const options = {
        cwd: join(import.meta.dirname, "../../.."),
        env: { PATH: `${bin}:${process.env.PATH}`, LC_ALL: "C", PGDATA: dataFolder, ...env },
        ...(user && { uid: user.uid, gid: user.gid }),
      };
      return (await promisify(execFile)("bash", ["-euo", "pipefail", "-c", commands], options)).stdout;
    },
    start: async () => void (await server.run(`pg_ctl start --wait --log="$PGDATA.log" >/dev/null`)),
    stop: async (mode) => void (await server.run(`pg_ctl stop --mode=${mode}`)),
    [Symbol.asyncDispose]: async () => {
      await server.stop("immediate").catch(() => {}); // a test may have stopped it
      await rm(folder, { recursive: true });
    },
  };
  await fill(server);
  const place = `listen_addresses = ''\nunix_socket_directories = '${folder}'\nfsync = off\n`;
  await appendFile(join(dataFolder, "postgresql.conf"), place + settings.replaceAll("FOLDER", folder));
  await server.start();
  undo.move();
  return server;
}

async function createCluster(server: SystemPostgres): Promise<void> {
  await server.run("initdb --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync");
}
