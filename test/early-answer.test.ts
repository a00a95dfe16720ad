import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { Socket } from "node:net";
import { closeAfterEarlyAnswer } from "../src/http/early-answer.ts";
import { connectRaw, rawPost } from "./support/raw-http.ts";

describe("an answer before the request's body is read", () => {
  let server: Server;
  let port = 0;
  const bytesRead = new WeakMap<Socket, Promise<number>>();
  let lastSocket: Socket;
  beforeAll(async () => {
    server = createServer((request, response) => {
      closeAfterEarlyAnswer(request, response);
      response.end("early");
    });
    server.on("connection", (socket) => {
      lastSocket = socket;
      bytesRead.set(
        socket,
        new Promise((resolve) => {
          socket.once("close", () => resolve(socket.bytesRead));
        }),
      );
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    const address = server.address();
    if (address !== null && typeof address === "object") port = address.port;
  });
  afterAll(() => {
    server.close();
  });

  it("says that the connection closes, and closes it though the body never comes", async () => {
    using connection = await connectRaw(port);
    await connection.send(rawPost(Buffer.alloc(0), { "content-length": "1000" }));
    expect((await connection.answer())?.headers.get("connection")).toBe("close");
    await connection.ended();
    expect(await bytesRead.get(lastSocket)).toBeLessThan(1000);
  });

  it("reads little more of a long body", async () => {
    using connection = await connectRaw(port);
    void connection.send(rawPost(Buffer.alloc(50_000_000)));
    expect((await connection.answer())?.status).toBe(200);
    expect(await bytesRead.get(lastSocket)).toBeLessThan(2_000_000);
  });

  it("closes without a reset after a short body", async () => {
    using connection = await connectRaw(port);
    const closed = once(connection.socket, "close");
    await connection.send(rawPost(Buffer.alloc(500_000)));
    expect((await connection.answer())?.body).toBe("early");
    expect(await closed).toEqual([false]); // no error
  });

  it("keeps the connection of a request that has no body", async () => {
    using connection = await connectRaw(port);
    for (const method of ["GET", "POST"]) {
      await connection.send(`${method} / HTTP/1.1\r\nhost: localhost\r\n\r\n`);
      expect((await connection.answer())?.headers.get("connection")).toBe("keep-alive");
    }
  });
});
