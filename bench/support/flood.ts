/**
 * A process that floods a service, with the lowest priority, so that neither the measuring process nor the service is
 * delayed by it. Start it with {@link startFlood}.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { constants, setPriority } from "node:os";
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";

/** Stands for random UUIDs in a request. */
export const anyUuid = "00000000-0000-4000-8000-any-uuid-any";

/** What to send. */
export interface Flood {
  readonly port: number;
  readonly connections: number;
  /** A request, or the beginning of one; {@link anyUuid} in it becomes another one each time. */
  readonly request: string;
  /** How many are sent in all: each connection sends its next one when the one before is answered. */
  readonly total: number;
  /**
   * Instead of that: every connection sends the request once, and is kept for as long. One that the service closes is
   * opened again.
   */
  readonly holdSeconds?: number | undefined;
  /** Whether answers stay unread. */
  readonly isUnread?: boolean | undefined;
}

/** What came back: the number of responses by status; `closed` for connections that were closed without one. */
export type FloodOutcome = Readonly<Record<string, number>>;

/** Starts a flood in a process of its own, and waits until its connections are open. */
export async function startFlood(flood: Flood): Promise<{ readonly ended: Promise<FloodOutcome> }> {
  const child = fork(fileURLToPath(import.meta.url));
  child.send(flood);
  const ended = Promise.withResolvers<FloodOutcome>();
  const begun = Promise.withResolvers<void>();
  child.on("message", (message: FloodOutcome | "begun") => {
    if (message === "begun") begun.resolve();
    else ended.resolve(message);
  });
  child.once("exit", (code) => ended.reject(new Error(`The flood ended with ${code}`)));
  await begun.promise;
  return { ended: ended.promise };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  setPriority(constants.priority.PRIORITY_LOW);
  const [flood] = (await once(process, "message")) as [Flood];
  const outcome = await send(flood);
  process.send!(outcome, () => process.exit());
}

async function send({ port, connections, total, request, holdSeconds, isUnread }: Flood): Promise<FloodOutcome> {
  const counts: Record<string, number> = {};
  const count = (outcome: string): void => void (counts[outcome] = (counts[outcome] ?? 0) + 1);
  const endsAt = holdSeconds === undefined ? Infinity : performance.now() + holdSeconds * 1000;
  let left = holdSeconds === undefined ? total : Infinity;
  const isOver = (): boolean => left <= 0 || performance.now() >= endsAt;
  let open = 0;
  const all = Promise.withResolvers<void>();

  /** Sends requests on one connection until it is closed. */
  const useOne = async (): Promise<void> => {
    const socket = connect(port, "127.0.0.1").setEncoding("latin1");
    socket.on("error", () => {});
    let received = "";
    let missing = 0;
    let isWaiting = false;
    const next = (): void => {
      if (left <= 0) return void socket.destroy();
      left--;
      received = "";
      isWaiting = true;
      socket.write(
        request.replaceAll(anyUuid, () => randomUUID()),
        "latin1",
      );
    };
    const take = (bytes: string): void => {
      if (missing > 0) missing -= bytes.length;
      else {
        received += bytes;
        const end = received.indexOf("\r\n\r\n");
        if (end < 0) return;
        count(received.slice(9, 12));
        isWaiting = false;
        missing = Number(/^content-length: (\d+)/im.exec(received)?.[1] ?? 0) - (received.length - end - 4);
      }
      if (missing > 0) return;
      // The service reads and discards the rest of a refused request, until its client closes the connection.
      if (/^connection: close/im.test(received)) socket.destroy();
      else if (holdSeconds === undefined) next();
    };
    if (isUnread) socket.pause();
    else socket.on("data", take);
    socket.once("connect", () => {
      next();
      if (++open === connections) all.resolve();
    });
    await once(socket, "close");
    if (isWaiting) count("closed");
  };

  const keepOne = async (): Promise<void> => {
    do await useOne();
    while (!isOver());
  };
  const ended = Promise.all(Array.from({ length: connections }, keepOne));
  const over = new Promise<void>((resolve) => {
    if (holdSeconds !== undefined) setTimeout(resolve, holdSeconds * 1000);
  });
  await Promise.race([all.promise, ended, over]);
  process.send!("begun");
  await Promise.race([ended, over]);
  return counts;
}
