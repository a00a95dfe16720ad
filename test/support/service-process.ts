import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";

const main = join(import.meta.dirname, "../../src/main.js");

/** What a program of the service gets of this process's environment. */
export const programEnv = { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE };

/** The service as a process of its own, as it runs in production. Disposing of it ends it at once. */
export interface ServiceProcess extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly child: ChildProcess & { readonly pid: number };
  /** Everything that it has printed so far, line by line. */
  readonly log: readonly string[];
  /** Its exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
}

/** Starts it on a free port of this machine, and waits until it listens. */
export async function startServiceProcess(
  env: Readonly<Record<string, string>>,
  launcher: readonly string[] = [],
): Promise<ServiceProcess> {
  const { child, log, ended } = spawnService(env, launcher);
  const listening = Promise.withResolvers<string>();
  createInterface({ input: child.stdout! }).on("line", (line) => {
    log.push(line);
    const address = /Server listening at http:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1];
    if (address) listening.resolve(address);
  });
  const port = await Promise.race([listening.promise, ended.then(() => undefined)]);
  if (port === undefined) throw new Error(`The service did not start: ${log.join("\n")}`);
  return {
    url: `http://127.0.0.1:${port}`,
    port: Number(port),
    child,
    log,
    ended,
    async [Symbol.asyncDispose]() {
      // A second signal, a second later, ends it and its PostgreSQL at once.
      while (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGTERM");
        await Promise.race([ended, delay(300)]);
      }
    },
  };
}

/** Starts it and does not wait. `launcher` is a command in front of it, for instance one that sets limits. */
export function spawnService(
  env: Readonly<Record<string, string>>,
  launcher: readonly string[] = [],
): Pick<ServiceProcess, "child" | "ended"> & { readonly log: string[] } {
  const command = [...launcher, process.execPath, "--max-semi-space-size=8", main]; // as `npm start` does
  const child = spawn(command[0]!, command.slice(1), {
    env: { ...programEnv, HOST: "127.0.0.1", PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const log: string[] = [];
  createInterface({ input: child.stderr }).on("line", (line) => log.push(line));
  const ended = once(child, "exit").then(([code, signal]: (number | NodeJS.Signals)[]) => code ?? signal!);
  if (child.pid === undefined) throw new Error("The service cannot be spawned");
  return { child: Object.assign(child, { pid: child.pid }), log, ended };
}
