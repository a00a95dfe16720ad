import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "@jest/globals";
import { CoalescedRequest } from "../src/http/coalesced-body.ts";
import { connectRaw, httpChunk, rawPost } from "./support/raw-http.ts";
import { until } from "./support/until.ts";

/** A server, a connection to it, and the requests that have begun. */
async function startServer() {
  await using opening = new AsyncDisposableStack();
  const requests: IncomingMessage[] = [];
  const server = createServer({ IncomingMessage: CoalescedRequest }, (request, response) => {
    requests.push(request);
    request.on("end", () => response.end("done"));
  }).listen(0, "127.0.0.1");
  opening.defer(() => server.close().closeAllConnections());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const connection = opening.use(await connectRaw(port));
  const open = opening.move();
  return { port, connection, requests, [Symbol.asyncDispose]: async () => await open.disposeAsync() };
}

/** The next request, when it has begun. */
async function begun(requests: IncomingMessage[]): Promise<IncomingMessage> {
  await until(
    () => requests.length,
    (count) => count > 0,
  );
  return requests.shift()!;
}

/** Bytes of which a lost, doubled or swapped piece shows. */
const body = Buffer.from(Array.from({ length: 40_000 }, (_, i) => (i * 31 + (i >> 8) * 7) & 255));

/** A request with the body in chunks of these lengths, over and over. */
function chunkedPost(lengths: readonly number[], content = body): Buffer {
  const pieces = [rawPost(Buffer.alloc(0), { "content-length": undefined, "transfer-encoding": "chunked" })];
  for (let at = 0, next = 0; at < content.length; next += 1) {
    const end = at + lengths[next % lengths.length]!;
    pieces.push(httpChunk(content.subarray(at, end)));
    at = end;
  }
  return Buffer.concat([...pieces, httpChunk(Buffer.alloc(0))]);
}

describe("a body", () => {
  it.each([[[1]], [[1023]], [[1024]], [[1, 1024, 1, 1, 5000]], [[3, 700, 900, 1023]], [[40_000]]])(
    "in chunks of %j is read byte for byte, and the request after it as well",
    async (lengths) => {
      await using server = await startServer();
      const { connection, requests } = server;
      const both = Buffer.concat([chunkedPost(lengths), rawPost(body.subarray(0, 100))]);
      const sending = connection.send(both);
      for (const expected of [body, body.subarray(0, 100)]) {
        const pieces: Buffer[] = [];
        const request = await begun(requests);
        for await (const piece of request) pieces.push(piece);
        expect(Buffer.concat(pieces).equals(expected)).toBe(true);
        expect((await connection.answer())!.body).toBe("done");
      }
      await sending;
    },
  );

  it("in chunks of one byte comes in few pieces", async () => {
    await using server = await startServer();
    const { connection, requests } = server;
    await connection.send(chunkedPost([1]));
    let pieces = 0;
    const request = await begun(requests);
    request.on("data", () => (pieces += 1));
    await once(request, "end");
    expect(pieces).toBeLessThan(100);
  });

  it("is read before its end has come", async () => {
    await using server = await startServer();
    const { connection, requests } = server;
    await connection.send(rawPost(body.subarray(0, 3), { "content-length": "8" }));
    const request = await begun(requests);
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    for (let at = 3; at < 8; at += 1) {
      const arrived = await until(
        () => Buffer.concat(pieces).length,
        (bytes) => bytes >= at,
      );
      expect(arrived).toBe(at);
      await connection.send(body.subarray(at, at + 1));
    }
    expect((await connection.answer())!.body).toBe("done");
  });

  it("whose reader pauses waits in few pieces, also if each packet brings one byte", async () => {
    await using server = await startServer();
    const { connection, requests } = server;
    await connection.send(rawPost(body.subarray(0, 1), { "content-length": "1500" }));
    const request = await begun(requests);
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    await until(
      () => pieces.length,
      (count) => count > 0,
    );
    request.pause();
    const { socket } = request;
    for (let sent = 1; sent < 1500; sent += 1) {
      const { bytesRead } = socket;
      await connection.send(body.subarray(sent, sent + 1));
      while (socket.bytesRead === bytesRead) await turn();
    }
    request.resume();
    await once(request, "end");
    expect(Buffer.concat(pieces).equals(body.subarray(0, 1500))).toBe(true);
    expect(pieces.length).toBeLessThan(10);
    expect((await connection.answer())!.body).toBe("done");
  });

  it.each([1, 900])(
    "in chunks of %d bytes that nobody reads yet stops the connection, and is read later",
    async (length) => {
      await using server = await startServer();
      const { connection, requests } = server;
      const tenBodies = Buffer.concat(Array.from({ length: 10 }, () => body));
      const sending = connection.send(chunkedPost([length], tenBodies));
      const request = await begun(requests);
      const { socket } = request;
      await until(
        () => socket.isPaused(),
        (isPaused) => isPaused,
      );
      const { bytesRead } = socket;
      await turn();
      expect(socket.bytesRead).toBe(bytesRead);
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece);
      await sending;
      expect(Buffer.concat(pieces).equals(tenBodies)).toBe(true);
      expect((await connection.answer())!.body).toBe("done");
    },
  );

  it("in chunks of one byte is read from one connection in each turn of the event loop", async () => {
    await using server = await startServer();
    const { port, requests } = server;
    using connections = new DisposableStack();
    const count = 20;
    const flood = chunkedPost([1], Buffer.concat(Array.from({ length: 5 }, () => body)));
    for (let i = 0; i < count; i++) void connections.use(await connectRaw(port)).send(flood);
    await until(
      () => requests.length,
      (begun) => begun === count,
    );
    const sockets = requests.map((request) => request.resume().socket);
    const bytesRead = () => sockets.map((socket) => socket.bytesRead);
    let most = 0;
    for (let before = bytesRead(), turns = 0; turns < 50; turns += 1) {
      await turn();
      const after = bytesRead();
      // In the first turns, each is read once.
      if (turns > 2) most = Math.max(most, after.filter((bytes, i) => bytes !== before[i]).length);
      before = after;
    }
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThan(5);
  });

  it("whose client goes away in the middle ends with an error, and no piece comes later", async () => {
    await using server = await startServer();
    const { connection, requests } = server;
    const post = chunkedPost([1]);
    await connection.send(post.subarray(0, 3000));
    const request = await begun(requests);
    connection.reset();
    const failure = await once(request, "error").then(([error]: unknown[]) => error as Error & { code?: string });
    expect(failure.code).toBe("ECONNRESET");
  });
});
