import type { FastifyInstance } from "fastify";
import type { UnusedConnections } from "./unused-connections.ts";

/** Closes the server. Responses that are still being sent at `time`, but at least one second from now, are cut off. */
export async function closeBy(app: FastifyInstance, unused: UnusedConnections, time: number): Promise<void> {
  const timer = setTimeout(() => app.server.closeAllConnections(), Math.max(1000, time - performance.now()));
  // node:http closes the connections that are idle now, but would keep one that becomes idle later.
  const idleTimer = setInterval(() => {
    app.server.closeIdleConnections();
    unused.close();
  }, 50);
  await app.close();
  clearInterval(idleTimer);
  clearTimeout(timer);
}
