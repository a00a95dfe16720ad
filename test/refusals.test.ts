import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { graphqlAnswerType } from "../src/http/accept-header.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { exchange, fieldPart, filePart, multipartBody, rawPost } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const asJson = "application/json; charset=utf-8";
const asGraphql = "application/graphql-response+json; charset=utf-8";

const wav = sineWav({ seconds: 0.1, channels: 1 });

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
    const client = new ApiClient(service.url);
    ann = await client.createUser();
    await client.uploadRecord(ann, wav);
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
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET, HEAD, POST"]);
    expect(JSON.parse(answer.body)).toMatchObject({ errors: [{ extensions: { code: "METHOD_NOT_ALLOWED" } }] });
  });

  /** A GET of /graphql. */
  const get = (search: string, headers: object = {}) => {
    const lines = Object.entries({ host: "localhost", ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
    return Buffer.from(`GET /graphql${search} HTTP/1.1\r\n${lines.join("")}\r\n`);
  };
  const body = (value: unknown, headers: object = {}) =>
    rawPost(Buffer.from(typeof value === "string" ? value : JSON.stringify(value)), { ...jsonType, ...headers });
  const run = (query: string, variables: object = {}) => body({ query, variables }, bearer());
  const list = (args: string) => `{ me { records(${args}) { totalCount nodes { id peaks } } } }`;
  const howToSend = 'Send JSON, as in {"query":"{ me { name } }"}, or multipart/form-data with a file.';
  const howToSendFile =
    "Send a file as multipart/form-data, as docs/clients.md shows. Apollo Client needs apollo-upload-client for this.";
  const csrf =
    "A page of another website could have sent this request. To show that none did, send `Authorization: Bearer <token>`, or the header " +
    "`apollo-require-preflight: true`.";
  const noToken = "Send your token in the header: Authorization: Bearer <token>.";
  const tokenForm = "The Authorization header must have the form: Bearer <token>.";
  const badToken = "The token is unknown, revoked or expired. Use another one.";

  type Refusal = [string, () => Buffer, string, string, object?];

  it.each<Refusal>([
    [
      "a file in JSON, as Apollo's own link sends it",
      () => run(upload, { file: {} }),
      "400 BAD_USER_INPUT",
      howToSendFile,
      { argument: "file" },
    ],
    [
      "a file in JSON as text",
      () => run(upload, { file: "UklGRg==" }),
      "400 BAD_USER_INPUT",
      howToSendFile,
      { argument: "file" },
    ],
    [
      "a file in the document",
      () => run('mutation { uploadRecord(file: "take.wav") { created } }'),
      "400 BAD_USER_INPUT",
      `A file cannot be part of the document. ${howToSendFile}`,
      { argument: "file" },
    ],
    [
      "a null in place of the file",
      () => run(upload, { file: null }),
      "400 BAD_USER_INPUT",
      `The variable "$file" has no file. ${howToSendFile}`,
      { argument: "file" },
    ],
    [
      "no file",
      () => run(upload),
      "400 BAD_USER_INPUT",
      `The variable "$file" has no file. ${howToSendFile}`,
      { argument: "file" },
    ],
    [
      "a file under another name than the variable's",
      () =>
        multipart(
          JSON.stringify({ query: upload.replaceAll("$file", "$wav"), variables: { file: null } }),
          wav,
          bearer(),
        ),
      "400 BAD_USER_INPUT",
      'The variable "$wav" has no file: `map` puts it into `variables.file`. Use one name for both.',
      { argument: "file" },
    ],
    [
      "several files in Sandbox",
      () => severalFiles(),
      "400 BAD_USER_INPUT",
      "This variable takes one file, not a list. Send one request for each file.",
      { argument: "file" },
    ],
    [
      "an upload without a token or a header",
      () => multipart(operations, wav, { "apollo-require-preflight": undefined }),
      "400 BAD_REQUEST",
      csrf,
    ],
    [
      "an upload with a proxy's password only",
      () => multipart(operations, wav, { "apollo-require-preflight": undefined, authorization: "Basic eDp5" }),
      "400 BAD_REQUEST",
      csrf,
    ],
    ["a query by GET without a header", () => get("?query={__typename}"), "400 BAD_REQUEST", csrf],
    ["no token", () => json("{ me { id } }"), "401 UNAUTHENTICATED", noToken],
    ...["record", "node"].map((field): Refusal => [
      `no token for a ${field}`,
      () => json(`{ ${field}(id: "${crypto.randomUUID()}") { id } }`),
      "401 UNAUTHENTICATED",
      noToken,
    ]),
    [
      "a token without Bearer",
      () => json("{ me { id } }", { authorization: ann.token }),
      "401 UNAUTHENTICATED",
      tokenForm,
    ],
    [
      "Bearer without a token",
      () => json("{ me { id } }", { authorization: "Bearer" }),
      "401 UNAUTHENTICATED",
      tokenForm,
    ],
    [
      "a proxy's password only",
      () => json("{ me { id } }", { authorization: "Basic eDp5" }),
      "401 UNAUTHENTICATED",
      tokenForm,
    ],
    [
      "a token that JavaScript made of null",
      () => json("{ me { id } }", { authorization: "Bearer null" }),
      "401 UNAUTHENTICATED",
      badToken,
    ],
    [
      "an unknown token",
      () => json("{ me { id } }", { authorization: `Bearer ${crypto.randomUUID()}` }),
      "401 UNAUTHENTICATED",
      badToken,
    ],
    [
      "a user id without its token",
      () =>
        multipart(
          JSON.stringify({ query: upload.replace("$file)", `$file, userId: "1")`), variables: { file: null } }),
          wav,
        ),
      "400 BAD_USER_INPUT",
      "Give both userId and token, or neither and an Authorization header.",
      { argument: "token" },
    ],
    [
      "a token without its user id",
      () =>
        multipart(
          JSON.stringify({
            query: upload.replace("$file)", `$file, token: "${ann.token}")`),
            variables: { file: null },
          }),
          wav,
        ),
      "400 BAD_USER_INPUT",
      "Give both userId and token, or neither and an Authorization header.",
      { argument: "userId" },
    ],
    [
      "another's user id",
      () =>
        multipart(
          JSON.stringify({
            query: upload.replace("$file)", `$file, userId: "77", token: "${ann.token}")`),
            variables: { file: null },
          }),
          wav,
        ),
      "401 UNAUTHENTICATED",
      "The token is unknown, revoked or expired, or it belongs to another user id. Check both, or use another token.",
    ],
    [
      "no WAV",
      () => multipart(operations, Buffer.from("ID3\x04 and so on, an MP3"), bearer()),
      "415 UNSUPPORTED_MEDIA",
      "The file is not a WAV. It looks like MP3. Export it as WAV (PCM).",
    ],
    [
      "a file of 0 bytes",
      () => multipart(operations, Buffer.alloc(0), bearer()),
      "422 UPLOAD_INCOMPLETE",
      "The file is empty (0 bytes). Choose another one, or record it again.",
    ],
    [
      "a recording without samples",
      () => multipart(operations, sineWav({ seconds: 0 }), bearer()),
      "422 UPLOAD_INCOMPLETE",
      "The WAV contains no sound: it has a header but no samples. Record it again.",
    ],
    [
      "a WAV cut off in its header",
      () => multipart(operations, wav.subarray(0, 40), bearer()),
      "422 UPLOAD_INCOMPLETE",
      "The file ended before its sound began. Send the complete file.",
    ],
    [
      "a batch",
      () => body([{ query: "{ __typename }" }]),
      "400 BAD_REQUEST",
      "Batching is not supported. Send one operation in each request.",
    ],
    [
      "a subscription",
      () => run("subscription { x }"),
      "400 BAD_REQUEST",
      "Subscriptions are not supported. Use a query.",
    ],
    [
      "a mutation by GET",
      () => get('?query=mutation{deleteUser(confirm:""){deletedId}}', bearer()),
      "405 METHOD_NOT_ALLOWED",
      "GET is only for queries. Send mutations with POST.",
    ],
    [
      "GET without an operation",
      () => get("", bearer()),
      "400 BAD_REQUEST",
      "The request has no operation. Send it as the parameter `query`, or with POST.",
    ],
    [
      "GET with two operations",
      () => get("?query={__typename}&query={__typename}", bearer()),
      "400 BAD_REQUEST",
      "The parameter `query` may be given only once.",
    ],
    [
      "GET with variables that are not JSON",
      () => get("?query={__typename}&variables=a", bearer()),
      "400 BAD_REQUEST",
      "The parameter `variables` must be a JSON object.",
    ],
    [
      "a page asked for with POST",
      () => json("{ __typename }", { accept: "text/html" }),
      "406 NOT_ACCEPTABLE",
      "The service answers in JSON. Name application/graphql-response+json, application/json or */* in the Accept header.",
    ],
    [
      "plain text",
      () => rawPost(Buffer.from("{ me }"), { "content-type": "text/plain" }),
      "415 UNSUPPORTED_MEDIA",
      "Send application/json, or multipart/form-data with a file.",
    ],
    [
      "GraphQL as such",
      () => rawPost(Buffer.from("{ me }"), { "content-type": "application/graphql" }),
      "415 UNSUPPORTED_MEDIA",
      "Send application/json, or multipart/form-data with a file.",
    ],
    [
      "curl's usual content type",
      () => rawPost(Buffer.from("{}"), { "content-type": "application/x-www-form-urlencoded" }),
      "415 UNSUPPORTED_MEDIA",
      "Send application/json, or multipart/form-data with a file.",
    ],
    [
      "a body without a content type",
      () => rawPost(Buffer.from("{}"), { "content-type": undefined }),
      "415 UNSUPPORTED_MEDIA",
      "Send application/json, or multipart/form-data with a file.",
    ],
    [
      "no body",
      () => rawPost(Buffer.alloc(0), { "content-type": undefined }),
      "400 BAD_REQUEST",
      `The request has no body. ${howToSend}`,
    ],
    [
      "an empty body",
      () => body(""),
      "400 BAD_REQUEST",
      `The body is empty, but its Content-Type says JSON. ${howToSend}`,
    ],
    [
      "a form under JSON's name",
      () => rawPost(multipartBody(fieldPart("operations", operations)), jsonType),
      "400 BAD_REQUEST",
      "The body is multipart/form-data, but the Content-Type says JSON. Do not set the Content-Type yourself: the client sets it together with the boundary.",
    ],
    [
      "broken JSON",
      () => body('{"query":'),
      "400 BAD_REQUEST",
      `The body is not JSON, but its Content-Type says JSON. ${howToSend}`,
    ],
    [
      "JSON that is text",
      () => body('"{ me { id } }"'),
      "400 BAD_REQUEST",
      `The body must be a JSON object. ${howToSend}`,
    ],
    ["JSON that is null", () => body("null"), "400 BAD_REQUEST", `The body must be a JSON object. ${howToSend}`],
    [
      "an object without an operation",
      () => body({ data: "{ me { id } }" }),
      "400 BAD_REQUEST",
      `The request has no operation. ${howToSend}`,
    ],
    ["an empty operation", () => body({ query: "" }), "400 BAD_REQUEST", `The request has no operation. ${howToSend}`],
    [
      "a syntax tree",
      () => body({ query: { kind: "Document", definitions: [] } }),
      "400 BAD_REQUEST",
      "`query` must be a string with the text of the operation, not its syntax tree.",
    ],
    [
      "variables as text",
      () => body({ query: "{ __typename }", variables: "{}" }),
      "400 BAD_REQUEST",
      "`variables` must be a JSON object, not a string that contains JSON.",
    ],
    [
      "variables as a list",
      () => body({ query: "{ __typename }", variables: [] }),
      "400 BAD_REQUEST",
      "`variables` must be a JSON object.",
    ],
    [
      "a number as the operation's name",
      () => body({ query: "{ __typename }", operationName: 1 }),
      "400 BAD_REQUEST",
      "`operationName` must be a string.",
    ],
    [
      "two operations and no name",
      () => body({ query: "query A { __typename } query B { __typename }" }),
      "400 OPERATION_RESOLUTION_FAILURE",
      "Must provide operation name if query contains multiple operations.",
    ],
    [
      "an unknown operation's name",
      () => body({ query: "query A { __typename }", operationName: "C" }),
      "400 OPERATION_RESOLUTION_FAILURE",
      'Unknown operation named "C".',
    ],
    [
      "a persisted query with another's hash",
      () => body({ query: "{ __typename }", extensions: { persistedQuery: { version: 1, sha256Hash: "0" } } }),
      "400 BAD_REQUEST",
      "The persisted query cannot be used: provided sha does not match query.",
    ],
    [
      "a persisted query of another version",
      () => body({ query: "{ __typename }", extensions: { persistedQuery: { version: 2, sha256Hash: "0" } } }),
      "400 BAD_REQUEST",
      "The persisted query cannot be used: Unsupported persisted query version.",
    ],
    [
      "a persisted query that is not known",
      () => body({ extensions: { persistedQuery: { version: 1, sha256Hash: "0" } } }),
      "200 PERSISTED_QUERY_NOT_FOUND",
      "PersistedQueryNotFound",
    ],
    [
      "an unknown field",
      () => run("{ me { recordz { totalCount } } }"),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Cannot query field "recordz" on type "User". Did you mean "records"?',
    ],
    [
      "an unknown argument",
      () => run("{ me { records(frist: 1) { totalCount } } }"),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Unknown argument "frist" on field "User.records". Did you mean "first" or "last"?',
      { argument: "frist" },
    ],
    [
      "text as a number in the document",
      () => run(list('first: "ten"')),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Int cannot represent non-integer value: "ten"',
      { argument: "first" },
    ],
    [
      "a filter that there is not",
      () =>
        run("query ($f: RecordFilterInput) { me { records(filter: $f) { totalCount } } }", {
          f: { colour: "RED" },
        }),
      "400 BAD_USER_INPUT",
      'Variable "$f" got invalid value { colour: "RED" }; Field "colour" is not defined by type "RecordFilterInput". The schema is at /schema.graphql.',
      { argument: "filter" },
    ],
    [
      "a field that there is not",
      () => run("{ me { xyzzy } }"),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Cannot query field "xyzzy" on type "User". The schema is at /schema.graphql.',
    ],
    [
      "a filter that there is not, in the text",
      () => run(list("filter: { xyzzy: 1 }")),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Field "xyzzy" is not defined by type "RecordFilterInput". The schema is at /schema.graphql.',
      { argument: "filter.xyzzy" },
    ],
    [
      "an argument that there is not",
      () => run("{ me { records(xyzzy: 1) { totalCount } } }"),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Unknown argument "xyzzy" on field "User.records". The schema is at /schema.graphql.',
      { argument: "xyzzy" },
    ],
    [
      "a type that there is not",
      () => run("query ($x: Xyzzy) { me { records(first: $x) { totalCount } } }"),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Unknown type "Xyzzy". The schema is at /schema.graphql.',
    ],
    [
      "a value that is no object, in the text",
      () => run("{ me { records(orderBy: TITLE) { totalCount } } }"),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Expected value of type "RecordOrderInput", found TITLE. The schema is at /schema.graphql.',
      { argument: "orderBy" },
    ],
    [
      "a value that is no object",
      () =>
        run("query ($order: RecordOrderInput) { me { records(orderBy: $order) { totalCount } } }", { order: "TITLE" }),
      "400 BAD_USER_INPUT",
      'Variable "$order" got invalid value "TITLE"; Expected type "RecordOrderInput" to be an object. The schema is at /schema.graphql.',
      { argument: "orderBy" },
    ],
    [
      "a variable of another type",
      () => run("query ($ids: [ID!]!) { record(id: $ids) { id } }", { ids: [] }),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Variable "$ids" of type "[ID!]!" used in position expecting type "ID!". The schema is at /schema.graphql.',
    ],
    [
      "an address that is none",
      () => run("query ($url: URL!) { shared(url: $url) { title } }", { url: "take.mp3" }),
      "400 BAD_USER_INPUT",
      'Variable "$url" got invalid value "take.mp3"; Expected type "URL". Invalid URL. Write the whole address, as in https://example.com/l/secret.',
      { argument: "url" },
    ],
    [
      "an address that is none, in the text",
      () => run('{ shared(url: "take.mp3") { title } }'),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Expected value of type "URL!", found "take.mp3"; Invalid URL. Write the whole address, as in https://example.com/l/secret.',
      { argument: "url" },
    ],
    [
      "a UUID that is none, in the text",
      () =>
        multipart(
          JSON.stringify({
            query: upload.replace("$file)", '$file, idempotencyKey: "abc")'),
            variables: { file: null },
          }),
          wav,
          bearer(),
        ),
      "400 GRAPHQL_VALIDATION_FAILED",
      "Value is not a valid UUID: abc. Write a UUID, as in 3f1c6a52-9d0e-4b7a-8c35-e2d4b9a1f067.",
      { argument: "idempotencyKey" },
    ],
    [
      "half a number",
      () => run("query ($n: Int) { me { records(first: $n) { totalCount } } }", { n: 1.5 }),
      "400 BAD_USER_INPUT",
      'Variable "$n" got invalid value 1.5; Int cannot represent non-integer value: 1.5',
      { argument: "first" },
    ],
    [
      "a number as text",
      () => run("query ($n: Int) { me { records(first: $n) { totalCount } } }", { n: "20" }),
      "400 BAD_USER_INPUT",
      'Variable "$n" got invalid value "20"; Int cannot represent non-integer value: "20"',
      { argument: "first" },
    ],
    [
      "too long a page",
      () => run(list("first: 1000")),
      "400 BAD_USER_INPUT",
      "first must be from 0 to 100.",
      { argument: "first", max: 100 },
    ],
    [
      "less than nothing",
      () => run(list("last: -1")),
      "400 BAD_USER_INPUT",
      "last must be from 0 to 100.",
      { argument: "last", max: 100 },
    ],
    [
      "both ends of a list",
      () => run(list("first: 1, last: 1")),
      "400 BAD_USER_INPUT",
      "Give either first or last, not both.",
      { argument: "last" },
    ],
    [
      "a foreign cursor",
      () => run(list('first: 1, after: "x"')),
      "400 BAD_USER_INPUT",
      "The cursor does not belong to this list and sort order. Start again without it.",
      { argument: "after" },
    ],
    [
      "a foreign cursor at the other end",
      () => run(list('last: 1, before: "x"')),
      "400 BAD_USER_INPUT",
      "The cursor does not belong to this list and sort order. Start again without it.",
      { argument: "before" },
    ],
    [
      "an order in quotation marks, in the text",
      () => run(list('orderBy: { field: "title" }')),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Enum "RecordOrderField" cannot represent non-enum value: "title". Use CREATED_AT, TITLE, DURATION, SIZE.',
      { argument: "orderBy.field" },
    ],
    [
      "an order that does not exist, in the text",
      () => run(list("orderBy: { field: ARTIST }")),
      "400 GRAPHQL_VALIDATION_FAILED",
      'Value "ARTIST" does not exist in "RecordOrderField" enum. Use CREATED_AT, TITLE, DURATION, SIZE.',
      { argument: "orderBy.field" },
    ],
    [
      "a number as an order",
      () => run("query ($o: RecordOrderField!) { me { records(orderBy: { field: $o }) { totalCount } } }", { o: 1 }),
      "400 BAD_USER_INPUT",
      'Variable "$o" got invalid value 1; Enum "RecordOrderField" cannot represent non-string value: 1. Use CREATED_AT, TITLE, DURATION, SIZE.',
      { argument: "orderBy.field" },
    ],
    [
      "a date that is none, deep inside",
      () =>
        run("query ($d: DateTime) { me { records(filter: { createdAt: { from: $d } }) { totalCount } } }", {
          d: "tomorrow",
        }),
      "400 BAD_USER_INPUT",
      'Variable "$d" got invalid value "tomorrow"; DateTime cannot represent an invalid date-time-string tomorrow. Write a time with its zone, as in 2007-12-03T10:15:30Z.',
      { argument: "filter.createdAt.from" },
    ],
    [
      "a date that is none, in an object",
      () =>
        run("query ($f: RecordFilterInput) { me { records(filter: $f) { totalCount } } }", {
          f: { createdAt: { from: "tomorrow" } },
        }),
      "400 BAD_USER_INPUT",
      'Variable "$f" got invalid value "tomorrow" at "f.createdAt.from"; DateTime cannot represent an invalid date-time-string tomorrow. Write a time with its zone, as in 2007-12-03T10:15:30Z.',
      { argument: "filter.createdAt.from" },
    ],
    [
      "a search text that is too long",
      () => run(list(`filter: { text: "${"a".repeat(201)}" }`)),
      "400 BAD_USER_INPUT",
      "The search text may have at most 200 characters.",
      { argument: "filter.text", maxLength: 200 },
    ],
    [
      "a null where none may be",
      () => run("query ($n: Int) { me { records(first: 1) { nodes { peaks(count: $n) } } } }", { n: null }),
      "400 BAD_USER_INPUT",
      'Argument "count" of non-null type "Int!" must not be null.',
      { argument: "count" },
    ],
    [
      "a blank name",
      () => run('mutation { updateUser(name: " ") { user { id } } }'),
      "400 BAD_USER_INPUT",
      "The name must not be blank.",
      { argument: "name" },
    ],
    [
      "a name with a line break",
      () => run('mutation { updateUser(name: "a\\nb") { user { id } } }'),
      "400 BAD_USER_INPUT",
      "The name must not have line breaks, control characters or characters that change the direction of text.",
      { argument: "name" },
    ],
    [
      "a token without scopes",
      () => run('mutation { createToken(name: "x", scopes: []) { token } }'),
      "400 BAD_USER_INPUT",
      "A token needs at least one scope.",
      { argument: "scopes" },
    ],
    [
      "a token that has expired already",
      () => run('mutation { createToken(name: "x", expiresAt: "2020-01-01T00:00:00Z") { token } }'),
      "400 BAD_USER_INPUT",
      "expiresAt must be in the future.",
      { argument: "expiresAt" },
    ],
    [
      "a wrong confirmation",
      () => run('mutation { deleteUser(confirm: "x") { deletedId } }'),
      "400 BAD_USER_INPUT",
      "confirm must be the user's current name.",
      { argument: "confirm" },
    ],
    [
      "a change of nothing",
      () => run(`mutation { updateRecord(id: "${crypto.randomUUID()}") { record { id } } }`),
      "400 BAD_USER_INPUT",
      "Give a new title, a new visibility, or both.",
      { argument: "title" },
    ],
    [
      "a SHA-256 that is none",
      () =>
        multipart(
          JSON.stringify({ query: upload.replace("$file)", `$file, sourceSha256: "abc")`), variables: { file: null } }),
          wav,
          bearer(),
        ),
      "400 BAD_USER_INPUT",
      "A SHA-256 has 64 hexadecimal digits.",
      { argument: "sourceSha256" },
    ],
    [
      "another file's SHA-256",
      () =>
        multipart(
          JSON.stringify({
            query: upload.replace("$file)", `$file, sourceSha256: "${"0".repeat(64)}")`),
            variables: { file: null },
          }),
          wav,
          bearer(),
        ),
      "400 BAD_USER_INPUT",
      "The file that arrived does not have the SHA-256 in sourceSha256. Send the file again.",
      { argument: "sourceSha256", sha256: expect.any(String) },
    ],
    [
      "an idempotency key that is no UUID",
      () =>
        multipart(
          JSON.stringify({
            query: upload.replace("$file)", "$file, idempotencyKey: $k)").replace("(", "($k: UUID, "),
            variables: { file: null, k: "abc" },
          }),
          wav,
          bearer(),
        ),
      "400 BAD_USER_INPUT",
      'Variable "$k" got invalid value "abc"; Value is not a valid UUID: abc. Write a UUID, as in 3f1c6a52-9d0e-4b7a-8c35-e2d4b9a1f067.',
      { argument: "idempotencyKey" },
    ],
    [
      "an unknown quality",
      () =>
        multipart(
          JSON.stringify({
            query: upload.replace("$file)", "$file, quality: $q)").replace("(", "($q: Quality, "),
            variables: { file: null, q: "BEST" },
          }),
          wav,
          bearer(),
        ),
      "400 BAD_USER_INPUT",
      'Variable "$q" got invalid value "BEST"; Value "BEST" does not exist in "Quality" enum. Use SPEECH, LOW, STANDARD, HIGH.',
      { argument: "quality" },
    ],
  ])("tells what to do about %s", async (_mistake, request, statusAndCode, message, details = {}) => {
    const answer = (await exchange(port, request()))!;
    const { errors } = JSON.parse(answer.body);
    const [{ extensions }] = errors;
    expect({ answer: `${answer.status} ${extensions.code}`, message: errors[0].message, extensions }).toEqual({
      answer: statusAndCode,
      message,
      extensions: { ...details, code: extensions.code, requestId: answer.headers.get("x-request-id") },
    });
  });

  it("for a response type that the client does not accept comes before anything is done", async () => {
    const request = json('mutation { createToken(name: "never") { token } }', { ...bearer(), accept: "text/html" });
    expect((await exchange(port, request))!.status).toBe(406);
    const answer = (await exchange(port, json("{ me { tokens { name } } }", bearer())))!;
    expect(JSON.parse(answer.body).data.me.tokens).toEqual([{ name: "first" }]);
  });

  it("counts in the singular, too", async () => {
    const answer = (await exchange(port, json('mutation { createUser(name: "Eve") { token } }')))!;
    expect(JSON.parse(answer.body).errors[0].message).toMatch(
      /^There was 1 new user from this address within an hour, which is the limit. Try again in \d+ seconds\.$/,
    );
    await using strict = await startService({ QUOTA_RECORDS: "1" });
    const client = new ApiClient(strict.url);
    const bob = await client.createUser("Bob");
    await client.uploadRecord(bob, wav);
    expect((await client.uploadRecord(bob, wav)).errors![0]!.message).toBe(
      "Your quota has no room for this recording. It allows 1 recording, and 1 is in use.",
    );
  });

  it("makes no suggestions in production", async () => {
    await using production = await startService({ INTROSPECTION: "false" });
    const client = new ApiClient(production.url);
    const messageOf = async (query: string, variables = {}) => (await client.run(query, variables)).errors![0]!.message;
    const { errors, headers } = await client.run("{ __schema { types { name } } }");
    expect(errors).toMatchObject([
      {
        message: expect.stringContaining("/schema.graphql"),
        extensions: { code: "GRAPHQL_VALIDATION_FAILED", requestId: headers.get("x-request-id") },
      },
    ]);
    expect(await messageOf("{ mee { id } }")).toBe(
      'Cannot query field "mee" on type "Query". The schema is at /schema.graphql.',
    );
    const query = "query ($o: RecordOrderInput) { me { records(orderBy: $o) { totalCount } } }";
    expect(await messageOf(query, { o: { field: "TITEL" } })).toBe(
      'Variable "$o" got invalid value "TITEL" at "o.field"; Value "TITEL" does not exist in "RecordOrderField" enum. Use CREATED_AT, TITLE, DURATION, SIZE.',
    );
    expect(await messageOf(query, { o: { feld: "TITLE", field: "TITLE" } })).toBe(
      'Variable "$o" got invalid value { feld: "TITLE", field: "TITLE" }; Field "feld" is not defined by type "RecordOrderInput". The schema is at /schema.graphql.',
    );
  });

  it("repeats only a small part of what was sent", async () => {
    const query = "query ($d: DateTime) { me { records(filter: { createdAt: { from: $d } }) { totalCount } } }";
    for (const request of [run(query, { d: "x".repeat(100_000) }), run(`{ ${"x".repeat(100_000)} }`)]) {
      const { errors } = JSON.parse((await exchange(port, request))!.body);
      expect(errors[0].message.length).toBeLessThan(600);
    }
  });

  it("is not what OPTIONS gets", async () => {
    const answer = (await exchange(port, Buffer.from("OPTIONS /graphql HTTP/1.1\r\nHost: a\r\n\r\n")))!;
    expect([answer.status, answer.headers.get("allow"), answer.body]).toEqual([204, "GET, HEAD, POST, OPTIONS", ""]);
    const other = (await exchange(port, Buffer.from("OPTIONS /nothing HTTP/1.1\r\nHost: a\r\n\r\n")))!;
    expect([other.status, JSON.parse(other.body).error.code]).toEqual([404, "NOT_FOUND"]);
  });

  function severalFiles(): Buffer {
    const parts = [
      fieldPart("operations", JSON.stringify({ query: upload, variables: { file: [null] } })),
      fieldPart("map", '{"0":["variables.file.0"]}'),
    ];
    return rawPost(multipartBody(...parts, filePart("0", "take.wav", wav)), bearer());
  }
});
