import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { getIntrospectionQuery } from "graphql";
import { addressKey } from "../src/addresses/address-key.ts";
import { ApiClient } from "./support/api-client.ts";
import { connectRaw, exchange, fieldPart, filePart, multipartBody, rawPost } from "./support/raw-http.ts";
import { SentStatements, startServiceWithoutIntervals } from "./support/sent-statements.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const wav = sineWav({ seconds: 0.2, channels: 1 });

describe("the limits of a request", () => {
  let service: TestService;
  let client: ApiClient;
  let port: number;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    port = Number(new URL(service.url).port);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  it.each<[string, string, object, object?]>([
    ["deep", `{ ${"a { ".repeat(12)} b ${"}".repeat(12)} }`, { maxDepth: 12 }],
    ["deep by fragments", `{ ...f } ${nest(13)}`, { maxDepth: 12 }],
    ["rich in aliases", `{ me { ${repeat(51, (i) => `a${i}: id`)} } }`, { maxAliases: 50 }],
    [
      "rich in aliases by a fragment",
      `{ me { ...f } b: me { ...f } } fragment f on User { ${repeat(26, (i) => `a${i}: id`)} }`,
      { maxAliases: 50 },
    ],
    ["broad", `{ ${repeat(21, () => "__typename")} }`, { maxRootFields: 20 }],
    ["multiplied by fragments", bomb(), { maxFields: 1000 }],
    ["rich in waveforms", listOf(25, "peaks(count: 2048)"), { maxValues: 250_000 }],
    ["rich in waveforms by variables", listOf(2, "peaks(count: $n)", "$n"), { maxValues: 250_000 }, { n: 2048 }],
    [
      "rich in waveforms with less than none",
      listOf(2, "peaks(count: 2048)", "100, last: -100"),
      { maxValues: 250_000 },
    ],
    [
      "rich in waveforms by a fragment",
      `${listOf(1, "...f")} fragment f on Recording { a: peaks(count: 2048) ...g }
      fragment g on Recording { b: peaks(count: 2048) }`,
      { maxValues: 250_000 },
    ],
    ["rich in links", listOf(26, "links { id }"), { maxValues: 250_000 }],
    ["long", `{ ${repeat(2000, () => "__typename")} }`, { maxTokens: 2000 }],
  ])("refuse an operation that is too %s, with the number", async (_what, query, details, variables: object = {}) => {
    const { status, headers, errors, data } = await client.run(query, variables);
    expect({ status, data }).toEqual({ status: 400, data: undefined });
    expect(errors!.map(({ extensions }) => extensions)).toEqual([
      expect.objectContaining({
        code: "QUERY_TOO_COMPLEX",
        ...details,
        requestId: headers.get("x-request-id"),
      }),
    ]);
  });

  it("accept introspection, and an operation exactly at the limit", async () => {
    const introspection = getIntrospectionQuery({
      inputValueDeprecation: true,
      oneOf: true,
      directiveIsRepeatable: true,
    });
    expect((await client.run(introspection)).status).toBe(200);
    expect((await client.run(`{ ${repeat(20, () => "__typename")} }`)).status).toBe(200);
  });

  it("accept a page with whole waveforms", async () => {
    const ann = await client.createUser();
    for (const query of [
      "{ me { records(first: 100) { nodes { id peaks(count: 2048) } } } }",
      `{ me { records { nodes { ${repeat(24, (i) => `a${i}: peaks`)} } } } }`,
      "{ me { usage { records } records(last: 100) { nodes { links { id url streamUrl note downloads } } } } }",
    ]) {
      expect((await client.run(query, {}, ann)).status).toBe(200);
    }
  });

  it("keep the connection open after a request within the limits", async () => {
    using connection = await connectRaw(port);
    for (let times = 0; times < 2; times++) {
      await connection.send(rawPost(Buffer.from('{"query":"{ __typename }"}'), { "content-type": "application/json" }));
      const answer = await connection.answer();
      expect({ status: answer?.status, connection: answer?.headers.get("connection") }).toEqual({
        status: 200,
        connection: "keep-alive",
      });
    }
  });

  it("refuse a batch of operations", async () => {
    const response = await fetch(`${service.url}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify([{ query: "{ __typename }" }]),
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      errors: [{ message: expect.stringContaining("one operation"), extensions: { code: "BAD_REQUEST" } }],
    });
  });

  it("refuse a JSON body that is too large, by its length, without reading it", async () => {
    using connection = await connectRaw(port);
    const headers = { "content-type": "application/json", "content-length": String(2 ** 30) };
    await connection.send(rawPost(Buffer.from('{"query":'), headers));
    const answer = await connection.answer();
    expect(answer!.status).toBe(413);
    expect(JSON.parse(answer!.body).errors[0].extensions).toMatchObject({
      code: "REQUEST_TOO_LARGE",
      maxBytes: 1024 * 1024,
    });
    await connection.ended();
  });

  it.each([
    ["not JSON", "application/json", "{", 400, "BAD_REQUEST"],
    ["of an unknown type", "application/x-sound", "hello", 415, "UNSUPPORTED_MEDIA"],
    ["empty", "application/json", "", 400, "BAD_REQUEST"],
  ])("refuse a body that is %s", async (_what, contentType, body, status, code) => {
    const answer = await exchange(port, rawPost(Buffer.from(body), { "content-type": contentType }));
    expect(answer!.status).toBe(status);
    expect(JSON.parse(answer!.body).errors[0].extensions.code).toBe(code);
  });

  it("cut off headers and JSON bodies that never end", async () => {
    await using impatient = await startService({ DATABASE_URL: service.databaseUrl, STALL_TIMEOUT_SECONDS: "1" });
    const impatientPort = Number(new URL(impatient.url).port);
    using slowHeaders = await connectRaw(impatientPort);
    await slowHeaders.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n");
    using slowBody = await connectRaw(impatientPort);
    await slowBody.send(
      rawPost(Buffer.from('{"query":'), { "content-type": "application/json", "content-length": "99" }),
    );
    expect((await slowHeaders.answer())?.status).toBe(408);
    await Promise.all([slowHeaders.ended(), slowBody.ended()]);
  });

  it.each([
    ["what is no HTTP", "nonsense\r\n\r\n", 400, "BAD_REQUEST"],
    [
      "headers that are too long",
      `GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(20_000)}\r\n\r\n`,
      431,
      "HEADERS_TOO_LARGE",
    ],
    ["an address that cannot be decoded", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "BAD_REQUEST"],
    ["an unknown address", "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, "NOT_FOUND"],
    ["an unknown method", "PURGE /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 405, "METHOD_NOT_ALLOWED"],
  ])("answer %s in JSON", async (_what, request, status, code) => {
    const answer = await exchange(port, Buffer.from(request));
    expect(answer!.status).toBe(status);
    expect(JSON.parse(answer!.body)).toEqual({
      error: { code, message: expect.any(String), requestId: answer!.headers.get("x-request-id") },
    });
    expect(answer!.headers.get("x-content-type-options")).toBe("nosniff");
  });

  it("answer complete requests before they refuse the invalid bytes after them", async () => {
    using connection = await connectRaw(port);
    const query = 'mutation { createUser(name: "Ann") { token } }';
    const create = rawPost(Buffer.from(JSON.stringify({ query })), { "content-type": "application/json" });
    await connection.send(Buffer.concat([create, create, Buffer.from("nonsense\r\n\r\n")]));
    const statuses = [];
    for (let times = 0; times < 3; times++) statuses.push((await connection.answer())?.status);
    expect(statuses).toEqual([200, 200, 400]);
    await connection.ended();
  });

  it.each(["/healthz", "/readyz", "/graphql", "/record", "/nothing"])("send security headers on %s", async (path) => {
    const { headers } = await fetch(service.url + path);
    expect(headers.get("x-content-type-options")).toBe("nosniff");
    expect(headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(headers.get("referrer-policy")).toBe("no-referrer");
    expect(headers.get("x-frame-options")).toBe("SAMEORIGIN");
    expect(headers.get("x-powered-by")).toBeNull();
    expect(headers.get("x-request-id")).toMatch(/^[\da-f-]{36}$/);
  });

  it("refuse a large upload without valid arguments before its file is read", async () => {
    const bad = { userId: "1", token: crypto.randomUUID() };
    const start = uploadBody(bad, Buffer.alloc(1000)).subarray(0, -100);
    using connection = await connectRaw(port);
    await connection.send(rawPost(start, { "content-length": String(2 ** 30) }));
    const answer = await connection.answer();
    expect(answer!.status).toBe(401);
    await connection.ended();
  });
});

describe("the rate limits", () => {
  it("count new users by address, and refuse a flood without a statement", async () => {
    await using service = await startServiceWithoutIntervals({ MAX_NEW_USERS_PER_HOUR: "2" });
    const client = new ApiClient(service.url);
    for (const name of ["Ann", "Bob"]) await client.createUser(name);
    const create = 'mutation { createUser(name: "Eve") { token } }';
    const refused = await client.run(create);
    expect(refused.status).toBe(429);
    const { extensions, message } = refused.errors![0]!;
    expect(extensions).toMatchObject({
      code: "RATE_LIMITED",
      limit: 2,
      withinSeconds: 3600,
      retryAfterSeconds: expect.any(Number),
    });
    expect(extensions.retryAfterSeconds).toBeGreaterThan(3500);
    expect(message).toContain("2 new users");
    expect(refused.headers.get("retry-after")).toBe(String(extensions.retryAfterSeconds));

    using sent = new SentStatements(service.server.database.pool);
    for (let i = 0; i < 20; i++) expect((await client.run(create)).status).toBe(429);
    expect(sent.take()).toEqual([]);

    await using replica = await startService({ DATABASE_URL: service.databaseUrl, MAX_NEW_USERS_PER_HOUR: "2" });
    expect((await new ApiClient(replica.url).run(create)).status).toBe(429);
  });

  it("refuse one upload too many before its body is read", async () => {
    await using service = await startService({ MAX_UPLOADS_PER_HOUR: "2", MAX_UPLOADS_PER_CLIENT: "3" });
    const client = new ApiClient(service.url);
    const [ann, bob] = [await client.createUser("Ann"), await client.createUser("Bob")];
    for (let i = 0; i < 2; i++) expect((await client.uploadRecord(ann, wav)).status).toBe(200);
    const port = Number(new URL(service.url).port);
    using connection = await connectRaw(port);
    const headers = { authorization: `Bearer ${ann.token}`, "content-length": String(2 ** 30) };
    await connection.send(rawPost(uploadBody({}, wav).subarray(0, -100), headers));
    const answer = await connection.answer();
    expect(answer!.status).toBe(429);
    expect(Number(answer!.headers.get("retry-after"))).toBeGreaterThan(3500);

    expect((await client.uploadRecord(bob, wav)).status).toBe(200);
    const fromHere = await client.uploadRecord(bob, wav);
    expect(fromHere.errors![0]!.message).toContain("3 uploads from this address");
  });

  it("cost no statement when they are off, and one for each user id and token, whatever is wrong with them", async () => {
    await using service = await startServiceWithoutIntervals();
    const client = new ApiClient(service.url);
    // One statement takes the allowance for many users, so the second user needs no such statement.
    const ann = await client.createUser();
    using sent = new SentStatements(service.server.database.pool);
    await client.createUser("Bob");
    expect(sent.take()).toHaveLength(1);

    const port = Number(new URL(service.url).port);
    const wrong = crypto.randomUUID();
    const attempts = [
      { userId: "424242", token: ann.token },
      { userId: ann.id, token: wrong },
      { userId: ann.id, token: "nonsense" },
      { userId: "nobody", token: "" },
    ];
    const [byArguments, byHeader] = [new Set<string>(), new Set<string>()];
    for (const attempt of attempts) {
      const answer = await exchange(port, rawPost(uploadBody(attempt, wav)));
      expect(sent.take()).toHaveLength(1);
      byArguments.add(`${answer!.status} ${JSON.parse(answer!.body).errors[0].message}`);
    }
    for (const token of [wrong, "nonsense", "not a token at all"]) {
      const answer = await exchange(port, rawPost(uploadBody({}, wav), { authorization: `Bearer ${token}` }));
      expect(sent.take()).toHaveLength(1);
      byHeader.add(`${answer!.status} ${JSON.parse(answer!.body).errors[0].message}`);
    }
    expect([...byArguments, ...byHeader]).toEqual([
      "401 The token is unknown, revoked or expired, or it belongs to another user id. Check both, or use another token.",
      "401 The token is unknown, revoked or expired. Use another one.",
    ]);
  });

  it.each([
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
    ["2001:0DB8:1:2::1", "2001:db8:1:2"],
    ["2001:db8::1", "2001:db8:0:0"],
    ["fe80::1%eth0", "fe80:0:0:0"],
    ["::1", "0:0:0:0"],
  ])("know the client at %s by %s", (address, key) => {
    expect(addressKey(address)).toBe(key);
  });
});

function uploadBody(credentials: { userId?: string; token?: string }, file: Buffer): Buffer {
  const query =
    "mutation ($file: Upload!, $userId: ID, $token: UUID) { uploadRecord(file: $file, userId: $userId, token: $token) { created } }";
  return multipartBody(
    fieldPart("operations", JSON.stringify({ query, variables: { file: null, ...credentials } })),
    fieldPart("map", '{"0":["variables.file"]}'),
    filePart("0", "take.wav", file),
  );
}

/** An operation that asks for a field several times in each record of a page. */
function listOf(times: number, field: string, first = "100"): string {
  const fields = times === 1 ? field : repeat(times, (i) => `a${i}: ${field}`);
  return `query ${first === "$n" ? "($n: Int!) " : ""}{ me { records(first: ${first}) { nodes { ${fields} } } } }`;
}

function repeat(times: number, make: (i: number) => string): string {
  return Array.from({ length: times }, (_, i) => make(i)).join(" ");
}

/** Fragments that spread each other, each a level deeper. */
function nest(levels: number): string {
  const names = ["f", ...Array.from({ length: levels }, (_, i) => `f${i}`)];
  return names.map((name, i) => `fragment ${name} on Query { a { ...${names[i + 1] ?? "none"} } }`).join(" ");
}

/** Ten fragments of which each spreads the next one twice. */
function bomb(): string {
  return `{ ...f0 } ${repeat(10, (i) => `fragment f${i} on Query { ...f${i + 1} ...f${i + 1} }`)} fragment f10 on Query { __typename }`;
}
