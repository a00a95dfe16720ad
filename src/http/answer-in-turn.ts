import type { Server } from "node:http";
import type { Socket } from "node:net";

/** Maximum number of pipelined requests, of all connections, that wait for an earlier response. */
const maxWaiting = 4096;

/**
 * Begins a pipelined request (RFC 9112 section 9.3.2) when the responses to the earlier ones have been sent, and does
 * not read from its connection until then. node:http by itself begins every request that it has read, so thousands of
 * them could run behind one slow response. When the limit is reached, the connection that sends one more request is
 * closed, and its client must repeat the unanswered requests. The bytes that one connection sends at a time are far
 * below the limit.
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
    // A response gets its connection when the earlier ones have been sent.
    if (response.socket !== null) {
      begin.call(server, request, response);
      return;
    }
    if (socket.destroyed) return;
    if (waiting >= maxWaiting) {
      dropRest(socket);
      socket.destroy(); // those of its requests that wait are kept, and counted, until it is closed
      return;
    }
    if (!waitingOn.has(socket)) socket.once("close", () => forget(socket));
    waiting++;
    waitingOn.set(socket, (waitingOn.get(socket) ?? 0) + 1);
    socket.pause();
    response.once("socket", () => {
      // Let other connections have a turn of the event loop.
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

/**
 * Drops the requests that node:http has read from this connection and not parsed yet. It would parse them all: 1600 for
 * 48 kB, which took 3 s on 500 connections. The result 2 stands for an upgrade, after which the parser stops. (Node
 * 24.21; `parser.pause()` has no effect inside of a callback.)
 */
function dropRest(socket: Socket): void {
  const { parser } = socket as Socket & { parser?: { onIncoming: () => number } | null };
  if (parser) parser.onIncoming = () => 2;
}
