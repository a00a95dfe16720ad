import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** How long a client that has its answer may go on sending. */
export interface LingerLimits {
  readonly maxBytes: number;
  readonly maxSeconds: number;
  /** Longest wait for its next byte, or for it to close the connection. */
  readonly maxSilentSeconds: number;
  /** Connections at the same time; one more closes the oldest. A quarter of the server's `maxConnections` at most. */
  readonly maxConnections: number;
}

/**
 * A refused file of twice the largest size is read to its end, so `maxBytes` is no less than that; a file of 64 MB has
 * its ten minutes at 110 kB/s. A silent client costs a connection and a timer, and gives way to the next one.
 */
export const lingerLimits: LingerLimits = {
  maxBytes: 1024 ** 3,
  maxSeconds: 600,
  maxSilentSeconds: 10,
  maxConnections: 256,
};

/** The same wait while the service stops. */
const maxSilentSecondsAtTheEnd = 1;

/**
 * The connections of one server whose client has its answer and is still sending. Many clients send everything before
 * they read (browsers, Java, .NET, Python): closing at once would reset the connection, and they would see a network
 * failure in place of the answer. So the service ends its own side only, reads on and throws the bytes away (RFC 9112
 * section 9.6), until the client closes the connection or a limit is met.
 */
export class LingeringConnections {
  readonly #server: Server;
  readonly #limits: LingerLimits;
  /** The oldest first, each with the timer that closes a silent one. */
  readonly #open = new Map<Socket, NodeJS.Timeout>();
  #maxSilentSeconds: number;

  constructor(server: Server, limits: LingerLimits) {
    this.#server = server;
    this.#limits = limits;
    this.#maxSilentSeconds = limits.maxSilentSeconds;
  }

  /** Ends our side of a connection whose answer is written, and keeps the client's open. */
  add(socket: Socket): void {
    if (socket.destroyed || this.#open.has(socket)) return;
    const { maxBytes, maxSeconds, maxConnections } = this.#limits;
    const quarter = (this.#server.maxConnections ?? Infinity) / 4;
    for (const oldest of this.#open.keys()) {
      if (this.#open.size < Math.min(maxConnections, quarter)) break;
      this.#close(oldest);
    }
    const bytesAtMost = socket.bytesRead + maxBytes;
    const endsAt = performance.now() + maxSeconds * 1000;
    this.#watch(socket);
    socket.once("close", () => this.#forget(socket));
    socket.removeAllListeners("data"); // Nothing that comes is parsed any more, so no further request is begun.
    socket.on("data", () => {
      if (socket.bytesRead > bytesAtMost || performance.now() > endsAt) return this.#close(socket);
      this.#open.get(socket)?.refresh();
      // Other connections get a turn of the event loop: a fast client's bytes would come 32 reads at a time.
      socket.pause();
      setImmediate(() => socket.resume());
    });
    socket.end();
    socket.resume();
    // node:http may have stopped reading at the handle, of which the stream does not know (Node 24.21).
    socket._read(0);
  }

  /** The service stops, and waits for silent clients hardly any longer. */
  hurry(): void {
    this.#maxSilentSeconds = Math.min(this.#maxSilentSeconds, maxSilentSecondsAtTheEnd);
    for (const socket of this.#open.keys()) this.#watch(socket);
  }

  #watch(socket: Socket): void {
    clearTimeout(this.#open.get(socket));
    this.#open.set(
      socket,
      setTimeout(() => this.#close(socket), this.#maxSilentSeconds * 1000),
    );
  }

  #close(socket: Socket): void {
    this.#forget(socket);
    socket.destroy();
  }

  #forget(socket: Socket): void {
    clearTimeout(this.#open.get(socket));
    this.#open.delete(socket);
  }
}

/**
 * Makes an answer that overtakes its request's body safe: it says `Connection: close`, and its connection lingers. An
 * answer that comes after the body is not touched. To be called once for each request, before anything can answer it.
 */
export function closeAfterEarlyAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  lingering: LingeringConnections,
): void {
  const { "content-length": contentLength, "transfer-encoding": transferEncoding } = request.headers;
  if (transferEncoding === undefined && Number(contentLength ?? 0) === 0) return;
  let { shouldKeepAlive } = response;
  // Asked when the head of the answer is written; `complete` says that the whole body has arrived, read or not.
  Object.defineProperty(response, "shouldKeepAlive", {
    get: () => shouldKeepAlive && request.complete,
    set: (value: boolean) => {
      shouldKeepAlive = value;
    },
  });
  // Before node:http's own listener, which reads on without end and then destroys the socket.
  response.prependOnceListener("finish", () => {
    const { socket } = request;
    if (request.readableEnded || socket.destroyed) return;
    // Whoever read has its answer. What is left of the body is thrown away.
    request.removeAllListeners("data");
    request.on("error", () => {});
    if (request.complete) {
      request.resume();
    } else {
      socket.destroySoon = () => socket.end();
      lingering.add(socket);
    }
  });
}

/**
 * Says "100 Continue" when the body is first read, and not before (RFC 9110 section 10.1.1): whoever is refused without
 * it need not send it.
 */
export function continueWhenRead(request: IncomingMessage, response: ServerResponse): void {
  const read = request._read.bind(request);
  request._read = (size) => {
    request._read = read;
    if (!response.headersSent) response.writeContinue();
    read(size);
  };
}
