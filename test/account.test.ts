import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { seedRecords } from "./support/seed-records.ts";
import { SentStatements, startServiceWithoutIntervals } from "./support/sent-statements.ts";
import { startService, type TestService } from "./support/service.ts";
import { beginTransaction } from "./support/transaction.ts";
import { sineWav } from "./support/wav-maker.ts";

const createToken = `mutation ($name: String = "phone", $expiresAt: DateTime, $scopes: [TokenScope!]) {
  createToken(name: $name, expiresAt: $expiresAt, scopes: $scopes) {
    token accessToken { id name createdAt lastUsedAt expiresAt scopes }
  }
}`;
const listTokens = "{ me { tokens { id name createdAt lastUsedAt expiresAt scopes } } }";
const revokeToken = "mutation ($id: ID!) { revokeToken(id: $id) { revokedId } }";
const rename = 'mutation { updateUser(name: "Anne") { user { id name } } }';
const deleteUser = "mutation ($confirm: String!) { deleteUser(confirm: $confirm) { deletedId } }";
const nextYear = new Date(Date.now() + 365 * 86_400_000).toISOString();

describe("an account", () => {
  let service: TestService;
  let client: ApiClient;

  beforeAll(async () => {
    service = await startServiceWithoutIntervals();
    client = new ApiClient(service.url);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const newToken = async (user: Credentials, variables: object = {}): Promise<Credentials & { tokenId: string }> => {
    const { data } = await client.run(createToken, { scopes: ["READ", "WRITE"], ...variables }, user);
    return { id: user.id, token: data.createToken.token, tokenId: data.createToken.accessToken.id };
  };

  const tokensOf = async (user: Credentials): Promise<any[]> => (await client.run(listTokens, {}, user)).data.me.tokens;

  const refusal = ({ status, data, errors }: Answer): unknown[] => [status, data ?? null, errors?.[0]?.extensions.code];

  it("has several tokens, each with a name, an expiry time and scopes", async () => {
    const ann = await client.createUser();
    const { data } = await client.run(createToken, { name: " Phone ", expiresAt: nextYear, scopes: ["READ"] }, ann);
    const { token, accessToken } = data.createToken;
    expect(token).toMatch(/^[\da-f-]{36}$/);
    expect(accessToken).toEqual({
      id: expect.stringMatching(/^[\da-f-]{36}$/),
      name: "Phone",
      createdAt: expect.any(String),
      lastUsedAt: null,
      expiresAt: nextYear,
      scopes: ["READ"],
    });
    expect(accessToken.id).not.toBe(token);
    expect((await client.run("{ me { id } }", {}, { ...ann, token })).status).toBe(200);
    const tokens = await tokensOf(ann);
    expect(tokens.map(({ name }) => name)).toEqual(["Phone", "first"]);
    expect(tokens[0]).toEqual({ ...accessToken, lastUsedAt: expect.any(String) });
    expect(tokens[1]).toMatchObject({ scopes: ["READ", "WRITE", "MANAGE"], expiresAt: null });
    expect(JSON.stringify(tokens)).not.toContain(token);
  });

  it("gives a new token READ and WRITE by default", async () => {
    const ann = await client.createUser();
    const { data } = await client.run('mutation { createToken(name: "x") { accessToken { scopes } } }', {}, ann);
    expect(data.createToken.accessToken.scopes).toEqual(["READ", "WRITE"]);
  });

  it("records the use of a token once a minute, in the statement that looks it up", async () => {
    const ann = await client.createUser();
    const { pool } = service.server.database;
    const used = async () => (await tokensOf(ann))[0].lastUsedAt;
    const first = await used();
    await tokensOf(ann);
    expect(await used()).toBe(first);
    await pool.query("update access_token set last_used_at = now() - interval '61 seconds' where owner_id = $1", [
      ann.id,
    ]);
    using sent = new SentStatements(pool);
    await client.run("{ me { id } }", {}, ann);
    expect(sent.take()).toHaveLength(1);
    expect(Date.parse(await used())).toBeGreaterThan(Date.now() - 50_000);
  });

  it("does not let a request wait for another that uses the same token", async () => {
    const ann = await client.createUser();
    const holding = "select from access_token where owner_id = $1 for update";
    await using _holder = await beginTransaction(service.databaseUrl, holding, [ann.id]);
    expect((await client.run("{ me { id } }", {}, ann)).data.me.id).toBe(ann.id);
  });

  it("is read once, however many recordings of a page ask for it", async () => {
    const ann = await client.createUser();
    const { pool } = service.server.database;
    await seedRecords(pool, { ownerId: ann.id, count: 10 });
    const query =
      "{ me { records { nodes { owner { usage { records } again: usage { seconds } tokens { name } } } } } }";
    using sent = new SentStatements(pool);
    const { data } = await client.run(query, {}, ann);
    const owner = { usage: { records: 10 }, again: { seconds: 55 }, tokens: [{ name: "first" }] };
    expect(data.me.records.nodes).toEqual(Array.from({ length: 10 }, () => ({ owner })));
    expect(sent.take().filter((sql) => /sum\(|from "access_token".* where .*"owner_id" in/.test(sql))).toHaveLength(2);
  });

  it("refuses a revoked token at once, at every replica", async () => {
    await using replica = await startService({ DATABASE_URL: service.databaseUrl });
    const there = new ApiClient(replica.url);
    const ann = await client.createUser();
    const phone = await newToken(ann);
    expect((await there.run("{ me { id } }", {}, phone)).data.me.id).toBe(ann.id);
    expect((await client.run(revokeToken, { id: phone.tokenId }, ann)).data.revokeToken).toEqual({
      revokedId: phone.tokenId,
    });
    expect(refusal(await there.run("{ me { id } }", {}, phone))).toEqual([401, null, "UNAUTHENTICATED"]);
    expect(refusal(await there.uploadRecord(phone, sineWav({ seconds: 0.1 })))[2]).toBe("UNAUTHENTICATED");
    expect(refusal(await client.run(revokeToken, { id: phone.tokenId }, ann))).toEqual([404, null, "NOT_FOUND"]);
    expect(refusal(await client.run(revokeToken, { id: "nonsense" }, ann))).toEqual([404, null, "NOT_FOUND"]);
  });

  it("answers an expired token like one that never existed", async () => {
    const ann = await client.createUser();
    const brief = await newToken(ann, { expiresAt: nextYear });
    await service.server.database.pool.query(
      "update access_token set expires_at = now() - interval '1 second' where id = $1",
      [brief.tokenId],
    );
    const expired = await client.run("{ me { id } }", {}, brief);
    const unknown = await client.run("{ me { id } }", {}, { id: ann.id, token: uuidv4() });
    expect(refusal(expired)).toEqual([401, null, "UNAUTHENTICATED"]);
    expect(expired.errors![0]!.message).toBe(unknown.errors![0]!.message);
    expect((await tokensOf(ann)).map(({ id }) => id)).toContain(brief.tokenId);
  });

  it("allows a token with READ only to read, and one with WRITE only to change", async () => {
    const ann = await client.createUser();
    const reader = await newToken(ann, { scopes: ["READ"] });
    const writer = await newToken(ann, { scopes: ["WRITE"] });
    const wav = sineWav({ seconds: 0.1 });
    const byArguments = {
      variables: { userId: ann.id, token: reader.token },
      declarations: ", $userId: ID, $token: UUID",
      args: ", userId: $userId, token: $token",
    };
    expect((await client.run("{ me { id records { totalCount } } }", {}, reader)).status).toBe(200);
    const { data } = await client.uploadRecord(writer, wav);
    const retitle = `mutation { updateRecord(id: "${data.uploadRecord.record.id}", title: "New") { record { title } } }`;
    expect((await client.run(retitle, {}, writer)).status).toBe(200);
    for (const answer of [
      await client.run("{ me { records { totalCount } } }", {}, writer),
      await client.run(retitle, {}, reader),
      await client.run(rename, {}, reader),
      await client.run(rename, {}, writer),
      await client.run(createToken, {}, reader),
      await client.run(createToken, { scopes: ["READ", "WRITE"] }, writer),
      await client.run(deleteUser, { confirm: "Anne" }, reader),
      await client.uploadRecord(undefined, wav, byArguments),
    ]) {
      expect(refusal(answer)).toEqual([403, null, "FORBIDDEN"]);
    }
    const hidden = await client.uploadRecord(ann, wav, {
      declarations: ", $visibility: Visibility",
      args: ", visibility: $visibility",
      variables: { visibility: "PRIVATE" },
    });
    const link = new URL(hidden.data.uploadRecord.record.url);
    const statusFor = async ({ token }: Credentials): Promise<number> => {
      const headers = { authorization: `Bearer ${token}` };
      return (await fetch(`${service.url}${link.pathname}${link.search}`, { method: "HEAD", headers })).status;
    };
    expect([await statusFor(reader), await statusFor(writer)]).toEqual([200, 404]);
    // Refused before the body is read, so there is no data member.
    const upload = await client.uploadRecord(reader, wav);
    expect([upload.status, upload.errors?.[0]?.extensions.code]).toEqual([403, "FORBIDDEN"]);
  });

  it("gives a token without READ nothing extra to read in a mutation's result", async () => {
    const ann = await client.createUser();
    const writer = await newToken(ann, { scopes: ["WRITE", "MANAGE"] });
    const wav = sineWav({ seconds: 0.1 });
    for (const fields of ["records { nodes { url } }", "usage { records }"]) {
      const query = `mutation { updateUser(name: "Ann") { user { ${fields} } } }`;
      expect(refusal(await client.run(query, {}, writer))).toEqual([403, null, "FORBIDDEN"]);
      expect((await client.run(query, {}, ann)).status).toBe(200);
    }
    const links = await client.uploadRecord(writer, wav, { fields: "links { url }" });
    expect(refusal(links)).toEqual([403, null, "FORBIDDEN"]);
    expect((await client.uploadRecord(writer, wav, { fields: "url owner { name } peaks" })).status).toBe(200);
    // The token may also be an argument.
    const { data } = await client.uploadRecord(undefined, wav, {
      fields: "links { url } owner { usage { records } records { totalCount } }",
      variables: { userId: ann.id, token: ann.token },
      declarations: ", $userId: ID, $token: UUID",
      args: ", userId: $userId, token: $token",
    });
    const owner = { usage: { records: 2 }, records: { totalCount: 2 } };
    expect(data.uploadRecord.record).toEqual({ links: [], owner });
  });

  it("creates no token that expires later than the one that creates it", async () => {
    const ann = await client.createUser();
    const brief = await newToken(ann, { expiresAt: nextYear, scopes: ["READ", "MANAGE"] });
    const endOf = async (variables: object): Promise<unknown> =>
      (await client.run(createToken, { scopes: ["READ"], ...variables }, brief)).data.createToken.accessToken.expiresAt;
    const sooner = new Date(Date.parse(nextYear) - 1000).toISOString();
    expect([await endOf({}), await endOf({ expiresAt: nextYear }), await endOf({ expiresAt: sooner })]).toEqual([
      nextYear,
      nextYear,
      sooner,
    ]);
    const later = new Date(Date.parse(nextYear) + 1).toISOString();
    const { data, errors } = await client.run(createToken, { scopes: ["READ"], expiresAt: later }, brief);
    expect([data, errors![0]!.extensions]).toEqual([
      null,
      { code: "BAD_USER_INPUT", argument: "expiresAt", max: nextYear, requestId: expect.any(String) },
    ]);
  });

  it.each([
    ["a blank name", { name: " " }],
    ["an end in the past", { expiresAt: "2020-01-01T00:00:00Z" }],
    ["an end that no answer could name", { expiresAt: "9999-12-31T23:59:59-01:00" }],
    ["no scope", { scopes: [] }],
    ["an unknown scope", { scopes: ["ADMIN"] }],
  ])("refuses a token with %s", async (_what, variables) => {
    const answer = await client.run(createToken, { scopes: ["READ"], ...variables }, await client.createUser());
    expect([answer.status, answer.errors?.[0]?.extensions.code]).toEqual([400, "BAD_USER_INPUT"]);
  });

  it("has at most a hundred tokens", async () => {
    const ann = await client.createUser();
    await service.server.database.pool.query(
      "insert into access_token (owner_id, sha256, name) select $1, sha256(random()::text::bytea), 'x' from generate_series(1, 99)",
      [ann.id],
    );
    const answer = await client.run(createToken, { scopes: ["READ"] }, ann);
    expect(refusal(answer)).toEqual([409, null, "CONFLICT"]);
  });

  it("has at most 100 tokens, and a recording 100 links, even if many are created at once", async () => {
    const ann = await client.createUser();
    const { pool } = service.server.database;
    await seedRecords(pool, { ownerId: ann.id, count: 1 });
    const [record] = (await client.run("{ me { records { nodes { id } } } }", {}, ann)).data.me.records.nodes;
    await pool.query(
      `with token as (insert into access_token (owner_id, sha256, name)
         select $1, sha256(random()::text::bytea), 'x' from generate_series(1, 98))
       insert into share_link (record_id, secret) select $2, random()::text from generate_series(1, 99)`,
      [ann.id, record.id],
    );
    const createLink = "mutation ($recordId: ID!) { createLink(recordId: $recordId) { link { id } } }";
    const attempts = Array.from({ length: 8 });
    const made = async (attempt: () => Promise<Answer>): Promise<number> =>
      (await Promise.all(attempts.map(attempt))).filter(({ status }) => status === 200).length;
    expect(await made(async () => await client.run(createToken, { scopes: ["READ"] }, ann))).toBe(1);
    expect(await made(async () => await client.run(createLink, { recordId: record.id }, ann))).toBe(1);
  });

  it("can be renamed", async () => {
    const ann = await client.createUser();
    expect((await client.run(rename, {}, ann)).data.updateUser.user).toEqual({ id: ann.id, name: "Anne" });
    expect((await client.run("{ me { name } }", {}, ann)).data.me.name).toBe("Anne");
    const blank = await client.run('mutation { updateUser(name: "\\n") { user { id } } }', {}, ann);
    expect(refusal(blank)).toEqual([400, null, "BAD_USER_INPUT"]);
  });

  it("is deleted with everything in it, and nothing of others is deleted", async () => {
    const [ann, bob] = [await client.createUser("Ann"), await client.createUser("Bob")];
    const { pool } = service.server.database;
    for (const user of [ann, bob]) {
      await seedRecords(pool, { ownerId: user.id, count: 120 });
      expect((await client.uploadRecord(user, sineWav({ seconds: 0.1 }))).status).toBe(200);
    }
    const phone = await newToken(ann, { scopes: ["MANAGE"] });
    const mistaken = await client.run(deleteUser, { confirm: "Bob" }, ann);
    expect(refusal(mistaken)).toEqual([400, null, "BAD_USER_INPUT"]);
    const { data } = await client.run(deleteUser, { confirm: "Ann" }, phone);
    expect(data.deleteUser.deletedId).toBe(ann.id);
    for (const user of [ann, phone]) {
      expect(refusal(await client.run("{ me { id } }", {}, user))).toEqual([401, null, "UNAUTHENTICATED"]);
    }
    const { rows } = await pool.query(
      `select (select count(*)::int from app_user where id = $1) as users,
         (select count(*)::int from access_token where owner_id = $1) as tokens,
         (select count(*)::int from audio_record where owner_id = $1) as records,
         (select count(*)::int from mp3_chunk where record_id not in
           (select id from audio_record where owner_id = any(select id from app_user))) as chunks`,
      [ann.id],
    );
    expect(rows[0]).toEqual({ users: 0, tokens: 0, records: 0, chunks: 0 });
    const left = await client.run("{ me { records { totalCount } } }", {}, bob);
    expect(left.data.me.records.totalCount).toBe(121);
  });
});

describe("two users", () => {
  it("cannot reach anything of each other, with any id, cursor or token", async () => {
    await using service = await startService();
    const client = new ApiClient(service.url);
    const [ann, bob] = [await client.createUser("Ann"), await client.createUser("Bob")];
    await seedRecords(service.server.database.pool, { ownerId: ann.id, count: 3 });
    await seedRecords(service.server.database.pool, { ownerId: bob.id, count: 3 });
    const mine = `{ me { tokens { id } records(first: 2) { totalCount edges { cursor node { id title } } } } }`;
    const before = await client.run(mine, {}, ann);
    const [{ cursor, node }] = before.data.me.records.edges;
    const tokenId = before.data.me.tokens[0].id;

    const codeFor = async (query: string, user: Credentials | undefined = bob): Promise<unknown> => {
      const { status, errors } = await client.run(query, {}, user);
      return [status, errors?.[0]?.extensions.code];
    };
    const nothing = await client.run(
      `{ record(id: "${node.id}") { id } node(id: "${node.id}") { id } user: node(id: "${ann.id}") { id }
         token: node(id: "${tokenId}") { id } }`,
      {},
      bob,
    );
    expect(nothing.data).toEqual({ record: null, node: null, user: null, token: null });
    expect(await codeFor(`mutation { updateRecord(id: "${node.id}", title: "Bob's") { record { id } } }`)).toEqual([
      404,
      "NOT_FOUND",
    ]);
    expect(await codeFor(`mutation { deleteRecord(id: "${node.id}") { deletedId } }`)).toEqual([404, "NOT_FOUND"]);
    expect(await codeFor(`mutation { revokeToken(id: "${tokenId}") { revokedId } }`)).toEqual([404, "NOT_FOUND"]);
    const several = await client.run(`mutation { deleteRecords(ids: ["${node.id}"]) { deletedIds } }`, {}, bob);
    expect(several.data.deleteRecords.deletedIds).toEqual([]);
    expect(await codeFor(`{ me { records(after: "${cursor}") { totalCount } } }`)).toEqual([400, "BAD_USER_INPUT"]);
    // The id of a token is not the token, and a token is valid for its own user only.
    expect(await codeFor("{ me { id } }", { id: ann.id, token: tokenId })).toEqual([401, "UNAUTHENTICATED"]);
    const asAnn = await client.uploadRecord(undefined, sineWav({ seconds: 0.1 }), {
      variables: { userId: ann.id, token: bob.token },
      declarations: ", $userId: ID, $token: UUID",
      args: ", userId: $userId, token: $token",
    });
    expect(asAnn.errors?.[0]?.extensions.code).toBe("UNAUTHENTICATED");
    // A user inside another response gives no access either: the private fields are only for the user themselves.
    const created = 'mutation { createUser(name: "Eve") { user { records { totalCount } } } }';
    expect(await codeFor(created)).toEqual([403, "FORBIDDEN"]);
    expect(await codeFor(created, { id: "", token: uuidv4() })).toEqual([401, "UNAUTHENTICATED"]);
    expect(await codeFor("{ me { records { totalCount } tokens { id } } }", { id: "", token: uuidv4() })).toEqual([
      401,
      "UNAUTHENTICATED",
    ]);

    expect((await client.run(mine, {}, ann)).data).toEqual(before.data);
  });
});
