import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { exchange, fieldPart, filePart, multipartBody, rawPost } from "./support/raw-http.ts";
import { startServiceProcess, type ServiceProcess } from "./support/service-process.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { infoChunk, sineWav, wavFile } from "./support/wav-maker.ts";

/** Maximum of CPU time that one request may take on the thread that serves all requests. */
const maxCpuMs = 50;

/** Combining marks in the wrong order: the time to normalise them grows with the square of their number. */
const marks = (count: number): string => "\u0301\u0323".repeat(count / 2);

const megabyte = 1024 * 1024 - 2000;

describe("the largest request of each kind takes less than 50 ms of CPU", () => {
  let database: TestDatabase;
  let service: ServiceProcess;
  let ann: Credentials;
  let recordId: string;

  beforeAll(async () => {
    database = await createTestDatabase();
    service = await startServiceProcess({ DATABASE_URL: database.url, NODE_ENV: "test", LOG_LEVEL: "info" });
    const client = new ApiClient(service.url);
    ann = await client.createUser();
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.1 }));
    recordId = data.uploadRecord.record.id;
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  /** The lowest CPU time of several tries: other load on the machine only adds to it. */
  const cpuOf = async (request: Buffer): Promise<{ status: number; ms: number }> => {
    let least = { status: 0, ms: Infinity };
    for (let tries = 0; tries < 8 && least.ms > maxCpuMs / 2; tries++) {
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

  it.each([
    ["createUser(name: $text) { token }", "String!"],
    ["updateUser(name: $text) { user { id } }", "String!"],
    ["deleteUser(confirm: $text) { deletedId }", "String!"],
    ["createToken(name: $text) { secret }", "String!"],
    ['updateRecord(id: "ID", title: $text) { record { id } }', "String!"],
    ["updateRecord(id: $text) { record { id } }", "ID!"],
    ['createLink(recordId: "ID", note: $text) { link { id } }', "String!"],
    ["createLink(recordId: $text) { link { id } }", "ID!"],
    ["revokeLink(id: $text) { revokedId }", "ID!"],
    ["revokeToken(id: $text) { revokedId }", "ID!"],
    ["deleteRecord(id: $text) { deletedId }", "ID!"],
    ["deleteRecords(ids: [$text]) { deletedIds }", "ID!"],
    ["me { records(filter: { text: $text }) { totalCount } }", "String!"],
    ["me { records(after: $text) { totalCount } }", "String!"],
    ["me { records(before: $text, last: 1) { totalCount } }", "String!"],
    ["record(id: $text) { id }", "ID!"],
    ["node(id: $text) { id }", "ID!"],
  ])("marks in %s", async (field, type) => {
    const kind = /^(?:me|record|node)\b/.test(field) ? "query" : "mutation";
    const query = `${kind} ($text: ${type}) { ${field.replace("ID", recordId)} }`;
    const { status, ms } = await cpuOf(operation(query, { text: marks(megabyte / 2) }));
    expect(status).toBeLessThan(500);
    expect(ms).toBeLessThan(maxCpuMs);
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

function taggedWav(text: string): Buffer {
  return wavFile({ data: sineWav({ seconds: 0.1 }).subarray(44), after: [infoChunk({ INAM: text, IART: text })] });
}

/** CPU time of a process's main thread, which serves its requests. */
function mainThreadMs(pid: number): number {
  const [nanoseconds] = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ");
  return Number(nanoseconds) / 1e6;
}
