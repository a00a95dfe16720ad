import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { EmbeddedPostgresError } from "./embedded-postgres-error.ts";
import type { ServerProcess } from "./postgres-programs.ts";

/** Receives the server's log messages, for example a pino logger. */
export interface EmbeddedPostgresLog {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

const maxRestartsPerMinute = 5;
const maxRestartWaitMs = 5000;
/** What PostgreSQL says when the disk is full. That is not the server's fault, and ends when somebody makes room. */
const noRoom = /No space left on device/;
/** A clean shutdown writes everything to the data files, which takes a while on a slow disk. */
const stopGraceMs = 20_000;

interface RunningServer {
  readonly child: ServerProcess;
  /** Resolves with the reason when the server has ended. */
  readonly ended: Promise<string>;
}

/** A server that is kept running. Disposing of it shuts it down and waits until it has ended. */
interface SupervisedServer extends AsyncDisposable {
  /** Resolves if the server ended by itself and could not be restarted. Never rejects. */
  readonly exited: Promise<Error>;
}

/** Keeps one server running until disposed of. An error of the first start is thrown; later starts are retried. */
export async function superviseServer(
  log: EmbeddedPostgresLog,
  launch: () => Promise<ServerProcess>,
): Promise<SupervisedServer> {
  const gaveUp = Promise.withResolvers<Error>();
  const stopping = new AbortController();
  let current: RunningServer | undefined;
  const stopAtExit = () => current?.child.kill("SIGINT");

  const start = async () => {
    const child = await launch();
    const ready = Promise.withResolvers<void>();
    current = { child, ended: watch(child, log, ready.resolve) };
    if (stopping.signal.aborted) child.kill("SIGINT");
    const failure = await Promise.race([ready.promise, current.ended]);
    if (failure !== undefined) throw new EmbeddedPostgresError(`PostgreSQL did not start: ${failure}`);
    return current;
  };
  const keepRunning = async (first: RunningServer) => {
    let restarts: number[] = [];
    let reason = await first.ended;
    while (!stopping.signal.aborted) {
      const now = performance.now();
      restarts = restarts.filter((time) => now - time < 60_000).concat(now);
      if (restarts.length > maxRestartsPerMinute && !noRoom.test(reason)) {
        gaveUp.resolve(new EmbeddedPostgresError(`PostgreSQL keeps stopping by itself: ${reason}`));
        return;
      }
      log.error(`PostgreSQL stopped by itself and is being restarted: ${reason}`);
      try {
        // Retry at once, then after 0.2, 0.6, 1.4, 3 and, on a full disk, 5 s: the cause may be temporary.
        const waitMs = Math.min((2 ** restarts.length - 2) * 100, maxRestartWaitMs);
        await delay(waitMs, undefined, { signal: stopping.signal });
        const server = await start();
        log.info("PostgreSQL is running again");
        reason = await server.ended;
      } catch (error) {
        reason = error instanceof Error ? error.message : String(error);
      }
    }
  };
  const stop = async (kept: Promise<void>) => {
    stopping.abort();
    for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
      current?.child.kill(signal);
      const timer = new AbortController();
      const timeout = delay(stopGraceMs, "timeout", { signal: timer.signal }).catch(() => {});
      const outcome = await Promise.race([kept, timeout]);
      timer.abort();
      if (outcome !== "timeout") break;
      log.warn(`PostgreSQL has not stopped ${stopGraceMs / 1000} s after ${signal}`);
    }
    process.off("exit", stopAtExit);
  };

  const kept = keepRunning(await start());
  // Last resort if the service ends without disposing, for example because of an uncaught error.
  process.on("exit", stopAtExit);
  return { exited: gaveUp.promise, [Symbol.asyncDispose]: async () => await stop(kept) };
}

/**
 * Reads the server's log until it ends, reports when it accepts connections, and resolves with the reason why it ended.
 */
async function watch(child: ServerProcess, log: EmbeddedPostgresLog, onReady: () => void): Promise<string> {
  const lastLines: string[] = [];
  createInterface({ input: child.stderr }).on("line", (line) => {
    const [, process = "", severity = "", message = line] = /^([^|]*)\|([A-Z]+): +(.*)$/.exec(line) ?? [];
    const crashed = severity === "PANIC" || message.includes("terminated by signal");
    // Errors of statements are reported to the client, and may repeat data of users.
    if (process === "client backend" && !crashed) return;
    lastLines.push(message);
    if (lastLines.length > 5) lastLines.shift();
    if (message === "database system is ready to accept connections") {
      lastLines.length = 0;
      onReady();
    }
    if (crashed || ["WARNING", "ERROR", "FATAL"].includes(severity)) log.warn(`PostgreSQL: ${message}`);
    else log.debug(`PostgreSQL: ${message}`);
  });
  return await new Promise((resolve) => {
    child.once("error", (error) => resolve(error.message));
    // Its workers may survive a kill and keep the log open. Otherwise the reason is in the last lines.
    child.once("exit", (_, signal) => signal && resolve(signal));
    child.once("close", (code) => resolve([`exit code ${code}`, ...lastLines].join("; ")));
  });
}
