import type { IncomingMessage, ServerResponse } from "node:http";

/** What is still read of a body after its answer, so that a client that sends all before it listens gets to listen. */
const maxDrainBytes = 1024 * 1024;

/** How long a connection stays open after an early answer, for the answer to be read before the reset. */
const lingerMs = 500;

/**
 * Makes an answer that overtakes its request's body safe (RFC 9112 section 9.6): it says `Connection: close`, and
 * after it at most 1 MiB of the body is read, until the client is done or 500 ms have passed. Closing at once would
 * reset the connection, and the client might lose the answer; node:http alone would read the body to its end,
 * however long. An answer that comes after the body is not touched. To be called once for each request, before
 * anything can answer it.
 */
export function closeAfterEarlyAnswer(request: IncomingMessage, response: ServerResponse): void {
  const { "content-length": contentLength, "transfer-encoding": transferEncoding } = request.headers;
  if (transferEncoding === undefined && Number(contentLength ?? 0) === 0) return;
  const { shouldKeepAlive } = response;
  response.shouldKeepAlive = false;
  request.once("end", () => {
    response.shouldKeepAlive = shouldKeepAlive;
  });
  // Before node:http's own listener, which reads on without end and then destroys the socket.
  response.prependOnceListener("finish", () => {
    const { socket } = request;
    if (request.readableEnded || socket.destroyed) return;
    socket.destroySoon = () => socket.end();
    const timer = setTimeout(() => socket.destroy(), lingerMs);
    socket.once("close", () => clearTimeout(timer));
    let leftBytes = maxDrainBytes;
    request.on("error", () => {});
    request.once("end", () => socket.destroy());
    request.on("data", (chunk: Buffer) => {
      leftBytes -= chunk.length;
      if (leftBytes <= 0) request.pause();
    });
    request.read(0); // marks the body as taken care of: node:http leaves it alone
    request.resume();
  });
}
