import type { FastifyInstance } from "fastify";
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { createServer, type Server } from "node:net";

/** Where to listen. */
interface Place {
  readonly host: string;
  readonly port: number;
}

/**
 * Listens on every address of a host, such as 127.0.0.1 and ::1 of `localhost`. The app's one server handles all
 * connections, so that its limits and handlers apply to each. Fastify would make a further server without them.
 * @throws {Error} with a sentence for the operator, if the host is unknown, or its first address cannot be used
 */
export async function listenOn(app: FastifyInstance, place: Place): Promise<void> {
  await listen(app, place).catch((cause: unknown) => {
    throw new Error(whyNotListening(place, cause), { cause });
  });
}

async function listen(app: FastifyInstance, { host, port }: Place): Promise<void> {
  const [first = host, ...others] = await addressesOf(host);
  const listeners: Server[] = [];
  app.addHook("preClose", async () => {
    for (const listener of listeners) listener.close();
  });
  await app.listen({ host: first, port, backlog });
  const taken = app.server.address();
  const takenPort = typeof taken === "object" && taken ? taken.port : port;
  for (const address of others) {
    const listener = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      app.server.emit("connection", socket),
    );
    if (app.server.maxConnections) listener.maxConnections = app.server.maxConnections;
    try {
      listener.listen({ host: address, port: takenPort, backlog });
      await once(listener, "listening");
      listeners.push(listener);
      app.log.info(`Server listening at http://[${address}]:${takenPort}`);
    } catch (error) {
      app.log.info({ err: error }, `Not listening at ${address}, which is ${host} too`);
    }
  }
}

function whyNotListening({ host, port }: Place, cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (code === "EADDRINUSE") return `Port ${port} is used by another program. Stop it, or set PORT to another port.`;
  if (code === "EACCES") return `Port ${port} is for privileged programs only. Set PORT to a port above 1023.`;
  return `The service cannot listen on HOST ${host} (${String(code ?? cause)}).`;
}

/** Both loopback addresses for `localhost`, whatever the system's own list says (RFC 6761 section 6.3). */
async function addressesOf(host: string): Promise<string[]> {
  if (host === "localhost") return ["127.0.0.1", "::1"];
  return (await lookup(host, { all: true })).map(({ address }) => address);
}

/** Connections that may wait to be accepted. */
const backlog = 4096;
