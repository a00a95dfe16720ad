import { afterEach, beforeEach, describe, expect, it } from "@jest/globals";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Server } from "node:http";
import { createServer } from "node:http";
import { connect, type Socket } from "node:net";
import { promisify } from "node:util";
import { sendBytes, type ByteSource } from "../src/http/send-bytes.ts";
import { WaitingAnswers } from "../src/http/waiting-answers.ts";
import { until } from "./support/until.ts";

let server: Server | undefined;
const stopping = new AbortController().signal;
const mebibyte = 1024 * 1024;
/** Limits with which no client counts as slow, even on a busy machine. */
const patient = new WaitingAnswers({ maxBytes: 256 * mebibyte, stopping, patienceMs: 600_000 });

/** A server that sends this source in every response; `outcome` tells how sending ended. */
async function serve(
  source: ByteSource,
  { waiting = patient, contentLength = 300_000, idleMs = 72_000 } = {},
): Promise<{ port: number; outcome: Promise<unknown> }> {
  const head = { status: 200, headers: { "content-length": contentLength } };
  const ended = Promise.withResolvers<unknown>();
  server = createServer({ keepAliveTimeout: idleMs, keepAliveTimeoutBuffer: 0 }, (request, response) => {
    const address = request.url!;
    sendBytes(response, head, source, { waiting, address }).then(
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

it("lets its source reuse its memory, however slowly the client reads", async () => {
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

it("allows an error response if the source fails at once", async () => {
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

it("stops the source as soon as the client disconnects, even while it waits for bytes", async () => {
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
  // Nothing moves once the buffers of the kernel are full.
  while (before !== sent) {
    before = sent;
    for (let turn = 0; turn < 1_000; turn += 1) await new Promise(setImmediate);
  }
  expect(sent).toBeLessThan(30);
  client.destroy();
  expect(await outcome).toMatchObject({ code: "CLIENT_CLOSED_REQUEST" });
});

describe("a client that takes nothing for a while", () => {
  const size = 40 * mebibyte; // more than the system takes in for a client that does not read
  const content = randomBytes(size);
  const begun: { from: number; isSlow: boolean }[] = [];
  let ended = 0;

  async function* source(_signal: AbortSignal, place: { from: number; isSlow: boolean }): AsyncGenerator<Buffer> {
    begun.push(place);
    const pieceBytes = place.isSlow ? 64 * 1024 : mebibyte;
    try {
      for (let at = place.from; at < size; at += pieceBytes) {
        yield Buffer.from(content.subarray(at, Math.min(size, at + pieceBytes)));
      }
    } finally {
      ended += 1;
    }
  }

  function ask(port: number, path = "/"): Socket {
    const client = connect(port, "127.0.0.1").on("error", () => {});
    client.pause();
    client.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    return client;
  }

  beforeEach(() => {
    begun.length = 0;
    ended = 0;
  });

  it("gets the rest when it continues, and holds only one piece meanwhile", async () => {
    const waiting = new WaitingAnswers({ maxBytes: 256 * mebibyte, stopping, patienceMs: 50 });
    const { port, outcome } = await serve(source, { waiting, contentLength: size });
    const client = ask(port);
    await until(
      () => waiting.count,
      (count) => count === 1,
    );
    expect(begun).toEqual([{ from: 0, isSlow: false }]);
    expect(ended).toBe(1);
    const received: Buffer[] = [];
    for await (const bytes of client) received.push(bytes);
    expect(Buffer.concat(received).subarray(-size).equals(content)).toBe(true);
    expect(await outcome).toBe("sent");
    expect(waiting.count).toBe(0);
    expect(begun).toHaveLength(2);
    expect(begun[1]!.isSlow).toBe(true);
  });

  it("is ended when it reads nothing for a day", async () => {
    const waiting = new WaitingAnswers({ maxBytes: 256 * mebibyte, stopping, patienceMs: 10, maxWaitMs: 50 });
    const { port, outcome } = await serve(source, { waiting, contentLength: size });
    const client = ask(port);
    expect(await outcome).toMatchObject({ code: "CLIENT_CLOSED_REQUEST" });
    client.destroy();
  });

  it("is ended when the service stops, even if it begins to wait then", async () => {
    const stop = new AbortController();
    const waiting = new WaitingAnswers({ maxBytes: 256 * mebibyte, stopping: stop.signal, patienceMs: 50 });
    const { port, outcome } = await serve(source, { waiting, contentLength: size });
    const client = ask(port);
    await until(
      () => waiting.count,
      (count) => count === 1,
    );
    stop.abort();
    expect(await outcome).toMatchObject({ code: "SHUTTING_DOWN" });
    client.destroy();
    const place = Promise.withResolvers<unknown>();
    using _waits = waiting.wait("a", 1, place.resolve);
    expect(await place.promise).toMatchObject({ code: "SHUTTING_DOWN" });
  });

  it.each(["close", "keep-alive"])("keeps its connection when the system has the rest: %s", async (connection) => {
    const { port, outcome } = await serve(
      async function* () {
        yield Buffer.alloc(300_000);
      },
      { idleMs: 1 },
    );
    const client = connect(port, "127.0.0.1").pause();
    client.write(`GET / HTTP/1.1\r\nHost: a\r\nConnection: ${connection}\r\n\r\n`);
    expect(await outcome).toBe("sent");
    await new Promise((resolve) => setTimeout(resolve, 100)); // longer than it may be idle
    expect(await promisify(server!.getConnections.bind(server))()).toBe(1);
    client.end().resume();
    await once(client, "close");
  });
});

describe("the answers that wait", () => {
  it("make room: the one that has waited longest, of the address that holds most", () => {
    const waiting = new WaitingAnswers({ maxBytes: 5 * mebibyte, stopping });
    const ended: string[] = [];
    const wait = (name: string) => waiting.wait(name.slice(0, 3), 0.8 * mebibyte, () => ended.push(name));
    using _ann1 = wait("ann 1");
    const bob1 = wait("bob 1");
    using _bob2 = wait("bob 2");
    using _eve1 = wait("eve 1");
    using _bob3 = wait("bob 3");
    expect(ended).toEqual([]);
    using _eve2 = wait("eve 2");
    expect(ended).toEqual(["bob 1"]);
    bob1[Symbol.dispose]();
    using _eve3 = wait("eve 3");
    expect(ended).toEqual(["bob 1", "eve 1"]);
    expect(waiting.count).toBe(5);
  });

  it("are one at least, whatever it holds", () => {
    const waiting = new WaitingAnswers({ maxBytes: 1, stopping });
    const ended: string[] = [];
    using _first = waiting.wait("a", mebibyte, () => ended.push("first"));
    expect(ended).toEqual([]);
    using _second = waiting.wait("b", mebibyte, () => ended.push("second"));
    expect(ended).toEqual(["first"]);
  });
});
