import type { Server } from "node:http";
import type { Socket } from "node:net";

/**
 * Closes connections on which nothing has arrived yet, such as those that browsers open in advance. Node 24 does not count
 * them as idle, so `closeIdleConnections` leaves them open.
 */
export class UnusedConnections {
  /** All open connections, with the time at which each was opened. */
  readonly #sockets = new Map<Socket, number>();

  constructor(server: Server) {
    server.on("connection", (socket: Socket) => {
      this.#sockets.set(socket, performance.now());
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  /** Closes those that are a second old: what was sent on a younger one may still be on its way. */
  close(): void {
    const before = performance.now() - 1000;
    for (const [socket, openedAt] of this.#sockets) {
      if (socket.bytesRead === 0 && openedAt <= before) socket.destroy();
    }
  }
}
