import { afterEach, expect, it } from "@jest/globals";
import { once } from "node:events";
import type { Server } from "node:http";
import { createServer } from "node:http";
import { connect } from "node:net";
import { sendBytes } from "../src/http/send-bytes.ts";

type Source = (signal: AbortSignal) => AsyncGenerator<Buffer, void, undefined>;

let server: Server | undefined;

/** A server whose every answer is this source; `outcome` is how sending it ended. */
async function serve(
  source: Source,
  { stallSeconds = 30, contentLength = 300_000 } = {},
): Promise<{ port: number; outcome: Promise<unknown> }> {
  const head = { status: 200, headers: { "content-length": contentLength } };
  const ended = Promise.withResolvers<unknown>();
  server = createServer((_request, response) => {
    sendBytes(response, head, source, stallSeconds).then(
      () => ended.resolve("sent"),
      (error: unknown) => {
        ended.resolve(error);
        if (!response.headersSent) response.writeHead(500).end();
      },
    );
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const address = server.address();
  return { port: typeof address === "object" ? (address?.port ?? 0) : 0, outcome: ended.promise };
}

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

it("sends all bytes of its source", async () => {
  const { port, outcome } = await serve(async function* () {
    for (let count = 0; count < 3; count += 1) yield Buffer.alloc(100_000, count);
  });
  const answer = Buffer.from(await (await fetch(`http://127.0.0.1:${port}/`)).arrayBuffer());
  expect(answer.equals(Buffer.concat([0, 1, 2].map((count) => Buffer.alloc(100_000, count))))).toBe(true);
  expect(await outcome).toBe("sent");
});

it("lets its source use its memory again, however slowly the client takes what is in it", async () => {
  const pieceBytes = 8_000_000; // more than the system takes in for a client that does not read
  const memory = Buffer.alloc(pieceBytes);
  const begun = Promise.withResolvers<void>();
  const { port, outcome } = await serve(
    async function* () {
      for (let count = 1; count <= 3; count += 1) {
        begun.resolve();
        yield memory.fill(count);
      }
      memory.fill(0);
    },
    { contentLength: 3 * pieceBytes },
  );
  const client = connect(port, "127.0.0.1").pause();
  client.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  await begun.promise;
  for (let turn = 0; turn < 1000; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  const received: Buffer[] = [];
  for await (const bytes of client) received.push(bytes);
  const body = Buffer.concat(received).subarray(-3 * pieceBytes);
  expect(body.equals(Buffer.concat([1, 2, 3].map((count) => Buffer.alloc(pieceBytes, count))))).toBe(true);
  expect(await outcome).toBe("sent");
});

it("reads nothing for a pipelined request before its turn", async () => {
  let begun = 0;
  const pieceBytes = 8_000_000;
  const first = Promise.withResolvers<void>();
  const { port } = await serve(
    async function* () {
      begun += 1;
      first.resolve();
      yield Buffer.alloc(pieceBytes);
    },
    { contentLength: pieceBytes },
  );
  const client = connect(port, "127.0.0.1").pause();
  client.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20));
  await first.promise;
  for (let turn = 0; turn < 1000; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  expect(begun).toBe(1);
  let received = 0;
  for await (const bytes of client) {
    received += (bytes as Buffer).length;
    if (received > 20 * pieceBytes) break;
  }
  expect(begun).toBe(20);
});

it("leaves the answer open to an error when the source fails at once", async () => {
  const failure = new Error("no such row");
  // oxlint-disable-next-line require-yield
  const { port, outcome } = await serve(async function* () {
    throw failure;
  });
  expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(500);
  expect(await outcome).toBe(failure);
});

it("ends the connection when the source fails in the middle", async () => {
  const failure = new Error("no such row");
  const { port, outcome } = await serve(async function* () {
    yield Buffer.alloc(100_000);
    throw failure;
  });
  const answer = await fetch(`http://127.0.0.1:${port}/`);
  expect(answer.status).toBe(200);
  await expect(answer.arrayBuffer()).rejects.toMatchObject({ name: "TypeError" }); // as fetch fails
  expect(await outcome).toBe(failure);
});

it("stops the source as soon as the client goes away, even while it waits for bytes", async () => {
  const reason = Promise.withResolvers<unknown>();
  const { port, outcome } = await serve(async function* (signal) {
    yield Buffer.alloc(100_000);
    await new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => {
        reason.resolve(signal.reason);
        reject(signal.reason);
      });
    });
  });
  const client = connect(port, "127.0.0.1").on("error", () => {});
  client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await once(client, "data");
  client.destroy();
  expect(await reason.promise).toMatchObject({ code: "CLIENT_CLOSED_REQUEST" });
  expect(await outcome).toMatchObject({ code: "CLIENT_CLOSED_REQUEST" });
});

it("does not read ahead of a client that does not read", async () => {
  let sent = 0;
  const { port, outcome } = await serve(async function* () {
    for (;;) {
      sent += 1;
      yield Buffer.alloc(1_000_000);
    }
  });
  const client = connect(port, "127.0.0.1").on("error", () => {});
  client.pause();
  client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  let before = -1;
  // The kernel's buffers fill up, then nothing moves any more.
  while (before !== sent) {
    before = sent;
    for (let turn = 0; turn < 1_000; turn += 1) await new Promise(setImmediate);
  }
  expect(sent).toBeLessThan(30);
  client.destroy();
  expect(await outcome).toMatchObject({ code: "CLIENT_CLOSED_REQUEST" });
});

it("gives up a client that does not read for too long", async () => {
  const { port, outcome } = await serve(
    async function* () {
      for (;;) yield Buffer.alloc(1_000_000);
    },
    { stallSeconds: 1 },
  );
  const client = connect(port, "127.0.0.1").on("error", () => {});
  client.pause();
  client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  expect(await outcome).toMatchObject({ code: "CLIENT_CLOSED_REQUEST" });
  client.destroy();
});
