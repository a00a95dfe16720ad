import type { PoolClient } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "@jest/globals";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { seedRecords } from "./support/seed-records.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const wav = sineWav({ seconds: 0.1, channels: 1 });

/** Everything stored that a user's mutation can change. */
async function stored(service: TestService): Promise<string> {
  const { rows } = await service.server.database.pool.query<{ state: string }>(
    `select json_build_object(
       'users', (select json_agg(json_build_array(id, name) order by id) from app_user),
       'tokens', (select json_agg(json_build_array(id, name, scopes, expires_at) order by id) from access_token),
       'records', (select json_agg(json_build_array(id, title, visibility) order by id) from audio_record where state = 'ready'),
       'links', (select json_agg(json_build_array(id, note, expires_at) order by id) from share_link))::text as state`,
  );
  return rows[0]!.state;
}

describe("what is refused before it runs", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let writer: Credentials;
  let recordId: string;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  beforeEach(async () => {
    ann = await client.createUser();
    await seedRecords(service.server.database.pool, { ownerId: ann.id, count: 2 });
    const { data } = await client.run(
      `mutation { createToken(name: "kiosk", scopes: [WRITE, MANAGE]) { token } }`,
      {},
      ann,
    );
    writer = { id: ann.id, token: data.createToken.token };
    recordId = (await client.run("{ me { records { nodes { id } } } }", {}, ann)).data.me.records.nodes[0].id;
  });

  /** The error of an operation that is refused and changes nothing. */
  async function refusalOf(run: () => Promise<Answer>): Promise<unknown[]> {
    const before = await stored(service);
    const answer = await run();
    expect(await stored(service)).toBe(before);
    return [answer.status, answer.data, answer.errors?.[0]?.extensions.code];
  }

  it.each([
    ["more peaks than there can be", "peaks(count: 5000)"],
    ["no peaks", "peaks(count: 0)"],
    ["a count that is null by a variable", "peaks(count: $count)"],
    [
      "too many peaks under an alias, in a fragment, behind a condition",
      "... on Recording @include(if: true) { ... { p: peaks(count: 5000) } }",
    ],
    ["a page that is too large", "owner { records(first: 101) { totalCount } }"],
    ["a page of less than none", "owner { records(last: -1) { totalCount } }"],
    ["both ends of a list", "owner { records(first: 1, last: 1) { totalCount } }"],
    ["a cursor that is none", 'owner { records(after: "x") { totalCount } }'],
    ["a search that is too long", `owner { records(filter: { text: "${"x".repeat(201)}" }) { totalCount } }`],
    ["a list inside of itself", "owner { records { nodes { owner { records { totalCount } } } } }"],
    ["a list inside of itself by edges", "owner { records { edges { node { owner { records { totalCount } } } } } }"],
  ])("stores nothing of an upload that asks for %s", async (_what, fields) => {
    const declarations = fields.includes("$count") ? ", $count: Int" : "";
    const request = { fields: `id ${fields}`, declarations, variables: { count: null } };
    expect(await refusalOf(async () => await client.uploadRecord(ann, wav, request))).toEqual([
      400,
      null,
      "BAD_USER_INPUT",
    ]);
  });

  it("names the field that causes it", async () => {
    const answer = await client.uploadRecord(ann, wav, { fields: "first: peaks again: peaks(count: 5000)" });
    expect(answer.errors).toEqual([
      {
        message: "count must be a whole number from 1 to 2048.",
        path: ["uploadRecord", "record", "again"],
        locations: [expect.anything()],
        extensions: expect.objectContaining({ code: "BAD_USER_INPUT", maxCount: 2048 }),
      },
    ]);
  });

  it.each([["links { url }"], ["owner { records { totalCount } }"], ["owner { usage { bytes } }"]])(
    "stores nothing of an upload with a token that may not read %s",
    async (fields) => {
      expect(await refusalOf(async () => await client.uploadRecord(writer, wav, { fields }))).toEqual([
        403,
        null,
        "FORBIDDEN",
      ]);
      // The token in the arguments counts, not the one in the header.
      const inArguments = {
        variables: { userId: writer.id, token: writer.token },
        declarations: ", $userId: ID, $token: UUID",
        args: ", userId: $userId, token: $token",
      };
      expect(await refusalOf(async () => await client.uploadRecord(ann, wav, { fields, ...inArguments }))).toEqual([
        403,
        null,
        "FORBIDDEN",
      ]);
      expect(
        (
          await client.uploadRecord(writer, wav, {
            fields: `id @skip(if: false) ${fields.replace(" {", " @skip(if: true) {")}`,
          })
        ).status,
      ).toBe(200);
    },
  );

  it("changes nothing if the token may not read the fields selected in any other mutation", async () => {
    const mutations = [
      `updateRecord(id: "${recordId}", title: "New") { record { links { id } } }`,
      `updateRecord(id: "${recordId}", title: "New") { record { owner { usage { bytes } } } }`,
      `updateUser(name: "New") { user { records { totalCount } } }`,
      `createToken(name: "New", scopes: [WRITE]) { token } updateUser(name: "New") { user { usage { bytes } } }`,
    ];
    for (const mutation of mutations) {
      expect(await refusalOf(async () => await client.run(`mutation { ${mutation} }`, {}, writer))).toEqual([
        403,
        null,
        "FORBIDDEN",
      ]);
    }
  });

  it("creates no user if the private fields of the new user are selected", async () => {
    const create = 'mutation { createUser(name: "Eve") { token user { id usage { bytes } } } }';
    expect(await refusalOf(async () => await client.run(create, {}, ann))).toEqual([403, null, "FORBIDDEN"]);
    expect(await refusalOf(async () => await client.run(create))).toEqual([401, null, "UNAUTHENTICATED"]);
  });

  it("creates no token and changes no name for a token without MANAGE", async () => {
    const { data } = await client.run('mutation { createToken(name: "w") { token } }', {}, ann);
    const phone = { id: ann.id, token: data.createToken.token };
    for (const mutation of [
      `updateRecord(id: "${recordId}", title: "New") { record { owner { tokens { id } } } }`,
      `updateRecord(id: "${recordId}", title: "New") { record { id } } updateUser(name: "New") { user { id } }`,
      `updateRecord(id: "${recordId}", title: "New") { record { id } } createToken(name: "New") { token }`,
    ]) {
      expect(await refusalOf(async () => await client.run(`mutation { ${mutation} }`, {}, phone))).toEqual([
        403,
        null,
        "FORBIDDEN",
      ]);
    }
  });

  it("begins nothing if a later field has no token, or one without WRITE", async () => {
    const both = 'mutation { createUser(name: "Eve") { token } updateUser(name: "New") { user { id } } }';
    expect(await refusalOf(async () => await client.run(both))).toEqual([401, null, "UNAUTHENTICATED"]);
    const { data } = await client.run('mutation { createToken(name: "r", scopes: [READ]) { token } }', {}, ann);
    const reader = { id: ann.id, token: data.createToken.token };
    expect(await refusalOf(async () => await client.run(both, {}, reader))).toEqual([403, null, "FORBIDDEN"]);
  });

  it("begins nothing if the client accepts no available type", async () => {
    const before = await stored(service);
    const response = await fetch(`${service.url}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "image/png", authorization: `Bearer ${ann.token}` },
      body: JSON.stringify({ query: 'mutation { updateUser(name: "New") { user { id } } }' }),
    });
    expect(response.status).toBe(406);
    expect(await stored(service)).toBe(before);
  });

  it.each(["{ me { id } }", '{ record(id: "x") { id } }', '{ a: node(id: "1") { id } b: record(id: "x") { id } }'])(
    "answers %s without a token with 401",
    async (query) => {
      const { status, data, errors } = await client.run(query);
      expect([status, data, errors![0]!.extensions.code]).toEqual([401, null, "UNAUTHENTICATED"]);
    },
  );
});

describe("of several fields of a mutation", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser();
    await seedRecords(service.server.database.pool, { ownerId: ann.id, count: 1 });
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  it("those that succeeded are returned beside those that failed, with 200", async () => {
    const { data: mine } = await client.run("{ me { records { nodes { id } } } }", {}, ann);
    const [{ id }] = mine.me.records.nodes;
    const absent = "00000000-0000-4000-8000-000000000000";
    const { status, data, errors } = await client.run(
      `mutation {
        token: createToken(name: "phone") { token accessToken { name } }
        user: updateUser(name: "") { user { id } }
        a: updateRecord(id: "${id}", title: "Done") { record { title } }
        b: updateRecord(id: "${absent}", title: "Not done") { record { title } }
        c: deleteRecord(id: "${id}") { deletedId }
      }`,
      {},
      ann,
    );
    expect(status).toBe(200);
    expect(data).toEqual({
      token: { token: expect.stringMatching(/^[\da-f-]{36}$/), accessToken: { name: "phone" } },
      user: null,
      a: { record: { title: "Done" } },
      b: null,
      c: { deletedId: id },
    });
    expect(errors!.map(({ path, extensions }) => [path, extensions.code])).toEqual([
      [["user"], "BAD_USER_INPUT"],
      [["b"], "NOT_FOUND"],
    ]);
    const token = { id: ann.id, token: data.token.token };
    expect((await client.run("{ me { id } }", {}, token)).status).toBe(200);
  });

  it("the status is that of the first error, if all failed", async () => {
    const absent = "00000000-0000-4000-8000-000000000000";
    const { status, data, errors } = await client.run(
      `mutation { a: deleteRecord(id: "${absent}") { deletedId } b: updateUser(name: "") { user { id } } }`,
      {},
      ann,
    );
    expect([status, data]).toEqual([404, null]);
    expect(errors!.map(({ path }) => path)).toEqual([["a"], ["b"]]);
  });

  it("what the first has deleted is missing for the next, and is still returned", async () => {
    const bob = await client.createUser("Bob");
    const { status, data, errors } = await client.run(
      `mutation {
        deleteUser(confirm: "Bob") { deletedId }
        updateUser(name: "Rob") { user { id } }
        createToken(name: "x") { token }
      }`,
      {},
      bob,
    );
    expect([status, data]).toEqual([200, { deleteUser: { deletedId: bob.id }, updateUser: null, createToken: null }]);
    expect(errors!.map(({ path, extensions }) => [path, extensions.code])).toEqual([
      [["updateUser"], "UNAUTHENTICATED"],
      [["createToken"], "UNAUTHENTICATED"],
    ]);
  });

  it("what was deleted before it is read is null by itself, and the change is still returned", async () => {
    const eve = await client.createUser("Eve");
    const { pool } = service.server.database;
    const patched: PoolClient[] = [];
    const deleteBeforeUsage = (client: PoolClient): void => {
      if (patched.includes(client)) return;
      patched.push(client);
      const query = client.query.bind(client) as (...args: unknown[]) => Promise<unknown>;
      client.query = (async (...args: unknown[]) => {
        const text = typeof args[0] === "string" ? args[0] : (args[0] as { text?: string }).text;
        if (text?.includes(" lateral ")) await pool.query("delete from app_user where id = $1", [eve.id]);
        return await query(...args);
      }) as typeof client.query;
    };
    pool.on("acquire", deleteBeforeUsage);
    try {
      const { status, data, errors } = await client.uploadRecord(eve, wav, {
        fields: "title owner { name usage { bytes } tokens { id } records { totalCount } } links { id } peaks",
      });
      const { title, owner, links } = data.uploadRecord.record;
      expect([status, title, owner.name, owner.usage, links]).toEqual([200, "take", "Eve", null, []]);
      expect(errors!.map(({ path, extensions }) => [path, extensions.code])).toEqual([
        [["uploadRecord", "record", "owner", "usage"], "UNAUTHENTICATED"],
      ]);
    } finally {
      pool.off("acquire", deleteBeforeUsage);
      for (const client of patched) delete (client as { query?: unknown }).query;
    }
  });
});
