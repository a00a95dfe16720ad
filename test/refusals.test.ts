import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { graphqlAnswerType } from "../src/accept-header.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { exchange, fieldPart, filePart, multipartBody, rawPost } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const asJson = "application/json; charset=utf-8";
const asGraphql = "application/graphql-response+json; charset=utf-8";

describe("the form of an answer", () => {
  it.each([
    ["no Accept header", undefined, asJson],
    ["curl, Python, axios", "*/*", asJson],
    ["axios", "application/json, text/plain, */*", asJson],
    ["Apollo Client 4", "application/graphql-response+json,application/json;q=0.9", asGraphql],
    [
      "Apollo Kotlin",
      "multipart/mixed;deferSpec=20220824, application/graphql-response+json, application/json",
      asGraphql,
    ],
    [
      "urql",
      "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed",
      asGraphql,
    ],
    ["Spring", "application/json, application/graphql-response+json", asGraphql],
    ["Strawberry Shake", "application/graphql-response+json; charset=utf-8, multipart/mixed; q=0.9", asGraphql],
    ["capital letters", "Application/GraphQL-Response+JSON", asGraphql],
    ["JSON liked better", "application/graphql-response+json;q=0.5, application/json", asJson],
    ["JSON liked better, with spaces", "application/json; q = 1, application/graphql-response+json ; q = 0.9", asJson],
    ["anything liked better", "application/graphql-response+json;q=0.1, */*", asJson],
    ["the new form refused", "application/graphql-response+json;q=0, */*", asJson],
    ["JSON refused", "application/json;q=0, application/*", asGraphql],
    ["any application", "application/*", asJson],
    ["Java's HttpURLConnection", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", asJson],
    ["a page", "text/html, application/xhtml+xml", undefined],
    ["events", "text/event-stream", undefined],
  ])("follows the Accept header: %s", (_client, accept, type) => {
    expect(graphqlAnswerType(accept)).toBe(type);
  });
});

describe("a refusal on /graphql", () => {
  let service: TestService;
  let ann: Credentials;
  let port: number;

  beforeAll(async () => {
    service = await startService({ MAX_UPLOAD_BYTES: "100000", MAX_NEW_USERS_PER_HOUR: "1" });
    port = Number(new URL(service.url).port);
    ann = await new ApiClient(service.url).createUser();
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const jsonType = { "content-type": "application/json", "apollo-require-preflight": undefined };
  const json = (query: string, headers: object = {}) =>
    rawPost(Buffer.from(JSON.stringify({ query })), { ...jsonType, ...headers });
  const upload = "mutation ($file: Upload!) { uploadRecord(file: $file) { created } }";
  const multipart = (operations: string, file: Buffer, headers: Record<string, string | undefined> = {}) => {
    const parts = [fieldPart("operations", operations), fieldPart("map", '{"0":["variables.file"]}')];
    return rawPost(multipartBody(...parts, filePart("0", "take.wav", file)), headers);
  };
  const operations = JSON.stringify({ query: upload, variables: { file: null } });
  const wav = sineWav({ seconds: 0.1, channels: 1 });
  const bearer = () => ({ authorization: `Bearer ${ann.token}` });

  it.each<[string, number, string, (headers: Record<string, string>) => Buffer]>([
    ["without a token", 401, "UNAUTHENTICATED", (h) => multipart(operations, wav, h)],
    [
      "with a wrong token",
      401,
      "UNAUTHENTICATED",
      (h) => multipart(operations, wav, { ...h, authorization: "Bearer x" }),
    ],
    [
      "of a query with a wrong token",
      401,
      "UNAUTHENTICATED",
      (h) => json("{ me { id } }", { ...h, authorization: "Bearer x" }),
    ],
    [
      "of a file that is too large by its length",
      413,
      "UPLOAD_TOO_LARGE",
      (h) => rawPost(Buffer.from("--"), { ...h, ...bearer(), "content-length": "99999999" }),
    ],
    [
      "of a file that is too large",
      413,
      "UPLOAD_TOO_LARGE",
      (h) => multipart(operations, sineWav({ seconds: 1 }), { ...h, ...bearer() }),
    ],
    [
      "of what is no WAV",
      415,
      "UNSUPPORTED_MEDIA",
      (h) => multipart(operations, Buffer.from("hello, hello"), { ...h, ...bearer() }),
    ],
    ["of a malformed multipart body", 400, "BAD_REQUEST", (h) => multipart("{", wav, { ...h, ...bearer() })],
    [
      "of a JSON body that is too large",
      413,
      "REQUEST_TOO_LARGE",
      (h) => rawPost(Buffer.from("{"), { ...h, ...jsonType, "content-length": "99999999" }),
    ],
    ["of what is not JSON", 400, "BAD_REQUEST", (h) => rawPost(Buffer.from("{"), { ...h, ...jsonType })],
    [
      "of another type",
      415,
      "UNSUPPORTED_MEDIA",
      (h) => rawPost(Buffer.from("a=b"), { ...h, "content-type": "application/x-sound" }),
    ],
    ["by the rate limit", 429, "RATE_LIMITED", (h) => json('mutation { createUser(name: "Eve") { token } }', h)],
    ["of what does not fit the schema", 400, "GRAPHQL_VALIDATION_FAILED", (h) => json("{ nothing }", h)],
    ["of what is not GraphQL", 400, "GRAPHQL_PARSE_FAILED", (h) => json("{", h)],
  ])("%s comes in the form that the client asks for, with the request's id", async (_what, status, code, request) => {
    for (const [accept, type] of [
      ["*/*", asJson],
      ["application/graphql-response+json,application/json;q=0.9", asGraphql],
    ] as const) {
      const answer = (await exchange(port, request({ accept })))!;
      expect([answer.status, answer.headers.get("content-type")]).toEqual([status, type]);
      const requestId = answer.headers.get("x-request-id");
      expect(requestId).toMatch(/^[\da-f-]{36}$/);
      expect(JSON.parse(answer.body)).toMatchObject({
        errors: [{ message: expect.any(String), extensions: { code, requestId } }],
      });
    }
  });

  it.each(["PUT", "DELETE", "PATCH", "PURGE"])("of the method %s names the methods that there are", async (method) => {
    const answer = (await exchange(port, Buffer.from(`${method} /graphql HTTP/1.1\r\nHost: a\r\n\r\n`)))!;
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET, POST, HEAD"]);
    expect(JSON.parse(answer.body)).toMatchObject({ errors: [{ extensions: { code: "METHOD_NOT_ALLOWED" } }] });
  });
});
