import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { exchange, fieldPart, filePart, multipartBody, rawPost } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const wav = sineWav({ seconds: 0.1, channels: 1 });
const noPreflight = { "apollo-require-preflight": undefined };

describe("the Authorization header", () => {
  let service: TestService;
  let client: ApiClient;
  let port: number;
  let ann: Credentials;
  let bob: Credentials;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    port = Number(new URL(service.url).port);
    [ann, bob] = [await client.createUser("Ann"), await client.createUser("Bob")];
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  /** Uploads with the header's token only. */
  function byHeader(headers: Record<string, string | undefined>): Buffer {
    const query = "mutation ($file: Upload!) { uploadRecord(file: $file) { record { owner { name } } } }";
    return upload({ query, variables: { file: null } }, { ...noPreflight, ...headers });
  }

  /** Uploads with Bob's id and token in the arguments. */
  function byArguments(headers: Record<string, string | undefined>): Buffer {
    const query = `mutation ($file: Upload!, $userId: ID, $token: UUID) {
      uploadRecord(file: $file, userId: $userId, token: $token) { record { owner { name } } }
    }`;
    return upload(
      { query, variables: { file: null, userId: bob.id, token: bob.token } },
      { ...noPreflight, ...headers },
    );
  }

  async function outcome(request: Buffer): Promise<string> {
    const answer = (await exchange(port, request))!;
    const { data, errors } = JSON.parse(answer.body);
    return `${answer.status} ${errors ? errors[0].extensions.code : data.uploadRecord.record.owner.name}`;
  }

  it.each<[string, (token: string) => string]>([
    ["as it should be", (token) => `Bearer ${token}`],
    ["in small letters", (token) => `bearer ${token}`],
    ["with spaces", (token) => `  Bearer   ${token}  `],
    ["behind a proxy's", (token) => `Basic cHJveHk6cGFzcw==, Bearer ${token}`],
    ["before a proxy's", (token) => `Bearer ${token},Basic cHJveHk6cGFzcw==`],
    ["in a second header", (token) => `Basic cHJveHk6cGFzcw==\r\nAuthorization: Bearer ${token}`],
  ])("is all that an upload needs: %s", async (_form, header) => {
    expect(await outcome(byHeader({ authorization: header(ann.token) }))).toBe("200 Ann");
  });

  it.each<[string, Record<string, string>]>([
    ["apollo-require-preflight", { "apollo-require-preflight": "true" }],
    ["x-apollo-operation-name", { "x-apollo-operation-name": "Upload" }],
    ["GraphQL-Preflight", { "GraphQL-Preflight": "1" }],
    ["a proxy's password", { authorization: "Basic cHJveHk6cGFzcw==", "apollo-require-preflight": "true" }],
    ["a token that is not valid", { authorization: `Bearer ${crypto.randomUUID()}` }],
    ["what is no token at all", { authorization: "Bearer null" }],
    ["something else", { authorization: "nonsense", "GraphQL-Preflight": "1" }],
  ])("does not count when user id and token are in the arguments: %s", async (_what, headers) => {
    expect(await outcome(byArguments(headers))).toBe("200 Bob");
  });

  it("of another user does not count either, not even for their limits", async () => {
    await using limited = await startService({ DATABASE_URL: service.databaseUrl, MAX_UPLOADS_PER_HOUR: "1" });
    const send = async (request: Buffer) => {
      const answer = (await exchange(Number(new URL(limited.url).port), request))!;
      const { data, errors } = JSON.parse(answer.body);
      return `${answer.status} ${errors ? errors[0].extensions.code : data.uploadRecord.record.owner.name}`;
    };
    const authorization = `Bearer ${ann.token}`;
    expect(await send(byArguments({ authorization }))).toBe("200 Bob");
    expect(await send(byArguments({ authorization }))).toBe("429 RATE_LIMITED");
    expect(await send(byHeader({ authorization }))).toBe("200 Ann");
  });

  it.each([
    ["nothing", {}],
    ["an empty header", { "apollo-require-preflight": "" }],
    ["Basic, which browsers send by themselves", { authorization: "Basic cHJveHk6cGFzcw==" }],
    ["Bearer without a token", { authorization: "Bearer" }],
  ])("proves nothing about the page that sent an upload with arguments: %s", async (_what, headers) => {
    expect(await outcome(byArguments(headers))).toBe("400 BAD_REQUEST");
  });

  it("lets a query by GET through", async () => {
    const url = `${service.url}/graphql?query={me{name}}`;
    const answer = await fetch(url, { headers: { authorization: `Bearer ${ann.token}` } });
    expect([answer.status, await answer.json()]).toEqual([200, { data: { me: { name: "Ann" } } }]);
    expect((await fetch(url)).status).toBe(400);
  });

  it.each(["Basic cHJveHk6cGFzcw==", "Bearer null", "nonsense"])(
    "does no harm where nobody has to be known: %s",
    async (authorization) => {
      const query = 'mutation { createUser(name: "Eve") { user { name } } }';
      const headers = { "content-type": "application/json", ...noPreflight, authorization };
      const answer = (await exchange(port, rawPost(Buffer.from(JSON.stringify({ query })), headers)))!;
      expect(JSON.parse(answer.body)).toEqual({ data: { createUser: { user: { name: "Eve" } } } });
    },
  );

  it("opens a private recording together with a proxy's password", async () => {
    const { data } = await client.uploadRecord(ann, wav, { args: ", visibility: PRIVATE" });
    const { url } = data.uploadRecord.record;
    const authorization = `Basic cHJveHk6cGFzcw==, Bearer ${ann.token}`;
    expect((await fetch(url, { headers: { authorization } })).status).toBe(200);
    expect((await fetch(url, { headers: { authorization: "Basic cHJveHk6cGFzcw==" } })).status).toBe(404);
  });
});

function upload(operations: object, headers: Record<string, string | undefined>): Buffer {
  const parts = [fieldPart("operations", JSON.stringify(operations)), fieldPart("map", '{"0":["variables.file"]}')];
  return rawPost(multipartBody(...parts, filePart("0", "take.wav", wav)), headers);
}
