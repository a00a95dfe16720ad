import { spawn } from "node:child_process";
import { once } from "node:events";
import { chown, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./until.ts";

const recipe = join(import.meta.dirname, "../../../deploy/pgbouncer.ini");

/** The user that owns nothing. */
const nobody = 65_534;

/** A PgBouncer with the settings of the recipe in front of the server of a database. */
export interface PgBouncer extends AsyncDisposable {
  /** The database's address through it. */
  readonly url: string;
}

/** Starts it as the user to whom the server's socket belongs, because it refuses to run as root. */
export async function startPgBouncer(databaseUrl: string): Promise<PgBouncer> {
  const target = new URL(databaseUrl);
  const host = target.searchParams.get("host") ?? decodeURIComponent(target.hostname);
  const folder = await mkdtemp(join(tmpdir(), "pgbouncer-"));
  const owner = await stat(host.startsWith("/") ? host : folder);
  const [uid, gid] = [owner.uid || nobody, owner.gid || nobody];
  const isRoot = process.getuid?.() === 0;
  if (isRoot) await chown(folder, uid, gid);
  const port = await freePort();
  const password = target.password ? ` password='${decodeURIComponent(target.password)}'` : "";
  const server = `host=${host} port=${target.port || 5432} user=${target.username}${password}`;
  const settings = (await readFile(recipe, "utf8"))
    .replace(/^web_user_music = host=\S+ port=\S+ dbname=\S+/m, `* = ${server}`)
    .replace(/^listen_addr = .*/m, "listen_addr = 127.0.0.1\nunix_socket_dir =")
    .replace(/^listen_port = .*/m, `listen_port = ${port}`)
    .replace(/^auth_type = .*\nauth_file = .*/m, "auth_type = any")
    .replace(/^default_pool_size = .*/m, "default_pool_size = 4")
    .replace(/^server_lifetime = .*/m, "server_lifetime = 1");
  const file = join(folder, "pgbouncer.ini");
  await writeFile(file, settings);
  const path = `${process.env.PATH}:/usr/sbin`; // where Debian puts it
  const child = spawn("pgbouncer", [file], {
    env: { PATH: path },
    stdio: ["ignore", "ignore", "pipe"],
    ...(isRoot && { uid, gid }),
  });
  let log = "";
  child.stderr.on("data", (text) => (log += text));
  const ended = once(child, "exit");
  const isThere = async (): Promise<boolean> => {
    if (child.exitCode !== null) throw new Error(`PgBouncer has ended: ${log}`);
    const socket = connect(port, "127.0.0.1");
    return await once(socket, "connect").then(
      () => socket.destroy() !== undefined,
      () => false,
    );
  };
  await until(isThere, (there) => there);
  const url = new URL(`postgresql://127.0.0.1:${port}${target.pathname}`);
  url.username = target.username;
  return {
    url: url.href,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
      await rm(folder, { recursive: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
