import { buildSchema, getNamedType, isInputObjectType, isScalarType, type GraphQLArgument } from "graphql";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { audience, Issuer } from "./support/issuer.ts";
import { connectRaw, exchange, fieldPart, filePart, multipartBody, rawPost } from "./support/raw-http.ts";
import { startServiceProcess, type ServiceProcess } from "./support/service-process.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { bextChunk, chunk, cueChunks, id3Tag, infoChunk, sineWav, wavFile } from "./support/wav-maker.ts";

/** Maximum of CPU time that one request may take on the thread that serves all requests. */
const maxCpuMs = 50;

/** Combining marks in the wrong order: the time to normalise them grows with the square of their number. */
const marks = (count: number): string => "\u0301\u0323".repeat(count / 2);

/** Characters that are all different: the time to write them in ASCII grows with the square of their number. */
const distinct = (count: number): string =>
  Array.from({ length: count }, (_, i) => String.fromCodePoint(0x4e00 + ((i * 7919) % 20_000))).join("");

/** All bytes that a header may have and ASCII lacks. */
const bytes = (count: number): Buffer => Buffer.from(Array.from({ length: count }, (_, i) => 0x80 + ((i * 37) % 128)));
const latin1 = (count: number): string => bytes(count).toString("latin1");
const base64 = (text: string): string => Buffer.from(text).toString("base64");
const manyNames = (count: number, length: number): Record<string, number> =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`n${i}`.padEnd(length, "x"), 1]));
const levels = (count: number): unknown => JSON.parse("[".repeat(count) + "]".repeat(count));

const megabyte = 1024 * 1024 - 2000;

/** WAVs with as much as is read of each kind of notes. */
const notedWavs: Readonly<Record<string, () => Buffer>> = {
  "cue points with long labels": () => {
    const points = Array.from({ length: 255 }, (_, number) => ({ number, sample: number, label: marks(396) }));
    return wavFile({ before: cueChunks(points), data: sineWav({ seconds: 0.1 }).subarray(44) });
  },
  "elements in iXML": () => withIxml(`<BWFXML><TRACK_LIST><TRACK>${"<a/>".repeat(16_000)}`),
  "marks in iXML": () => withIxml(`<BWFXML><NOTE>${marks(32_000)}</NOTE></BWFXML>`),
  "entities in iXML": () => withIxml(`<BWFXML><NOTE>${"&#x301;&#x323;".repeat(4600)}</NOTE></BWFXML>`),
  "tracks in iXML": () =>
    withIxml(
      `<BWFXML><TRACK_LIST>${Array.from({ length: 900 }, (_, i) => `<TRACK><INTERLEAVE_INDEX>${i % 65}</INTERLEAVE_INDEX><NAME>${i}</NAME></TRACK>`).join("")}</TRACK_LIST></BWFXML>`,
    ),
  "errors in iXML": () => withIxml(`<BWFXML>${"</b>&".repeat(13_000)}`),
  "frames in ID3": () =>
    wavFile({
      data: sineWav({ seconds: 0.1 }).subarray(44),
      after: [
        chunk(
          "id3 ",
          id3Tag(
            4,
            Array.from({ length: 3000 }, () => ["TIT2", Buffer.from(`\u0003${marks(150)}`)] as const),
          ),
        ),
      ],
    }),
  "a broadcast extension": () =>
    wavFile({
      before: [bextChunk({ description: marks(120) }), chunk("bext", Buffer.alloc(megabyte / 2, marks(100)))],
      data: sineWav({ seconds: 0.1 }).subarray(44),
    }),
};

/** Fields with an argument that takes text, which is `$text` of this type. */
const textArguments: readonly [field: string, type: string][] = [
  ["createUser(name: $text) { token }", "String!"],
  ['createUser(name: "Ann", invite: $text) { token }', "String!"],
  ["updateUser(name: $text) { user { id } }", "String!"],
  ["deleteUser(confirm: $text) { deletedId }", "String!"],
  ["createToken(name: $text, scopes: [READ]) { token }", "String!"],
  ['createToken(name: "x", scopes: [READ], expiresAt: $text) { token }', "DateTime!"],
  ["renewToken(id: $text) { token }", "ID!"],
  ["revokeToken(id: $text) { revokedId }", "ID!"],
  ['updateRecord(id: "ID", title: $text) { record { id } }', "String!"],
  ["updateRecord(id: $text) { record { id } }", "ID!"],
  ["updateRecords(changes: [{ id: $text }]) { records { id } }", "ID!"],
  ['updateRecords(changes: [{ id: "ID", title: $text }]) { records { id } }', "String!"],
  ["deleteRecord(id: $text) { deletedId }", "ID!"],
  ["deleteRecords(ids: [$text]) { deletedIds }", "ID!"],
  ['createLink(recordId: "ID", note: $text) { link { id } }', "String!"],
  ['createLink(recordId: "ID", expiresAt: $text) { link { id } }', "DateTime!"],
  ["createLink(recordId: $text) { link { id } }", "ID!"],
  ["revokeLink(id: $text) { revokedId }", "ID!"],
  ["createUploadTicket(title: $text) { ticket }", "String!"],
  ["createUploadTicket(expiresAt: $text) { ticket }", "DateTime!"],
  ["revokeUploadTicket(id: $text) { revokedId }", "ID!"],
  ["startUpload(fileName: $text) { created }", "String!"],
  ['startUpload(fileName: "a.wav", title: $text) { created }', "String!"],
  ['startUpload(fileName: "a.wav", sourceSha256: $text) { created }', "String!"],
  ['startUpload(fileName: "a.wav", idempotencyKey: $text) { created }', "UUID!"],
  ['startUpload(fileName: "a.wav", ticket: $text) { created }', "UUID!"],
  ["cancelUpload(id: $text) { cancelledId }", "ID!"],
  ["me { records(filter: { text: $text }) { totalCount } }", "String!"],
  ["me { records(filter: { sourceSha256: $text }) { totalCount } }", "String!"],
  ["me { records(filter: { tag: { name: $text, value: $text } }) { totalCount } }", "String!"],
  ["me { records(filter: { createdAt: { from: $text, before: $text } }) { totalCount } }", "DateTime!"],
  ["me { records(after: $text) { totalCount } }", "String!"],
  ["me { records(before: $text, last: 1) { totalCount } }", "String!"],
  ["record(id: $text) { id }", "ID!"],
  ["node(id: $text) { id }", "ID!"],
  ["nodes(ids: [$text]) { id }", "ID!"],
  ["shared(url: $text) { title }", "URL!"],
  ["upload(id: $text) { id }", "ID!"],
];

describe("the largest request of each kind takes less than 50 ms of CPU", () => {
  let database: TestDatabase;
  let service: ServiceProcess;
  let ann: Credentials;
  let recordId: string;
  let issuer: Issuer;

  beforeAll(async () => {
    database = await createTestDatabase();
    issuer = new Issuer();
    await issuer.start();
    service = await startServiceProcess({
      DATABASE_URL: database.url,
      NODE_ENV: "test",
      LOG_LEVEL: "info",
      OIDC_ISSUER: issuer.url,
      OIDC_AUDIENCE: audience,
      INTROSPECTION: "false",
    });
    const client = new ApiClient(service.url);
    ann = await client.createUser();
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.1 }));
    recordId = data.uploadRecord.record.id;
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await issuer.stop();
    await database[Symbol.asyncDispose]();
  });

  /** The lowest CPU time of several tries: other load on the machine only adds to it. */
  const cpuOf = async (request: Buffer): Promise<{ status: number; ms: number }> => {
    let least = { status: 0, ms: Infinity };
    for (let tries = 0; tries < 8 && least.ms >= maxCpuMs; tries++) {
      const before = mainThreadMs(service.child.pid);
      const answer = await exchange(service.port, request);
      const ms = mainThreadMs(service.child.pid) - before;
      if (ms < least.ms) least = { status: answer?.status ?? 0, ms };
    }
    return least;
  };
  const json = (body: string): Buffer =>
    rawPost(Buffer.from(body), { "content-type": "application/json", authorization: `Bearer ${ann.token}` });
  const operation = (query: string, variables: unknown = {}): Buffer => json(JSON.stringify({ query, variables }));
  const get = (path: string, headers = ""): Buffer =>
    Buffer.from(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n`);
  const upload = (operations: string, map: string, fileName: string, wav: Buffer): Buffer =>
    rawPost(multipartBody(fieldPart("operations", operations), fieldPart("map", map), filePart("0", fileName, wav)), {
      authorization: `Bearer ${ann.token}`,
    });
  const oneUpload = (wav: Buffer): Buffer => upload(uploadOperation, '{"0":["variables.file"]}', "a.wav", wav);
  const preflight = "Apollo-Require-Preflight: 1\r\n";
  const end = Buffer.from(" HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const uploads = (metadata: string, headers = "Upload-Defer-Length: 1\r\n", file: Buffer = Buffer.alloc(0)): Buffer =>
    Buffer.concat([
      Buffer.from(
        `POST /uploads HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${ann.token}\r\nTus-Resumable: 1.0.0\r\n` +
          `${headers}Upload-Metadata: ${metadata}\r\nContent-Length: ${file.length}\r\n\r\n`,
      ),
      file,
    ]);
  const uploadOperation = JSON.stringify({
    query: "mutation ($file: Upload!) { uploadRecord(file: $file) { created } }",
    variables: { file: null },
  });

  it.each([
    ["objects in variables", (x: string) => `{"query":"{ __typename }","variables":{"x":[${x}{}]}}`, "{},"],
    ["lists in variables", (x: string) => `{"query":"{ __typename }","variables":{"x":[${x}[]]}}`, "[],"],
    ["numbers in extensions", (x: string) => `{"query":"{ __typename }","extensions":{"x":[${x}1]}}`, "1,"],
    ["levels of lists", (x: string) => `{"query":"{ __typename }","variables":{"x":${x}`, "["],
    ["levels of objects", (x: string) => `{"query":"{ __typename }","variables":{"x":${x}`, '{"a":'],
    ["lists in place of a request", (x: string) => `[${x}[]]`, "[],"],
  ])("JSON with %s", async (_what, body, piece) => {
    const { status, ms } = await cpuOf(json(body(piece.repeat(megabyte / piece.length))));
    expect(status).toBe(400);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  it.each([
    ["a document of comments", `{ __typename ${"#\n".repeat(megabyte / 4)} }`],
    ["a document of commas", `{ __typename ${",".repeat(megabyte)} }`],
    ["a text in the document", `mutation { createUser(name: "${"a".repeat(megabyte)}") { token } }`],
    ["escapes in the document", `mutation { createUser(name: "${"\\u{1F600}".repeat(megabyte / 11)}") { token } }`],
    ["a text of lines in the document", `mutation { createUser(name: """${" \n".repeat(megabyte / 4)}""") { token } }`],
    ["a name that nothing has", `{ ${"a".repeat(megabyte)} }`],
  ])("%s", async (_what, query) => {
    const { status, ms } = await cpuOf(operation(query));
    expect(status).toBe(400);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  it.each(textArguments)("marks in %s", async (field, type) => {
    const kind = /^(?:me|records?|nodes?|shared|upload)\b/.test(field) ? "query" : "mutation";
    const query = `${kind} ($text: ${type}) { ${field.replace("ID", recordId)} }`;
    const { status, ms } = await cpuOf(operation(query, { text: marks(megabyte / 2) }));
    expect(status).toBeLessThan(500);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  it.each([
    ["distinct characters", `//${distinct(5400)}`],
    ["distinct characters behind a line break", `/\n/${distinct(5400)}`],
    ["marks", `//a${marks(8000)}`],
  ])("hosts of %s in links", async (_what, host) => {
    const names = Array.from({ length: 20 }, (_, i) => `u${i}`);
    const query = `query (${names.map((name) => `$${name}: URL!`).join(" ")}) {
      ${names.map((name) => `${name}: shared(url: $${name}) { title }`).join(" ")} }`;
    const url = `http:${host}/l/x`;
    const { status, ms } = await cpuOf(operation(query, Object.fromEntries(names.map((name) => [name, url]))));
    expect(status).toBe(400);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  it.each([
    ["hints", '; Field "x" is not defined by type "'],
    ["suggestions", " Did you mean "],
  ])("what reads like %s in a value that a message repeats", async (_what, piece) => {
    const query = "query ($field: RecordOrderField!) { me { records(orderBy: { field: $field }) { totalCount } } }";
    const { status, ms } = await cpuOf(operation(query, { field: piece.repeat(megabyte / 8 / piece.length) }));
    expect(status).toBe(400);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  it.each([
    ["a value that an enum lacks", { field: "A".repeat(megabyte) }],
    ["an object in place of an enum's value", { field: { ["a".repeat(megabyte / 2)]: "b".repeat(megabyte / 2) } }],
    ["the name of a field that an input lacks", { filter: { ["q".repeat(megabyte)]: 1 } }],
    ["many names of fields that an input lacks", { filter: manyNames(2000, megabyte / 2000 - 20) }],
    ["many short names of fields that an input lacks", { filter: manyNames(2400, 20) }],
  ])("%s", async (_what, variables) => {
    const query = `query ($field: RecordOrderField! = TITLE, $filter: RecordFilterInput) {
      me { records(orderBy: { field: $field }, filter: $filter) { totalCount } } }`;
    const { status, ms } = await cpuOf(operation(query, variables));
    expect(status).toBe(400);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  it("a document with as many mistakes as are reported", async () => {
    const fields = Array.from({ length: 900 }, (_, i) => `record${i}`).join(" ");
    const { status, ms } = await cpuOf(operation(`{ me { ${fields} } }`));
    expect(status).toBe(400);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  it("marks in each argument that takes text", () => {
    const schema = buildSchema(readFileSync("schema/schema.graphql", "utf8"));
    const textNames = (args: readonly Pick<GraphQLArgument, "name" | "type">[]): string[] =>
      args.flatMap(({ name, type }) => {
        const named = getNamedType(type);
        if (isInputObjectType(named)) return textNames(Object.values(named.getFields()));
        const isText = isScalarType(named) && ["String", "ID", "UUID", "URL", "DateTime"].includes(named.name);
        return isText ? [name] : [];
      });
    const roots = [schema.getQueryType()!, schema.getMutationType()!];
    const untried = roots
      .flatMap((type) => Object.values(type.getFields()))
      .filter(({ name }) => name !== "uploadRecord") // below
      .flatMap(({ name, args }) => textNames(args).map((argument) => [name, argument] as const))
      .filter(([name, argument]) => {
        const tried = new RegExp(`^${name}\\(.*\\b${argument}: \\[?\\$text`);
        return !textArguments.some(([field]) => tried.test(field));
      });
    expect(untried).toEqual([]);
  });

  it("a list of ids", async () => {
    const query = "mutation ($ids: [ID!]!) { deleteRecords(ids: $ids) { deletedIds } }";
    const ids = Array.from({ length: 4900 }, () => marks(100));
    expect((await cpuOf(operation(query, { ids }))).ms).toBeLessThan(maxCpuMs);
  });

  it.each([
    ["variables of a GET", () => get(`/graphql?query={__typename}&variables=${"[".repeat(15_000)}`)],
    ["lists in a GET", () => get(`/graphql?query={__typename}&variables={"x":[${"[],".repeat(4500)}[]]}`)],
    ["parameters of a GET", () => get(`/graphql?${"a&".repeat(7500)}`)],
    ["the path of a link", () => get(`/record/${recordId}/${encodeURIComponent(marks(2400))}.mp3?user=${ann.id}`)],
    ["the parameters of a link", () => get(`/record?user=${ann.id}&record=${encodeURIComponent(marks(2400))}`)],
    ["an unknown address", () => get(`/${"/%cc%81".repeat(2000)}`)],
    ["ranges", () => get(`/record?user=${ann.id}&record=${recordId}`, `Range: bytes=${"0-1,".repeat(3800)}2-3\r\n`)],
    ["tags to compare with", () => get(`/schema.graphql`, `If-None-Match: ${'"a",'.repeat(3800)}"b"\r\n`)],
    ["types to accept", () => get(`/graphql?query={__typename}`, `Accept: ${"a/b;q=0.1,".repeat(1500)}*/*\r\n`)],
    ["codings to accept", () => get(`/schema.graphql`, `Accept-Encoding: ${"a;q=0.1,".repeat(1900)}gzip\r\n`)],
    [
      "cookies",
      () => get(`/graphql?query={__typename}`, `Cookie: ${"a=b; ".repeat(3000)}\r\nApollo-Require-Preflight: 1\r\n`),
    ],
    [
      "a host",
      () => Buffer.from(`GET /listen/${"A".repeat(32)} HTTP/1.1\r\nHost: ${latin1(15_000)}\r\n\r\n`, "latin1"),
    ],
    ["the secret of a page", () => get(`/listen/${encodeURIComponent(marks(2400))}`)],
    ["the parameters of a page", () => get(`/listen?${"id=a&user=1;".repeat(1200)}`)],
    ["the parameters of a frame", () => get(`/embed?${"&amp;%2526".repeat(1500)}`)],
    ["a link of a frame's description", () => get(`/oembed?url=http://${encodeURIComponent(distinct(1700))}/l/x`)],
    ["bytes in such a link", () => Buffer.concat([Buffer.from("GET /oembed?url=http://"), bytes(14_000), end])],
    ["a picture", () => get(`/record/${recordId}/waveform.png?user=${ann.id}`)],
    ["a waveform", () => get(`/record/${recordId}/waveform.json?user=${ann.id}&samplesPerPixel=1`)],
    ["a play link", () => get(`/play/${"A".repeat(15_000)}`)],
    ["parts of a play link", () => get(`/play/${"A.".repeat(7500)}`)],
    ["the schema", () => get(`/schema.graphql`, "Accept-Encoding: br\r\n")],
    ["the explorer", () => get(`/explore?${"a=b&".repeat(3500)}`)],
    ["a file of the explorer", () => get(`/explore/${"%2e%2e%2f".repeat(1600)}`)],
    ["the page", () => get(`/?${"a=b&".repeat(3500)}`, "Accept: text/html\r\n")],
    ["names in Upload-Metadata", () => uploads(`${"a,".repeat(7500)}b`)],
    ["a file name in Upload-Metadata", () => uploads(`filename ${base64(marks(5500))}`)],
    ["a title in Upload-Metadata", () => uploads(`filename YQ==,title ${base64(marks(5500))}`)],
    ["a ticket in Upload-Metadata", () => uploads(`filename YQ==,ticket ${base64(marks(5500))}`)],
    ["a method in place of POST", () => uploads("", `X-HTTP-Method-Override: ${"ß".repeat(7000)}\r\n`)],
    ["the length of an upload", () => uploads("", `Upload-Length: ${"9".repeat(15_000)}\r\n`)],
    ["headers", () => get(`/healthz`, Array.from({ length: 1500 }, (_, i) => `a${i}: b\r\n`).join(""))],
    [
      "proxies",
      () =>
        get(`/healthz`, `X-Forwarded-For: ${"1.2.3.4,".repeat(1900)}1.2.3.4\r\nForwarded: ${"for=a,".repeat(10)}\r\n`),
    ],
  ])("%s", async (_what, request) => {
    const { status, ms } = await cpuOf(request());
    expect(status).toBeGreaterThan(0);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  it.each([
    ["with much in it", async () => await issuer.token({ sub: "eve", more: "x".repeat(9000) })],
    ["with many levels in it", async () => await issuer.token({ sub: "eve", more: levels(1000) })],
    ["with a name of marks", async () => await issuer.token({ sub: "marked", name: marks(3400) })],
    ["that is wrong", async () => `${await issuer.token({ sub: "eve", more: "x".repeat(9000) })}x`],
    ["of an unknown key", async () => await issuer.token({}, { ...issuer.signingKey, kid: "k".repeat(8000) })],
    ["of many parts", async () => "a.".repeat(7000)],
  ])("a JWT %s", async (_what, make) => {
    const token = await make();
    const { status, ms } = await cpuOf(
      get("/graphql?query={me{id}}", `Authorization: Bearer ${token}\r\n${preflight}`),
    );
    expect(status).toBeGreaterThan(0);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  it("JSON that no route takes", async () => {
    const body = Buffer.from(`[${"{},".repeat(megabyte / 3)}{}]`);
    const request = Buffer.concat([
      Buffer.from(
        `POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`,
      ),
      body,
    ]);
    const { status, ms } = await cpuOf(request);
    expect(status).toBe(404);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  it.each([
    [
      "objects in `operations`",
      () =>
        upload(
          `{"query":"{ __typename }","variables":{"file":null,"x":[${"{},".repeat(21_000)}{}]}}`,
          "{}",
          "a.wav",
          Buffer.alloc(0),
        ),
    ],
    ["levels in `map`", () => upload(uploadOperation, "[".repeat(16_000), "a.wav", Buffer.alloc(0))],
    [
      "entries in `map`",
      () => upload(uploadOperation, `{${'"a":[],'.repeat(1900)}"0":["variables.file"]}`, "a.wav", Buffer.alloc(0)),
    ],
    [
      "a path in `map`",
      () => upload(uploadOperation, `{"0":["variables.file${".a".repeat(7500)}"]}`, "a.wav", Buffer.alloc(0)),
    ],
    [
      "a file name of marks",
      () => upload(uploadOperation, '{"0":["variables.file"]}', `${marks(7000)}.wav`, sineWav({ seconds: 0.1 })),
    ],
    [
      "a tag of marks",
      () => upload(uploadOperation, '{"0":["variables.file"]}', "a.wav", taggedWav(marks(megabyte / 2))),
    ],
    [
      "ADPCM in blocks of one sample",
      () => upload(uploadOperation, '{"0":["variables.file"]}', "a.wav", headersOnlyWav()),
    ],
    [
      "a title of marks",
      () =>
        upload(
          JSON.stringify({
            query: "mutation ($file: Upload!, $title: String) { uploadRecord(file: $file, title: $title) { created } }",
            variables: { file: null, title: marks(31_000) },
          }),
          '{"0":["variables.file"]}',
          "a.wav",
          sineWav({ seconds: 0.1 }),
        ),
    ],
  ])("%s of a multipart request", async (_what, request) => {
    const { status, ms } = await cpuOf(request());
    expect(status).toBeGreaterThan(0);
    expect(ms).toBeLessThan(maxCpuMs);
  });

  // Each takes several turns of the event loop. What the same upload takes without its notes does not count.
  it.each([
    ...Object.entries(notedWavs).map(([what, wav]) => [what, () => oneUpload(wav())] as [string, () => Buffer]),
    [
      "a portion of a resumable upload",
      () => {
        const file = notedWavs["cue points with long labels"]!();
        const type = "Content-Type: application/offset+octet-stream\r\n";
        return uploads("", `Upload-Length: ${file.length * 2}\r\n${type}`, file);
      },
    ] as [string, () => Buffer],
  ])("%s of an upload", async (_what, request) => {
    const plain = await cpuOf(oneUpload(sineWav({ seconds: 0.1 })));
    const { status, ms } = await cpuOf(request());
    expect(status).toBeGreaterThan(0);
    expect(ms - plain.ms).toBeLessThan(maxCpuMs);
  });
});

it("a client that is gone before its request is logged does not end the service", async () => {
  await using database = await createTestDatabase();
  await using service = await startServiceProcess({
    DATABASE_URL: database.url,
    LOG_LEVEL: "info",
    TRUST_PROXY: "loopback",
  });
  for (const path of ["/schema.graphql", "/healthz", "/nothing"]) {
    const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: br\r\n\r\n`;
    for (let times = 0; times < 10; times++) {
      using connection = await connectRaw(service.port);
      await connection.send(request);
      await connection.answer();
      connection.reset();
    }
  }
  expect((await fetch(`${service.url}/readyz`)).status).toBe(200);
  expect(service.child.exitCode).toBeNull();
  expect(service.log.filter((line) => line.includes('"client":"unknown"'))).toEqual([]);
});

it("a client that is gone before the service has seen its connection is no fault of the service", async () => {
  await using database = await createTestDatabase();
  await using service = await startServiceProcess({ DATABASE_URL: database.url, LOG_LEVEL: "info" });
  const client = new ApiClient(service.url);
  const ann = await client.createUser();
  const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.1 }));
  const query = "mutation ($id: ID!) { createLink(recordId: $id) { link { url } } }";
  const { url } = (await client.run(query, { id: data.uploadRecord.record.id }, ann)).data.createLink.link;
  const secret = new URL(url).pathname.split("/")[2];
  const paths = [
    `/l/${secret}`,
    `/listen/${secret}`,
    `/embed/${secret}`,
    `/l/${secret}/waveform.png`,
    "/schema.graphql",
  ];
  // It accepts the connections when their clients have reset them. The system keeps what they sent.
  service.child.kill("SIGSTOP");
  for (const path of paths) {
    for (const host of ["localhost", "["]) {
      using connection = await connectRaw(service.port);
      await connection.send(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nAccept-Encoding: br\r\n\r\n`);
      connection.reset();
    }
  }
  service.child.kill("SIGCONT");
  for (const path of paths) {
    expect([path, (await fetch(service.url + path)).status]).toEqual([path, 200]);
  }
  expect(service.log.filter((line) => line.startsWith('{"level":50'))).toEqual([]);
});

it("documents are cached by their length, including comments", async () => {
  await using database = await createTestDatabase();
  await using service = await startServiceProcess({
    DATABASE_URL: database.url,
    LOG_LEVEL: "info",
    NODE_OPTIONS: "--max-old-space-size=80",
  });
  for (let i = 0; i < 40; i++) {
    const query = `{ __typename } ${`#${i}\n`.repeat(13_000)}`;
    const body = JSON.stringify({ query });
    const request = rawPost(Buffer.from(body), { "content-type": "application/json" });
    expect((await exchange(service.port, request))?.status).toBe(200);
  }
  expect(service.child.exitCode).toBeNull();
});

/** IMA ADPCM whose blocks have a header of four bytes, which is their only sample. */
function headersOnlyWav(): Buffer {
  const format = Buffer.alloc(16);
  format.writeUInt16LE(0x11, 0);
  format.writeUInt16LE(1, 2);
  format.writeUInt32LE(8000, 4);
  format.writeUInt16LE(4, 12);
  format.writeUInt16LE(4, 14);
  const data = Buffer.alloc(300_000);
  for (let i = 0; i < data.length; i++) data[i] = (i * 40_503) >> 7;
  return wavFile({ formatChunk: format, data });
}

function withIxml(xml: string): Buffer {
  return wavFile({ before: [chunk("iXML", Buffer.from(xml))], data: sineWav({ seconds: 0.1 }).subarray(44) });
}

function taggedWav(text: string): Buffer {
  return wavFile({ data: sineWav({ seconds: 0.1 }).subarray(44), after: [infoChunk({ INAM: text, IART: text })] });
}

/** CPU time of a process's main thread, which serves its requests. */
function mainThreadMs(pid: number): number {
  const [nanoseconds] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ");
  return Number(nanoseconds) / 1e6;
}
