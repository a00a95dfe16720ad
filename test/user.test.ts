import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { createHash } from "node:crypto";
import { Client } from "pg";
import { ApiClient } from "./support/api-client.ts";
import { startService, type TestService } from "./support/service.ts";

const createUser = "mutation ($name: String!) { createUser(name: $name) { user { id name createdAt } token } }";

describe("users", () => {
  let service: TestService;
  let client: ApiClient;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  it("gives a new user a short id and a UUID token", async () => {
    const { status, data } = await client.run(createUser, { name: "  Ann  " });
    expect(status).toBe(200);
    expect(data.createUser).toEqual({
      user: { id: expect.stringMatching(/^\d{1,9}$/), name: "Ann", createdAt: expect.any(String) },
      token: expect.stringMatching(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/),
    });
    expect(Date.now() - Date.parse(data.createUser.user.createdAt)).toBeLessThan(60_000);
  });

  it("stores only the token's hash", async () => {
    const { token } = await client.createUser();
    const database = new Client({ connectionString: service.databaseUrl });
    await database.connect();
    try {
      const { rows } = await database.query("select encode(sha256, 'hex') as hash, t::text as row from access_token t");
      expect(rows.map(({ hash }) => hash)).toContain(createHash("sha256").update(token).digest("hex"));
      expect(rows.filter(({ row }) => row.includes(token))).toEqual([]);
    } finally {
      await database.end();
    }
  });

  it.each([
    "Ann",
    "Ünï Çødé",
    "王小明",
    "محمد",
    "👩‍👩‍👧‍👦",
    "O'Brien; drop table app_user",
    "x".repeat(100),
    "😀".repeat(100),
  ])("takes the name %s", async (name) => {
    const { data } = await client.run(createUser, { name });
    expect(data.createUser.user.name).toBe(name.normalize("NFC"));
  });

  it.each([
    ["blank", "   "],
    ["empty", ""],
    ["nothing visible", "\u200b\u200d"],
    ["too long", "x".repeat(101)],
    ["a control character", "a\u0007b"],
    ["a NUL", "a\u0000b"],
    ["a line break", "a\nb"],
    ["a direction override", "a\u202eb"],
    ["half a surrogate pair", "a\ud800b"],
  ])("refuses a name that is or has %s", async (_what, name) => {
    const { status, data, errors } = await client.run(createUser, { name });
    expect({ status, data }).toEqual({ status: 400, data: null });
    expect(errors![0]).toMatchObject({ extensions: { code: "BAD_USER_INPUT" }, path: ["createUser"] });
  });

  it("finds the user of the token", async () => {
    const ann = await client.createUser("Ann");
    const { data } = await client.run("{ me { id name } }", {}, ann);
    expect(data.me).toEqual({ id: ann.id, name: "Ann" });
    const node = await client.run(`{ node(id: "${ann.id}") { __typename id } }`, {}, ann);
    expect(node.data.node).toEqual({ __typename: "User", id: ann.id });
  });

  it("does not show one user to another", async () => {
    const [ann, bob] = [await client.createUser("Ann"), await client.createUser("Bob")];
    const { data } = await client.run(`{ node(id: "${bob.id}") { id } }`, {}, ann);
    expect(data.node).toBeNull();
  });

  it.each([
    ["no header", undefined],
    ["an unknown token", "Bearer 00000000-0000-4000-8000-000000000000"],
    ["a malformed token", "Bearer nonsense"],
    ["another scheme", "Basic QW5uOnNlY3JldA=="],
    ["an empty token", "Bearer "],
  ])("answers 401 to %s", async (_what, authorization) => {
    const response = await fetch(`${service.url}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", ...(authorization && { authorization }) },
      body: JSON.stringify({ query: "{ me { id } }" }),
    });
    expect(response.status).toBe(401);
    // RFC 6750 section 3 requires a parameter. Without one, URLSession of Swift on Linux ends its program.
    expect(response.headers.get("www-authenticate")).toBe('Bearer realm="web-user-music"');
    const { data, errors } = await response.json();
    expect(data).toBeNull();
    expect(errors[0].extensions.code).toBe("UNAUTHENTICATED");
  });

  it("lets a request with a stale token create a user", async () => {
    const { status } = await client.run(createUser, { name: "Ann" }, { id: "1", token: "stale" });
    expect(status).toBe(200);
  });
});
