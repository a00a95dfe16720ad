import { describe, expect, it } from "@jest/globals";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import {
  closeAfterEarlyAnswer,
  LingeringConnections,
  lingerLimits,
  type LingerLimits,
} from "../src/http/early-answer.ts";
import { connectRaw, rawPost } from "./support/raw-http.ts";

describe("an answer before the request's body is read", () => {
  it("says that the connection closes, and closes it even if the body never arrives", async () => {
    await using server = await startServer();
    using connection = await connectRaw(server.port);
    await connection.send(rawPost(Buffer.alloc(0), { "content-length": "1000" }));
    expect((await connection.answer())?.headers.get("connection")).toBe("close");
    await connection.ended();
    await server.closed[0];
  });

  it("keeps the connection of a request that has no body, or whose body has already arrived", async () => {
    await using server = await startServer();
    using connection = await connectRaw(server.port);
    const request = (method: string) => `${method} / HTTP/1.1\r\nhost: localhost\r\n`;
    for (const text of [
      `${request("GET")}\r\n`,
      `${request("POST")}\r\n`,
      `${request("POST")}content-length: 4\r\n\r\nbody`,
    ]) {
      await connection.send(text);
      expect((await connection.answer())?.headers.get("connection")).toBe("keep-alive");
    }
  });

  it("closes without a reset after a body that was not read", async () => {
    await using server = await startServer();
    using connection = await connectRaw(server.port);
    const closed = once(connection.socket, "close");
    await connection.send(rawPost(Buffer.alloc(20_000_000)));
    expect((await connection.answer())?.body).toBe("early");
    expect(await closed).toEqual([false]); // no error
  });

  it("reads no more of a long body than its limit", async () => {
    await using server = await startServer({ maxBytes: 1_000_000 });
    using connection = await connectRaw(server.port, true);
    void connection.send(rawPost(Buffer.alloc(50_000_000)));
    expect((await connection.answer())?.body).toBe("early");
    expect(await server.closed[0]).toBeLessThan(3_000_000);
  });

  it("closes the connection of a client that sends nothing more and does not close it itself", async () => {
    await using server = await startServer({ maxSilentSeconds: 0.1 });
    using connection = await connectRaw(server.port, true);
    await connection.send(rawPost(Buffer.alloc(0), { "content-length": "1000" }));
    expect((await connection.answer())?.body).toBe("early");
    await server.closed[0];
  });

  it("closes the connection of a client that sends a byte now and then without end", async () => {
    await using server = await startServer({ maxSeconds: 0.2 });
    using connection = await connectRaw(server.port, true);
    await connection.send(rawPost(Buffer.alloc(0), { "content-length": "1000" }));
    const timer = setInterval(() => void connection.send("."), 10);
    expect(await server.closed[0]).toBeLessThan(1000);
    clearInterval(timer);
  });

  it.each([
    ["its limit", { maxConnections: 2 }, Infinity],
    ["a quarter of all connections", {}, 8],
  ])("keeps as many connections for this as %s, and closes the oldest for one more", async (_limit, limits, all) => {
    await using server = await startServer(limits, all);
    const open = [];
    for (let number = 0; number < 3; number++) {
      const connection = await connectRaw(server.port, true);
      open.push(connection);
      await connection.send(rawPost(Buffer.alloc(0), { "content-length": "1000" }));
      expect((await connection.answer())?.body).toBe("early");
    }
    await server.closed[0];
    expect(server.sockets.map(({ destroyed }) => destroyed)).toEqual([true, false, false]);
    for (const connection of open) connection[Symbol.dispose]();
  });

  it("waits for silent clients a second at most when the service stops", async () => {
    await using server = await startServer({ maxSilentSeconds: 10_000 });
    using connection = await connectRaw(server.port, true);
    await connection.send(rawPost(Buffer.alloc(0), { "content-length": "1000" }));
    await connection.ended();
    server.lingering.hurry();
    expect(await server.closed[0]).toBeLessThan(1000);
  });
});

interface EarlyServer extends AsyncDisposable {
  readonly port: number;
  readonly lingering: LingeringConnections;
  readonly sockets: readonly Socket[];
  /** The number of bytes that each connection had read when it was closed. */
  readonly closed: readonly Promise<number>[];
}

/** A server that answers every request at once. */
async function startServer(limits: Partial<LingerLimits> = {}, maxConnections = Infinity): Promise<EarlyServer> {
  const server = createServer((request, response) => {
    closeAfterEarlyAnswer(request, response, lingering);
    setImmediate(() => response.end("early")); // as the service does, after the first bytes of the body
  });
  const lingering = new LingeringConnections(server, { ...lingerLimits, ...limits });
  server.maxConnections = maxConnections;
  const sockets: Socket[] = [];
  const closed: Promise<number>[] = [];
  server.on("connection", (socket) => {
    sockets.push(socket);
    closed.push(new Promise((resolve) => socket.once("close", () => resolve(socket.bytesRead))));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    port: (server.address() as AddressInfo).port,
    lingering,
    sockets,
    closed,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await server[Symbol.asyncDispose]();
    },
  };
}
