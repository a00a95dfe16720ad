import { fastify } from "fastify";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, IncomingMessage, type RequestListener, type Server, type ServerOptions } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { Readable, Writable } from "node:stream";
import { describe, expect, it } from "@jest/globals";
import { ServiceError } from "../src/errors/errors.ts";
import { readMultipartRequest } from "../src/graphql/multipart-request.ts";
import { answerErrors } from "../src/http/answer-errors.ts";
import { answerInTurn } from "../src/http/answer-in-turn.ts";
import { AnswerMemory } from "../src/http/answer-memory.ts";
import { UnvouchedBytes } from "../src/memory/unvouched-bytes.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import {
  connectRaw,
  exchange,
  fieldPart,
  filePart,
  httpChunk,
  multipartBody,
  rawPost,
  type RawConnection,
} from "./support/raw-http.ts";
import { fillLibrary } from "./support/seed-records.ts";
import { startService } from "./support/service.ts";
import { startServiceProcess, type ServiceProcess } from "./support/service-process.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { beginTransaction } from "./support/transaction.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const asJson = { "content-type": "application/json" };
const chunked = { "content-length": undefined, "transfer-encoding": "chunked" };

/** Connections that are closed together. */
class Connections implements Disposable {
  readonly all: RawConnection[] = [];

  async open(port: number, count: number, bytes: Buffer, { reads } = { reads: true }): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, async () => {
        const connection = await connectRaw(port);
        if (!reads) connection.socket.pause();
        this.all.push(connection);
        // The request of a connection that is refused meanwhile is not read completely.
        await Promise.race([connection.send(bytes), once(connection.socket, "close")]);
      }),
    );
  }

  [Symbol.dispose](): void {
    for (const connection of this.all) connection[Symbol.dispose]();
  }
}

/** The service, the hostile connections to it, and an honest user with a recording. */
interface Attacked {
  readonly service: ServiceProcess;
  readonly connections: Connections;
  readonly ann: Credentials;
  readonly record: { readonly url: string; readonly sizeBytes: number };
  readonly databaseUrl: string;
}

describe("with a heap of 256 MB the service lives, and answers others, beside 500 connections", () => {
  const withService = async (attack: (attacked: Attacked) => Promise<void>, wav = sineWav({ seconds: 1 })) => {
    await using database = await createTestDatabase();
    await using service = await startServiceProcess({
      DATABASE_URL: database.url,
      LOG_LEVEL: "info",
      NODE_OPTIONS: "--max-old-space-size=256",
      MAX_WAITING_BYTES: "67108864", // by default an eighth of the machine's memory
    });
    const client = new ApiClient(service.url);
    const ann = await client.createUser();
    const { data } = await client.uploadRecord(ann, wav, { args: ", quality: HIGH", fields: "url sizeBytes" });
    const { record } = data.uploadRecord;
    using connections = new Connections();
    await attack({ service, connections, ann, record, databaseUrl: database.url });
    const { status: created, data: user } = await client.run('mutation { createUser(name: "Bob") { token } }');
    const { status: listed } = await client.run("{ me { records { nodes { id title url } } } }", {}, ann);
    const readRange = async (): Promise<number[]> => {
      const answer = await fetch(record.url, { headers: { range: "bytes=1000-1999" } });
      return [answer.status, (await answer.arrayBuffer()).byteLength];
    };
    // Requests for MP3s from one address take turns, so this one may be told to try again.
    const range = await until(readRange, ([status]) => status !== 503);
    const { status: uploaded } = await client.uploadRecord(ann, sineWav({ seconds: 0.1 }));
    return {
      created: created === 200 && user.createUser !== null,
      listed,
      range,
      uploaded,
      exitCode: service.child.exitCode,
      isSmall: peakMegabytes(service.child.pid) < 400,
    };
  };
  const unharmed = {
    created: true,
    listed: 200,
    range: [206, 1000],
    uploaded: 200,
    exitCode: null,
    isSmall: true,
  };

  it("that send a large body and fall silent before its end", async () => {
    const body = Buffer.from(`{"query":"{ __typename }","variables":{"x":"${"a".repeat(1_000_000)}`);
    const request = rawPost(body, { ...asJson, "content-length": String(body.length + 10) });
    const outcome = await withService(async ({ service: { port }, connections }) => {
      await connections.open(port, 500, request);
      // The budget has room for about thirty; the others were asked to retry later.
      const answer = await Promise.race(connections.all.map(async (connection) => await connection.answer()));
      expect({ status: answer?.status, retry: answer?.headers.get("retry-after") }).toEqual({
        status: 503,
        retry: "5",
      });
      expect(JSON.parse(answer!.body).errors[0].extensions.code).toBe("BUSY");
    });
    expect(outcome).toEqual(unharmed);
  });

  it.each([
    ["of JSON", 500, 1500, rawPost(Buffer.alloc(0), { ...asJson, ...chunked })],
    ["of JSON", 100, 60_000, rawPost(Buffer.alloc(0), { ...asJson, ...chunked })],
    ["with a file", 100, 60_000, rawPost(Buffer.alloc(0), chunked)],
    ["that nobody reads", 100, 60_000, Buffer.from("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")],
  ])("that send a body %s in pieces of one byte: %d connections, %d pieces each", async (_, count, pieces, head) => {
    const request = Buffer.concat([head, ...Array.from({ length: pieces }, () => httpChunk(Buffer.from(" ")))]);
    const outcome = await withService(
      async ({ service: { port }, connections }) => await connections.open(port, count, request),
    );
    expect(outcome).toEqual(unharmed);
  });

  it("whose headers do not end", async () => {
    const request = Buffer.from(`GET /healthz HTTP/1.1\r\nHost: a\r\n${"a: b\r\n".repeat(1000)}X: ${"a".repeat(9000)}`);
    const outcome = await withService(
      async ({ service: { port }, connections }) => await connections.open(port, 500, request),
    );
    expect(outcome).toEqual(unharmed);
  });

  it("that send request after request and read no answer", async () => {
    const outcome = await withService(async ({ service: { port }, connections, record }) => {
      const { pathname, search } = new URL(record.url);
      const request = `GET ${pathname}${search} HTTP/1.1\r\nHost: a\r\n\r\n`;
      await connections.open(port, 500, Buffer.from(request.repeat(500)), { reads: false });
    });
    expect(outcome).toEqual(unharmed);
  });

  it("that send thousands of requests in one piece, all at the same time", async () => {
    const outcome = await withService(async ({ service: { port }, connections }) => {
      await connections.open(port, 500, Buffer.alloc(0), { reads: false });
      const requests = Buffer.from("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1600));
      await Promise.all(
        connections.all.map(
          async (connection) => await Promise.race([connection.send(requests), once(connection.socket, "close")]),
        ),
      );
    });
    expect(outcome).toEqual(unharmed);
  });

  it("that ask for the largest answers and read none", async () => {
    const outcome = await withService(async ({ service: { port }, connections, ann, databaseUrl }) => {
      await fillLibrary(databaseUrl, ann.id);
      const aliases = Array.from({ length: 5 }, (_, i) => `a${i}: note`).join(" ");
      const query = `{ me { records(first: 100) { nodes { links { ${aliases} } } } } }`;
      const request = rawPost(Buffer.from(JSON.stringify({ query })), {
        ...asJson,
        authorization: `Bearer ${ann.token}`,
      });
      await connections.open(port, 500, request, { reads: false });
    });
    expect(outcome).toEqual(unharmed);
  });

  it("that ask for an MP3 and do not read it", async () => {
    // More than the system buffers for each connection.
    const wav = sineWav({ seconds: 310, channels: 1, sampleRateHz: 22_050 });
    const outcome = await withService(async ({ service: { port }, connections, record }) => {
      expect(record.sizeBytes).toBeGreaterThan(6_000_000);
      const { pathname, search } = new URL(record.url);
      const request = Buffer.from(`GET ${pathname}${search} HTTP/1.1\r\nHost: a\r\n\r\n`);
      await connections.open(port, 500, request, { reads: false });
    }, wav);
    expect(outcome).toEqual(unharmed);
  });
});

describe("requests that follow each other without waiting", () => {
  it("are answered in order, however many, and whatever they are", async () => {
    await using service = await startService();
    const port = Number(new URL(service.url).port);
    using connection = await connectRaw(port);
    const count = 300;
    const requests = Array.from({ length: count }, (_, i) => {
      if (i % 3 === 2) return Buffer.from(`GET /nothing${i} HTTP/1.1\r\nHost: a\r\n\r\n`);
      const { name, document } = { name: `a${i}`, document: `{ a${i}: __typename }` };
      return i % 3 === 0
        ? rawPost(Buffer.from(JSON.stringify({ query: document })), asJson)
        : Buffer.from(
            `GET /graphql?query=${encodeURIComponent(document)}&x=${name} HTTP/1.1\r\nHost: a\r\nApollo-Require-Preflight: 1\r\n\r\n`,
          );
    });
    void connection.send(Buffer.concat(requests));
    for (let i = 0; i < count; i++) {
      const answer = await connection.answer();
      const expected = i % 3 === 2 ? { status: 404, text: "NOT_FOUND" } : { status: 200, text: `{"a${i}":"Query"}` };
      expect({ status: answer?.status, text: answer?.body }).toMatchObject({
        ...expected,
        text: expect.stringContaining(expected.text),
      });
    }
  });

  it("begin when the one before is answered", async () => {
    const begun: string[] = [];
    const waits = Promise.withResolvers<void>();
    await using server = await listen(async (request, response) => {
      begun.push(request.url!);
      if (request.url === "/0") await waits.promise;
      response.end(request.url);
    });
    using connection = await connectRaw(server.port);
    await connection.send(Array.from({ length: 5 }, (_, i) => `GET /${i} HTTP/1.1\r\nHost: a\r\n\r\n`).join(""));
    // Another connection is not held up.
    expect((await exchange(server.port, Buffer.from("GET /other HTTP/1.1\r\nHost: a\r\n\r\n")))?.status).toBe(200);
    expect(begun).toEqual(["/0", "/other"]);
    waits.resolve();
    for (let i = 0; i < 5; i++) await connection.answer();
    expect(begun).toEqual(["/0", "/other", "/1", "/2", "/3", "/4"]);
  });

  it("are abandoned with their connection when too many wait", async () => {
    await using server = await listen((request, response) => void (request.url === "/" && response.end()));
    using connection = await connectRaw(server.port);
    const request = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    for (let i = 0; i < 3; i++) void connection.send(request.repeat(1600));
    expect(await connection.answer()).toBeUndefined();
    expect((await exchange(server.port, Buffer.from("GET / HTTP/1.1\r\nHost: a\r\n\r\n")))?.status).toBe(200);
  });

  it("are not parsed behind the one that closes its connection", async () => {
    const parsed = new Map<Socket, number>();
    class Counted extends IncomingMessage {
      constructor(socket: Socket) {
        super(socket);
        parsed.set(socket, (parsed.get(socket) ?? 0) + 1);
      }
    }
    await using server = await listen(() => {}, { IncomingMessage: Counted });
    using connections = new Connections();
    const pipelined = Buffer.from("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1600));
    await connections.open(server.port, 10, pipelined);
    const closed = () => [...parsed].filter(([socket]) => socket.destroyed).map(([, count]) => count);
    expect(await until(closed, ({ length }) => length >= 4)).not.toContain(1600);
  });
});

describe("an answer that nobody reads", () => {
  it("is abandoned with its connection", async () => {
    const answers = new AnswerMemory({ stallSeconds: 0.2 });
    const closed = Promise.withResolvers<boolean>();
    await using server = await listen((_request, response) => {
      answers.made(response, 64_000_000);
      response.once("close", () => closed.resolve(response.writableFinished));
      response.end("a".repeat(64_000_000));
    });
    using connection = await connectRaw(server.port);
    connection.socket.pause();
    await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    expect(await closed.promise).toBe(false);
  });

  it("leaves the connection open when it is read", async () => {
    const answers = new AnswerMemory({ stallSeconds: 0.2 });
    await using server = await listen((_request, response) => {
      answers.made(response, 5);
      response.end("hello");
    });
    using connection = await connectRaw(server.port);
    for (let i = 0; i < 2; i++) {
      await connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      expect((await connection.answer())?.status).toBe(200);
    }
  });
});

it("an answer whose client is gone before its first byte is no fault of the service", async () => {
  const lines: { level: number; msg: string; code?: string }[] = [];
  const stream = new Writable({
    write(line: Buffer, _encoding, done) {
      lines.push(JSON.parse(line.toString()));
      done();
    },
  });
  await using app = fastify({ logger: { level: "info", stream } });
  answerErrors(app, { webPage: false, publicUrl: undefined });
  const asked = Promise.withResolvers<void>();
  app.post("/", async (_request, reply) => {
    asked.resolve();
    return await reply.send(new Readable({ read() {} }));
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  using connection = await connectRaw((app.server.address() as AddressInfo).port);
  await connection.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
  await asked.promise;
  connection.reset();
  const failures = await until(
    async () => lines.filter(({ msg }) => msg === "request refused" || msg === "request failed"),
    ({ length }) => length > 0,
    5,
  );
  expect(failures.at(-1)).toMatchObject({ level: 30, code: "CLIENT_CLOSED_REQUEST", msg: "request refused" });
});

describe("the memory of requests that nobody has vouched for", () => {
  it("is taken from the largest one that is still arriving when it is used up, never from a small one", () => {
    const unvouched = new UnvouchedBytes(100_000);
    const refused: string[] = [];
    const hold = (name: string) => unvouched.hold((busy) => void refused.push(`${name} ${busy.code}`));
    const [small, large, larger] = ["small", "large", "larger"].map(hold) as [
      ReturnType<typeof hold>,
      ReturnType<typeof hold>,
      ReturnType<typeof hold>,
    ];
    small.add(4000);
    large.add(40_000);
    larger.add(50_000);
    expect(refused).toEqual([]);
    large.add(7000);
    expect(refused).toEqual(["larger BUSY"]);
    large.arrived();
    hold("next").add(60_000);
    expect(refused).toEqual(["larger BUSY", "next BUSY"]);
    large.release();
    hold("after").add(60_000);
    expect(refused).toEqual(["larger BUSY", "next BUSY"]);
  });
});

describe("what no resolver reads", () => {
  it("is not kept while a request waits, and takes no room of others", async () => {
    // All requests arrive while the table is locked, however busy the machine is.
    await using service = await startService({ DATABASE_TIMEOUT_SECONDS: "120" });
    const port = Number(new URL(service.url).port);
    const ann = await new ApiClient(service.url).createUser();
    const body = JSON.stringify({ query: "{ me { name } }", variables: { unread: "a".repeat(500_000) } });
    const request = rawPost(Buffer.from(body), { ...asJson, authorization: `Bearer ${ann.token}` });
    using connections = new Connections();
    await using holder = await beginTransaction(service.databaseUrl, "lock table app_user in access exclusive mode");
    for (let i = 0; i < 80; i++) {
      await connections.open(port, 1, request);
      await fetch(`${service.url}/healthz`); // the body is read meanwhile
    }
    await holder.commit();
    const answers = await Promise.all(connections.all.map(async (connection) => await connection.answer()));
    expect(new Set(answers.map((answer) => answer?.body))).toEqual(new Set(['{"data":{"me":{"name":"Ann"}}}\n']));
  });
});

describe("an upload that stops", () => {
  it.each(["map", "0"])("before its part %s is refused as BUSY when others need its memory", async (missing) => {
    const limits = { maxFileBytes: 1e6, maxOperationsBytes: 65_536, maxMapBytes: 1000, stallSeconds: 60 };
    const unvouched = new UnvouchedBytes(40_000);
    await using server = await listen((request, response) => {
      readMultipartRequest(request, response, { ...limits, unvouched }).then(
        () => response.end("read"),
        (error: unknown) => response.end(error instanceof ServiceError ? error.code : "fault"),
      );
    });
    const operations = (characters: number) =>
      fieldPart("operations", JSON.stringify({ query: "a".repeat(characters), variables: { file: null } }));
    const bodyOf = (characters: number) =>
      multipartBody(operations(characters), fieldPart("map", '{"0":["variables.file"]}'), filePart("0", "a", "x"));
    const whole = bodyOf(10_000);
    using silent = await connectRaw(server.port);
    const beginning = beginningOf(bodyOf(30_000), `name="${missing}"`);
    await silent.send(rawPost(beginning, { "content-length": String(beginning.length + 1000) }));
    const honest = await Promise.all([1, 2].map(async () => await exchange(server.port, rawPost(whole))));
    expect(honest.map((answer) => answer?.body)).toEqual(["read", "read"]);
    expect((await silent.answer())?.body).toBe("BUSY");
  });
});

/** The bytes before a text. */
function beginningOf(body: Buffer, text: string): Buffer {
  return body.subarray(0, body.indexOf(text));
}

/** An HTTP server without the service around it. */
async function listen(
  listener: RequestListener,
  options: ServerOptions = {},
): Promise<AsyncDisposable & { readonly port: number }> {
  const server: Server = createServer({ keepAliveTimeout: 60_000, ...options }, listener);
  answerInTurn(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** Peak memory of a process so far. */
function peakMegabytes(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}
