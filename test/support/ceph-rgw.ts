import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { listProcesses } from "./processes.ts";
import { until } from "./until.ts";

/** A running Ceph RGW. */
export interface CephRgw extends AsyncDisposable {
  readonly url: string;
  readonly keys: { readonly accessKey: string; readonly secretKey: string };
  /** The keys of a user who may store 1 MiB. */
  readonly smallKeys: { readonly accessKey: string; readonly secretKey: string };
}

const script = join(import.meta.dirname, "../../../test/support/start-ceph-rgw.sh");

/** Starts one on loopback, with empty storage in memory. */
export async function startCephRgw(): Promise<CephRgw> {
  const folder = await mkdtemp(join(tmpdir(), "ceph-rgw-"));
  const [port, monitorPort] = [await freePort(), await freePort()];
  const stop = async (): Promise<void> => {
    const files = (await readdir(folder)).filter((name) => name.endsWith(".pid"));
    const pids = await Promise.all(files.map(async (name) => Number(await readFile(join(folder, name), "utf8"))));
    const running = async () => (await listProcesses()).filter(({ pid }) => pids.includes(pid));
    for (const { pid } of await running()) process.kill(pid, "SIGKILL");
    await until(running, (left) => left.length === 0);
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  const env = { ...process.env, D: folder, PORT: String(port), MON_PORT: String(monitorPort) };
  try {
    await promisify(execFile)("bash", [script], { env });
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url: `http://127.0.0.1:${port}`,
    keys: { accessKey: "musickey", secretKey: "musicsecret" },
    smallKeys: { accessKey: "smallkey", secretKey: "smallsecret" },
    [Symbol.asyncDispose]: stop,
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The server has no port");
  await new Promise((closed) => server.close(closed));
  return address.port;
}
