/**
 * A process that floods a service, so that the measuring process is not delayed: it keeps `connections` open, and each
 * sends its next request when the one before is answered, until `total` have been sent. Start it with {@link startFlood}.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";

/** Stands for random UUIDs in a request. */
export const anyUuid = "00000000-0000-4000-8000-any-uuid-any";

/** What to send. */
export interface Flood {
  readonly port: number;
  readonly connections: number;
  readonly total: number;
  /** A request; {@link anyUuid} in it becomes another one each time. */
  readonly request: string;
}

/** What came back: the number of responses by status; `closed` for connections that were closed without one. */
export type FloodOutcome = Readonly<Record<string, number>>;

/** Starts a flood in a process of its own. */
export async function startFlood(flood: Flood): Promise<{ readonly ended: Promise<FloodOutcome> }> {
  const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(flood)]);
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
  const outcome = await send(JSON.parse(process.argv[2]!) as Flood);
  process.send!(outcome, () => process.disconnect());
}

async function send({ port, connections, total, request }: Flood): Promise<FloodOutcome> {
  const counts: Record<string, number> = {};
  const count = (outcome: string): void => void (counts[outcome] = (counts[outcome] ?? 0) + 1);
  let left = total;
  const one = async (): Promise<void> => {
    const socket = connect(port, "127.0.0.1").setEncoding("latin1");
    socket.on("error", () => {});
    let received = "";
    let missing = 0;
    const next = (): void => {
      if (left-- <= 0) return void socket.destroy();
      received = "";
      socket.write(
        request.replaceAll(anyUuid, () => randomUUID()),
        "latin1",
      );
    };
    socket.on("data", (bytes: string) => {
      if (missing > 0) missing -= bytes.length;
      else {
        received += bytes;
        const end = received.indexOf("\r\n\r\n");
        if (end < 0) return;
        count(received.slice(9, 12));
        missing = Number(/^content-length: (\d+)/im.exec(received)?.[1] ?? 0) - (received.length - end - 4);
      }
      if (missing <= 0) next();
    });
    socket.once("connect", next);
    await once(socket, "close");
    if (missing > 0 || received === "") count("closed");
  };
  const all = Array.from({ length: connections }, one);
  process.send!("begun");
  await Promise.all(all);
  return counts;
}
