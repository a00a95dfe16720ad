import { existsSync } from "node:fs";
import { lchown, mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { clusterFolder, folderId, openDataFolder, type DataFolder } from "./data-folder.ts";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import { clearStalePidFile, endLeftoverServer } from "./postgres-processes.ts";
import {
  installedBinFolder,
  openPostgresPrograms,
  runProgram,
  spawnServer,
  type PostgresPrograms,
} from "./postgres-programs.ts";
import type { PostgresUser } from "./postgres-user.ts";
import { embeddedConnections } from "./server-connections.ts";
import { superviseServer, type EmbeddedPostgresLog } from "./supervised-server.ts";

/**
 * A running PostgreSQL server that belongs to the service. Disposing of it shuts it down and waits until it has ended.
 */
export interface EmbeddedPostgres extends AsyncDisposable {
  /** Its DATABASE_URL, which stays the same across restarts of the server. */
  readonly url: string;
  /** For example `18.4`. */
  readonly version: string;
  /** The data folder. */
  readonly dataDir: string;
  /** Resolves if the server ended by itself and could not be restarted. Never rejects. */
  readonly exited: Promise<Error>;
}

/** Options of {@link startEmbeddedPostgres}. */
interface EmbeddedPostgresOptions {
  /** The DATA_DIR setting; `undefined` means `data` in the project folder. */
  readonly dataDir: string | undefined;
  readonly log: EmbeddedPostgresLog;
}

const databaseName = "web_user_music";
const socketPort = 5432;
const unfinishedPrefix = "postgres.new-";

/**
 * Settings for a small machine, rows of up to 1 MiB, and commits that are on the disk. Sizes in PostgreSQL's notation.
 */
const serverSettings = {
  listen_addresses: "",
  unix_socket_permissions: "0700",
  max_connections: String(embeddedConnections),
  shared_buffers: "128MB",
  max_wal_size: "1GB",
  checkpoint_warning: "0",
  io_method: "sync",
  // Ends a statement soon after its client has disconnected.
  client_connection_check_interval: "5s",
  jit: "off",
  max_parallel_workers_per_gather: "0",
  max_logical_replication_workers: "0",
  timezone: "UTC",
  log_timezone: "UTC",
  log_destination: "stderr",
  logging_collector: "off",
  log_checkpoints: "off",
  log_line_prefix: "%b|",
  // Statements and details contain data of users.
  log_min_error_statement: "panic",
  log_error_verbosity: "terse",
};

/**
 * Starts the embedded PostgreSQL on its data folder, which is created on the first start, and keeps it running: if the
 * server ends by itself, it is restarted. It listens only on a Unix socket in a private folder.
 *
 * @throws {EmbeddedPostgresError} if another service uses the folder, or PostgreSQL cannot run
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { log } = options;
  await using undo = new AsyncDisposableStack();
  const installed = await installedBinFolder();
  const folder = undo.use(await openDataFolder(options.dataDir));
  const programs = await openPostgresPrograms(installed, folder);
  const clusterName = `web-user-music-${folder.id}`;
  const leftovers = await endLeftoverServer(clusterName);
  if (leftovers > 0)
    log.warn("The previous service was killed and left its PostgreSQL running; stopped that PostgreSQL");
  await removeUnfinishedClusters(folder.path);
  const cluster = clusterFolder(folder.path);
  if (!existsSync(cluster)) {
    log.info(`Creating a new database in ${cluster}`);
    await createCluster(programs, folder);
  }
  await checkMajorVersion(cluster, programs.version);
  const socketFolder = await makeSocketFolder(folder);
  undo.defer(async () => await rm(socketFolder, { recursive: true, force: true }));
  const args = ["-D", cluster].concat(
    Object.entries({
      ...serverSettings,
      cluster_name: clusterName,
      unix_socket_directories: `"${socketFolder.replaceAll('"', '""')}"`,
    }).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
  );
  const server = undo.use(
    await superviseServer(log, async () => {
      await endLeftoverServer(clusterName);
      await clearStalePidFile(cluster);
      return spawnServer(programs.postgres, args, folder.user);
    }),
  );
  const release = undo.move();
  return {
    url: socketUrl(socketFolder),
    version: programs.version,
    dataDir: folder.path,
    exited: server.exited,
    [Symbol.asyncDispose]: async () => await release.disposeAsync(),
  };
}

/**
 * The DATABASE_URL of the PostgreSQL that a running service has started in this data folder.
 * @param path absolute, without symbolic links, as in {@link DataFolderInUseError}
 */
export async function urlOfRunningPostgres(path: string): Promise<string> {
  // The fifth line is the folder of the socket, even if the service was started with a different TMPDIR.
  const lines = (await readFile(join(clusterFolder(path), "postmaster.pid"), "utf8").catch(() => "")).split("\n");
  return socketUrl(lines[4] || socketFolderOf(path));
}

function socketUrl(socketFolder: string): string {
  return `postgresql://${databaseName}@${encodeURIComponent(socketFolder)}:${socketPort}/${databaseName}`;
}

/**
 * Creates the cluster in a temporary folder and moves it when it is complete, so that a kill leaves nothing half-made.
 */
async function createCluster(programs: PostgresPrograms, { path, user }: DataFolder): Promise<void> {
  const aside = join(path, `${unfinishedPrefix}${process.pid}`);
  await makePrivateFolder(aside, user);
  await runProgram(
    programs.initdb,
    ["-D", aside, "-U", databaseName, "-A", "trust", "-E", "UTF8", "--no-locale"].concat([
      "--locale-provider=builtin",
      "--builtin-locale=C.UTF-8",
      "--no-instructions",
    ]),
    { user },
  );
  await runProgram(programs.postgres, ["--single", "-D", aside, "postgres"], {
    user,
    input: `CREATE DATABASE ${databaseName};\n`,
  });
  await rename(aside, clusterFolder(path));
  await using parent = await open(path);
  await parent.sync();
}

async function removeUnfinishedClusters(path: string): Promise<void> {
  for (const entry of await readdir(path)) {
    if (!entry.startsWith(unfinishedPrefix)) continue;
    // The initdb of a killed service may still write there for a second. The next start deletes what remains.
    await rm(join(path, entry), { recursive: true, force: true }).catch(() => {});
  }
}

async function checkMajorVersion(cluster: string, version: string): Promise<void> {
  const found = (await readFile(join(cluster, "PG_VERSION"), "utf8").catch(() => "")).trim();
  const major = version.split(".")[0];
  if (found === major) return;
  throw new EmbeddedPostgresError(
    found === ""
      ? `${cluster} does not contain a PostgreSQL database. Choose another DATA_DIR, or move that folder away.`
      : `The database in ${cluster} was created by PostgreSQL ${found}, and this is PostgreSQL ${major}. ` +
          `Choose another DATA_DIR, or move the data with pg_dump and pg_restore.`,
  );
}

async function makeSocketFolder({ path, user }: DataFolder): Promise<string> {
  const folder = socketFolderOf(path);
  await makePrivateFolder(folder, user);
  return folder;
}

/**
 * The folder for the socket: in the data folder, or in one for temporary files if the path would be too long for a
 * socket's address.
 */
function socketFolderOf(path: string): string {
  const name = `web-user-music-${folderId(path)}`;
  return [join(path, "socket"), join(tmpdir(), name)].find(fitsSocketAddress) ?? join("/tmp", name);
}

/** A socket's address may have 103 bytes on macOS and 107 on Linux. */
function fitsSocketAddress(folder: string): boolean {
  return Buffer.byteLength(join(folder, `.s.PGSQL.${socketPort}`)) <= 103;
}

/** Creates an empty folder that only PostgreSQL's user and root can enter. */
async function makePrivateFolder(folder: string, user: PostgresUser | undefined): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { mode: 0o700 });
  if (user) await lchown(folder, user.uid, user.gid);
}
