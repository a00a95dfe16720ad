import type { Server } from "node:http";
import type { Socket } from "node:net";

/** Requests that wait for the answer to another one on their connection, of all connections. */
const maxWaiting = 4096;

/**
 * Begins a pipelined request (RFC 9112 section 9.3.2) when the answers to those before it are sent, and reads nothing
 * more of its connection until then. node:http hands on everything that it has read: thousands of requests would be
 * worked on behind one slow answer. Beyond the limit, which one connection's bytes at a time stay far below, the
 * connection that brings one more is closed; its client has to send again what was not answered.
 */
export function answerInTurn(server: Server): void {
  const [begin] = server.listeners("request");
  if (!begin) throw new Error("The server has no listener for requests yet.");
  server.removeAllListeners("request");
  const waitingOn = new Map<Socket, number>();
  let waiting = 0;
  const forget = (socket: Socket): void => {
    waiting -= waitingOn.get(socket) ?? 0;
    waitingOn.delete(socket);
  };

  server.on("request", (request, response) => {
    const { socket } = request;
    // The answer has its connection when those before it are sent.
    if (response.socket !== null) {
      begin.call(server, request, response);
      return;
    }
    if (socket.destroyed) return;
    if (waiting >= maxWaiting) {
      forget(socket);
      socket.destroy();
      return;
    }
    if (!waitingOn.has(socket)) socket.once("close", () => forget(socket));
    waiting++;
    waitingOn.set(socket, (waitingOn.get(socket) ?? 0) + 1);
    socket.pause();
    response.once("socket", () => {
      // Other connections get a turn of the event loop.
      setImmediate(() => {
        const left = waitingOn.get(socket);
        if (left === undefined || socket.destroyed) return;
        waiting--;
        waitingOn.set(socket, left - 1);
        if (left === 1) socket.resume();
        begin.call(server, request, response);
      });
    });
  });
}
