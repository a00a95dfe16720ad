import { execFile } from "node:child_process";
import { once } from "node:events";
import { request } from "node:http";
import { json } from "node:stream/consumers";
import { promisify } from "node:util";

/** Runs `docker compose` on the set-up of the current folder (docs/scale.md), and returns what it printed. */
export async function compose(...args: string[]): Promise<string> {
  return await docker("compose", ...args);
}

/** Runs `docker`. */
export async function docker(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)("docker", args, { maxBuffer: 2 ** 26 });
  return stdout.trim();
}

/** Ids of the running containers of a part of the set-up. */
export async function containersOf(part: string): Promise<string[]> {
  return (await compose("ps", "--quiet", part)).split("\n").filter(Boolean);
}

/** Runs a statement on one of the PostgreSQL servers, and returns its rows; columns are divided by "|". */
export async function psql(server: string, statement: string): Promise<string> {
  const program = ["psql", "--username", "web_user_music", "--no-align", "--tuples-only", "--command", statement];
  return await compose("exec", "-T", server, ...program);
}

/** CPU time that the containers of a part have taken since their start, with all of their processes, in seconds. */
export async function cpuSecondsOf(part: string): Promise<number> {
  const each = (await containersOf(part)).map(async (id) => {
    const socketPath = (process.env.DOCKER_HOST ?? "unix:///var/run/docker.sock").replace("unix://", "");
    const asked = request({ socketPath, path: `/containers/${id}/stats?stream=false&one-shot=true` }).end();
    const [answer] = await once(asked, "response");
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the Engine's API, GET /containers/{id}/stats
    const stats = (await json(answer)) as { cpu_stats: { cpu_usage: { total_usage: number } } };
    return stats.cpu_stats.cpu_usage.total_usage / 1e9;
  });
  return (await Promise.all(each)).reduce((sum, seconds) => sum + seconds, 0);
}
