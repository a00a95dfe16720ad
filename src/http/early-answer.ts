import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** Limits for clients that continue to send after they got their response. */
export interface LingerLimits {
  readonly maxBytes: number;
  readonly maxSeconds: number;
  /** Maximum wait for the next byte, or for the client to close the connection. */
  readonly maxSilentSeconds: number;
  /**
   * Maximum number of such connections; one more closes the oldest. At most a quarter of the server's `maxConnections`.
   */
  readonly maxConnections: number;
}

/**
 * `maxBytes` is at least twice the largest allowed file, so that a refused file up to that size is read to its end. 64
 * MB at 110 kB/s take ten minutes. A silent client costs one connection and one timer, and makes room for the next.
 */
export const lingerLimits: LingerLimits = {
  maxBytes: 1024 ** 3,
  maxSeconds: 600,
  maxSilentSeconds: 10,
  maxConnections: 256,
};

/** Maximum wait for the next byte while the service stops. */
const maxSilentSecondsAtTheEnd = 1;

/**
 * The connections of a server whose clients got their response and are still sending. Many clients send everything
 * before they read (browsers, Java, .NET, Python). If the service closed the connection at once, it would be reset, and
 * the client would see a network error instead of the response. So the service closes only its own side, and reads and
 * discards the bytes (RFC 9112 section 9.6), until the client closes the connection or a limit is reached.
 */
export class LingeringConnections {
  readonly #server: Server;
  readonly #limits: LingerLimits;
  /** Oldest first, each with the timer that closes it if it is silent. */
  readonly #open = new Map<Socket, NodeJS.Timeout>();
  #maxSilentSeconds: number;

  constructor(server: Server, limits: LingerLimits) {
    this.#server = server;
    this.#limits = limits;
    this.#maxSilentSeconds = limits.maxSilentSeconds;
  }

  /** Closes the service's side of a connection after its response, and keeps the client's side open. */
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
    socket.removeAllListeners("data"); // stop parsing, so that no other request begins
    socket.on("data", () => {
      if (socket.bytesRead > bytesAtMost || performance.now() > endsAt) return this.#close(socket);
      this.#open.get(socket)?.refresh();
      // Let other connections have a turn of the event loop: the bytes of a fast client arrive in up to 32 reads at a
      // time.
      socket.pause();
      setImmediate(() => socket.resume());
    });
    socket.end();
    socket.resume();
    // node:http may have stopped reading at the handle, which the stream does not know (Node 24.21).
    socket._read(0);
  }

  /** Shortens the wait for silent clients, because the service is stopping. */
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
 * Makes sure that the client receives a response that is sent before the request body has arrived: the response has
 * `Connection: close`, and its connection lingers. Responses after the body are not changed. Call it once per request,
 * before anything can respond.
 */
export function closeAfterEarlyAnswer(
  request: IncomingMessage,
  response: ServerResponse,
  lingering: LingeringConnections,
): void {
  const { "content-length": contentLength, "transfer-encoding": transferEncoding } = request.headers;
  if (transferEncoding === undefined && Number(contentLength ?? 0) === 0) return;
  const writeHead = response.writeHead.bind(response);
  response.writeHead = (...head: unknown[]) => {
    // `complete` means that the whole body has arrived, read or not.
    response.shouldKeepAlive &&= request.complete;
    Reflect.apply(writeHead, undefined, head);
    return response;
  };
  // Runs before node:http's own listener, which reads without limit and then destroys the socket.
  response.prependOnceListener("finish", () => {
    const { socket } = request;
    if (request.readableEnded || socket.destroyed) return;
    // The reader is finished. The rest of the body is discarded.
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
 * Sends "100 Continue" when the body is first read, not earlier (RFC 9110 section 10.1.1). A client that is refused
 * before that does not have to send the body.
 */
export function continueWhenRead(request: IncomingMessage, response: ServerResponse): void {
  const read = request._read.bind(request);
  request._read = (size) => {
    request._read = read;
    if (!response.headersSent) response.writeContinue();
    read(size);
  };
}
