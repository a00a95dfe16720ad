import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** The service as a separate process. Disposing of it shuts it down. */
export interface ServiceProcess extends AsyncDisposable {
  readonly pid: number;
  readonly url: string;
  /** From the start of the process until `/readyz` answered 200. */
  readonly secondsToReady: number;
}

const project = join(import.meta.dirname, "../../..");

/** Starts the compiled service on a free port, with these settings and otherwise the defaults. */
export async function startServiceProcess(settings: Readonly<Record<string, string>>): Promise<ServiceProcess> {
  const started = performance.now();
  const child = spawn(process.execPath, await startArguments(), {
    cwd: project,
    env: { PATH: process.env.PATH, HOST: "127.0.0.1", PORT: "0", ...settings },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "close");
  const url = await listeningUrl(child.stdout);
  if (url === undefined || child.pid === undefined) throw new Error("The service did not start");
  const { status } = await fetch(`${url}/readyz`);
  if (status !== 200) throw new Error(`The service is not ready: ${status}`);
  return {
    pid: child.pid,
    url,
    secondsToReady: (performance.now() - started) / 1000,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

/** The arguments that `npm start` passes to Node. */
async function startArguments(): Promise<string[]> {
  const { scripts } = JSON.parse(await readFile(join(project, "package.json"), "utf8")) as {
    scripts: { start: string };
  };
  const command = /\bnode (.+)$/.exec(scripts.start)?.[1];
  if (command === undefined) throw new Error("package.json does not tell how the service is started");
  return command.split(" ");
}

/** Reads the address from the first lines of the service's output, and discards the rest. */
async function listeningUrl(stdout: NodeJS.ReadableStream): Promise<string | undefined> {
  const lines = createInterface({ input: stdout });
  let port: string | undefined;
  for await (const line of lines) {
    port = /listens on http:\/\/localhost:(\d+)\b/.exec(line)?.[1];
    if (port !== undefined) break;
  }
  stdout.resume();
  return port && `http://127.0.0.1:${port}`;
}
