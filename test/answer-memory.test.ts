import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "@jest/globals";
import { Kind, parse, type OperationDefinitionNode } from "graphql";
import { readOperation } from "../src/graphql/asked-fields.ts";
import { AnswerMemory } from "../src/http/answer-memory.ts";
import { createSchema } from "../src/schema.ts";
import { ApiClient } from "./support/api-client.ts";
import { connectRaw, rawPost, type RawConnection } from "./support/raw-http.ts";
import { fillLibrary, seedRecords } from "./support/seed-records.ts";
import { startService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const megabyte = 1024 * 1024;

describe("the memory of large answers", () => {
  it("is given to the smallest that waits when there is room again", async () => {
    await using server = await listen();
    const answers = new AnswerMemory({ maxBytes: 10 * megabyte, stallSeconds: 60 });
    const begun: string[] = [];
    const reserve = async (name: string, bytes: number): Promise<ServerResponse> => {
      const { response } = await server.request();
      void answers.reserve(response, bytes).then(
        () => begun.push(name),
        () => {}, // the end of the test
      );
      return response;
    };
    const first = await reserve("first", 9 * megabyte);
    await reserve("large", 8 * megabyte);
    await reserve("middle", 2 * megabyte);
    await reserve("next middle", 2 * megabyte);
    await reserve("tiny", 1000);
    await settled();
    expect(begun).toEqual(["first", "tiny"]);
    answers.made(first, 1000);
    first.end();
    await settled();
    expect(begun).toEqual(["first", "tiny", "middle", "next middle"]);
  });

  it("counts an answer by what it has become when it is made", async () => {
    await using server = await listen();
    const answers = new AnswerMemory({ maxBytes: 10 * megabyte, stallSeconds: 60 });
    const [one, other] = [await server.request(), await server.request()];
    await answers.reserve(one.response, 9 * megabyte);
    const second = answers.reserve(other.response, 9 * megabyte);
    answers.made(one.response, megabyte);
    await expect(second).resolves.toBeUndefined();
  });

  it("is refused as BUSY to whoever waits for too long, unless the answer is about something done", async () => {
    await using server = await listen();
    const answers = new AnswerMemory({ maxBytes: megabyte, waitSeconds: 0.05, stallSeconds: 60 });
    const [first, refused, done] = [await server.request(), await server.request(), await server.request()];
    await answers.reserve(first.response, megabyte);
    const afterwards = answers.reserve(done.response, megabyte, true);
    await expect(answers.reserve(refused.response, megabyte)).rejects.toMatchObject({
      code: "BUSY",
      details: { retryAfterSeconds: 5 },
    });
    first.response.end();
    await afterwards;
  });

  it("is not kept for a client that has gone", async () => {
    await using server = await listen();
    const answers = new AnswerMemory({ maxBytes: megabyte, stallSeconds: 60 });
    const [first, gone, next] = [await server.request(), await server.request(), await server.request()];
    await answers.reserve(first.response, megabyte);
    const refused = answers.reserve(gone.response, megabyte);
    gone.client.reset();
    await expect(refused).rejects.toMatchObject({ code: "CLIENT_CLOSED_REQUEST" });
    let isGranted = false;
    const waiting = answers.reserve(next.response, megabyte).then(() => (isGranted = true));
    first.client.reset();
    await once(first.response, "close");
    await settled();
    expect(isGranted).toBe(false); // the first is still being made
    answers.ended(first.response);
    await waiting;
  });

  it("is taken from what has been unread for longest when somebody waits", async () => {
    await using server = await listen();
    const answers = new AnswerMemory({ maxBytes: 20 * megabyte, stallSeconds: 60 });
    const requests = [await server.request(), await server.request(), await server.request()] as const;
    for (const { client, response } of requests.slice(0, 2)) {
      client.socket.pause();
      await answers.reserve(response, 10 * megabyte);
      answers.made(response, 10 * megabyte);
      response.end("a".repeat(10 * megabyte));
    }
    await answers.reserve(requests[2].response, 10 * megabyte);
    expect(requests.map(({ response }) => response.destroyed)).toEqual([true, false, false]);
  });
});

describe("what an answer takes is known before it is made", () => {
  it.each([
    ["quotes", '"'],
    ["a script of three bytes", "漢"],
    ["characters beyond the first plane", "🎵"],
  ])("and no JSON of the longest texts has more bytes: %s", async (_what, character) => {
    await using service = await startService();
    const client = new ApiClient(service.url);
    const ann = await client.createUser(character.repeat(100));
    const { pool } = service.server.database;
    await seedRecords(pool, { ownerId: ann.id, count: 3 });
    await pool.query(
      `update audio_record set title = repeat($1, 1000), file_name = repeat($1, 255),
       tags = (select jsonb_agg(jsonb_build_object('name', 'date', 'value', repeat($1, 1000))) from generate_series(1, 16))`,
      [character],
    );
    await pool.query(
      `insert into share_link (record_id, secret, note, expires_at)
       select id, left(md5(random()::text) || md5(random()::text), 32), repeat($1, 200), now() + interval '1 day'
       from audio_record, generate_series(1, 100)`,
      [character],
    );
    const link = "__typename id note createdAt expiresAt downloads url streamUrl mp3Url waveformUrl again: note";
    const query = `{ me { id name tokens { id name } usage { bytes seconds } records(first: 3) {
      totalCount pageInfo { startCursor endCursor } edges { cursor } nodes {
        __typename id title t: title fileName createdAt visibility owner { id name } durationSeconds sizeBytes
        source { codec sha256 sizeBytes } sourceSha256 tags { name value } again: tags { __typename name value }
        loudness { integratedLufs } warnings url streamUrl mp3Url waveformUrl peaks links { ${link} }
    } } } }`;
    const response = await fetch(`${service.url}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${ann.token}` },
      body: JSON.stringify({ query }),
    });
    const body = await response.arrayBuffer();
    expect(response.status).toBe(200);
    const document = parse(query);
    const operation = document.definitions.find(
      (node): node is OperationDefinitionNode => node.kind === Kind.OPERATION_DEFINITION,
    )!;
    const { extent } = readOperation(await createSchema(), document, operation, {}, service.url);
    expect(body.byteLength).toBeGreaterThan(300_000);
    expect(body.byteLength).toBeLessThan(extent.bytes);
  });

  it("so what precedes a file in its operation is small", async () => {
    await using service = await startService();
    const client = new ApiClient(service.url);
    const ann = await client.createUser();
    const [list, upload] = [
      'updateUser(name: "Ann") { user { records(first: 100) { nodes { title tags { value } } } } }',
      "uploadRecord(file: $file) { created }",
    ];
    const refusal = await multipart(`mutation ($file: Upload!) { ${list} ${upload} }`);
    expect(refusal).toMatchObject({
      errors: [{ extensions: { code: "QUERY_TOO_COMPLEX", maxBytesBeforeFile: 65_536, field: "updateUser" } }],
    });
    expect(await multipart(`mutation ($file: Upload!) { ${upload} ${list} }`)).not.toHaveProperty("errors");

    async function multipart(query: string): Promise<unknown> {
      const form = new FormData();
      form.set("operations", JSON.stringify({ query, variables: { file: null } }));
      form.set("map", '{"0":["variables.file"]}');
      form.set("0", new Blob([new Uint8Array(sineWav({ seconds: 0.1 }))]), "a.wav");
      const headers = { authorization: `Bearer ${ann.token}` };
      return await (await fetch(`${service.url}/graphql`, { method: "POST", headers, body: form })).json();
    }
  });
});

describe("a service", () => {
  it("gives up the large answer that has been unread for longest when another one needs its memory", async () => {
    await using service = await startService();
    const client = new ApiClient(service.url);
    const ann = await client.createUser();
    await fillLibrary(service.databaseUrl, ann.id);
    // An answer of 43 MB: the memory of all answers has room for three.
    const tags = Array.from({ length: 9 }, (_, i) => `a${i}: tags { value }`).join(" ");
    const body = JSON.stringify({ query: `{ me { records(first: 100) { nodes { ${tags} } } } }` });
    const headers = { "content-type": "application/json", authorization: `Bearer ${ann.token}` };
    const request = rawPost(Buffer.from(body), headers);
    const port = Number(new URL(service.url).port);
    const unread: RawConnection[] = [];
    try {
      for (let i = 0; i < 3; i++) {
        const connection = await connectRaw(port);
        unread.push(connection);
        await connection.send(request);
        await once(connection.socket, "data"); // it is made, and its beginning has arrived
        connection.socket.pause();
      }
      const response = await fetch(`${service.url}/graphql`, { method: "POST", headers, body });
      expect(response.status).toBe(200);
      expect((await response.arrayBuffer()).byteLength).toBeGreaterThan(43_000_000);
      expect((await client.run("{ me { id } }", {}, ann)).status).toBe(200);
      unread[0]!.socket.resume();
      await unread[0]!.ended();
      expect(await unread[0]!.answer()).toBeUndefined();
      expect(unread[2]!.socket.closed).toBe(false);
    } finally {
      for (const connection of unread) connection[Symbol.dispose]();
    }
  });
});

interface OpenRequest {
  readonly client: RawConnection;
  readonly response: ServerResponse;
}

/** A server whose requests are answered by the test. */
async function listen(): Promise<AsyncDisposable & { request(): Promise<OpenRequest> }> {
  const server = createServer();
  const clients: RawConnection[] = [];
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    async request() {
      const client = await connectRaw((server.address() as AddressInfo).port);
      clients.push(client);
      const arrived = once(server, "request");
      await client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      const [, response] = (await arrived) as [unknown, ServerResponse];
      return { client, response };
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client[Symbol.dispose]();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** Resolves when everything that can run has run. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => void setImmediate(resolve));
}
