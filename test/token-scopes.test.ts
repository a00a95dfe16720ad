import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { buildSchema } from "graphql";
import { readFile } from "node:fs/promises";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { startHalfUpload } from "./support/half-upload.ts";
import { startService, type TestService } from "./support/service.ts";
import { beginTransaction } from "./support/transaction.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const scopes = ["READ", "WRITE", "UPLOAD", "MANAGE"] as const;
type Scope = (typeof scopes)[number];
const wav = sineWav({ seconds: 0.1, channels: 1 });
const absent = "00000000-0000-4000-8000-000000000000";

interface Token extends Credentials {
  readonly tokenId: string;
}

describe("the scopes of a token", () => {
  let service: TestService;
  let client: ApiClient;
  let port: number;
  let ann: Credentials;
  let tokens: Record<Scope, Token>;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    port = Number(new URL(service.url).port);
    ann = await client.createUser();
    const made = await Promise.all(scopes.map(async (scope) => [scope, await newToken(ann, [scope])] as const));
    tokens = Object.fromEntries(made) as Record<Scope, Token>;
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  async function newToken(maker: Credentials, wanted: readonly string[]): Promise<Token> {
    const query = `mutation ($scopes: [TokenScope!]!) {
      createToken(name: "x", scopes: $scopes) { token accessToken { id } }
    }`;
    const { data } = await client.run(query, { scopes: wanted }, maker);
    return { id: maker.id, token: data.createToken.token, tokenId: data.createToken.accessToken.id };
  }

  async function idOf(token: Credentials): Promise<string> {
    const { rows } = await service.server.database.pool.query<{ id: string }>(
      "select id from access_token where sha256 = sha256($1::text::bytea)",
      [token.token],
    );
    return rows[0]!.id;
  }

  async function upload(user: Credentials, args = ""): Promise<{ id: string; url: string; waveformUrl: string }> {
    const { data } = await client.uploadRecord(user, wav, { args, fields: "id url waveformUrl" });
    return data.uploadRecord.record;
  }

  const codeOf = ({ errors }: Answer): unknown => errors?.[0]?.extensions.code ?? "done";

  const revoke = async (user: Credentials, id: string): Promise<Answer> =>
    await client.run("mutation ($id: ID!) { revokeToken(id: $id) { revokedId revokedIds } }", { id }, user);

  const isValid = async (token: Credentials): Promise<boolean> =>
    (await client.run("{ me { id } }", {}, token)).status === 200;

  /**
   * For each field of Query and Mutation: an operation that does not affect the others, and the scopes that allow it.
   */
  const rootFields: Record<string, [operation: string, allowed: readonly Scope[]]> = {
    me: ["{ me { id name createdAt } }", scopes],
    record: [`{ record(id: "${absent}") { id } }`, ["READ", "WRITE", "UPLOAD"]],
    node: [`{ node(id: "${absent}") { id } }`, ["READ", "WRITE", "UPLOAD"]],
    nodes: [`{ nodes(ids: ["${absent}"]) { id } }`, ["READ", "WRITE", "UPLOAD"]],
    errorCodes: ["{ errorCodes { code } }", scopes],
    service: ["{ service { version } }", scopes],
    shared: [`{ shared(url: "http://localhost/record?id=${absent}&user=1") { title } }`, scopes],
    createUser: ['mutation { createUser(name: "Eve") { user { id } } }', scopes],
    updateRecord: [`mutation { updateRecord(id: "${absent}", title: "x") { record { id } } }`, ["WRITE"]],
    updateRecords: [
      `mutation { updateRecords(changes: [{ id: "${absent}", title: "x" }]) { records { id } } }`,
      ["WRITE"],
    ],
    deleteRecord: [`mutation { deleteRecord(id: "${absent}") { deletedId } }`, ["WRITE"]],
    deleteRecords: [`mutation { deleteRecords(ids: ["${absent}"]) { deletedIds } }`, ["WRITE"]],
    createLink: [`mutation { createLink(recordId: "${absent}") { link { url } } }`, ["WRITE"]],
    revokeLink: [`mutation { revokeLink(id: "${absent}") { revokedId } }`, ["WRITE"]],
    createToken: ['mutation { createToken(name: "x", scopes: [MANAGE]) { token } }', ["MANAGE"]],
    renewToken: [`mutation { renewToken(id: "${absent}") { token } }`, ["MANAGE"]],
    revokeToken: [`mutation { revokeToken(id: "${absent}") { revokedId } }`, ["MANAGE"]],
    upload: [`{ upload(id: "${absent}") { id } }`, ["READ", "WRITE", "UPLOAD"]],
    startUpload: ['mutation { startUpload(fileName: "a", sizeBytes: 0) { created } }', ["WRITE", "UPLOAD"]],
    cancelUpload: [`mutation { cancelUpload(id: "${absent}") { cancelledId } }`, ["WRITE", "UPLOAD"]],
    createUploadTicket: ["mutation { createUploadTicket(maxBytes: 0) { ticket } }", ["WRITE", "UPLOAD"]],
    revokeUploadTicket: [`mutation { revokeUploadTicket(id: "${absent}") { revokedId } }`, ["WRITE", "UPLOAD"]],
    updateUser: ['mutation { updateUser(name: "Ann") { user { id } } }', ["MANAGE"]],
    deleteUser: ['mutation { deleteUser(confirm: "nobody") { deletedId } }', ["MANAGE"]],
  };

  it.each(Object.entries(rootFields))("allow %s or refuse it", async (_field, [operation, allowed]) => {
    for (const scope of scopes) {
      const answer = await client.run(operation, {}, tokens[scope]);
      const isRefused = codeOf(answer) === "FORBIDDEN";
      expect([scope, isRefused]).toEqual([scope, !allowed.includes(scope)]);
      expect(isRefused ? [answer.status, answer.data] : [403, null]).toEqual([403, null]);
    }
  });

  it("allow an upload or refuse it, in the header and in the arguments", async () => {
    for (const scope of scopes) {
      const { token } = tokens[scope];
      const inArguments = { args: `, userId: "${ann.id}", token: "${token}"` };
      const answers = [
        await client.uploadRecord(tokens[scope], wav),
        await client.uploadRecord(undefined, wav, inArguments),
        // If they are there, the header is ignored, whatever its token allows.
        await client.uploadRecord(ann, wav, inArguments),
      ];
      const expected = scope === "WRITE" || scope === "UPLOAD" ? "done" : "FORBIDDEN";
      expect([scope, ...answers.map(codeOf)]).toEqual([scope, expected, expected, expected]);
    }
  });

  it("are tried on every field that the API has", async () => {
    const schema = buildSchema(await readFile("schema/schema.graphql", "utf8"));
    const fields = [schema.getQueryType()!, schema.getMutationType()!].flatMap((type) => Object.keys(type.getFields()));
    expect([...Object.keys(rootFields), "uploadRecord"].toSorted()).toEqual(fields.toSorted());
  });

  it.each<[string, string, readonly Scope[]]>([
    ["records of me", "{ me { records { totalCount } } }", ["READ"]],
    ["usage of me", "{ me { usage { bytes } } }", ["READ"]],
    ["tokens of me", "{ me { tokens { id } } }", ["MANAGE"]],
    ["records of a node", "{ node(id: $user) { ... on User { records { totalCount } } } }", ["READ"]],
    ["tokens of a node", "{ node(id: $user) { ... on User { tokens { id } } } }", ["MANAGE"]],
    ["the user as a node", "{ node(id: $user) { ... on User { name } } }", scopes],
    ["links of a recording", "{ record(id: $record) { links { url } } }", ["READ"]],
    ["records of its owner", "{ record(id: $record) { owner { records { totalCount } } } }", ["READ"]],
    ["records of several nodes", "{ nodes(ids: [$user, $record]) { ... on Recording { links { url } } } }", ["READ"]],
    ["tokens of several nodes", "{ nodes(ids: [$user]) { ... on User { tokens { id } } } }", ["MANAGE"]],
    ["usage after a deletion", "mutation { deleteRecord(id: $record) { user { usage { bytes } } } }", []],
    ["links beside a new link", "mutation { createLink(recordId: $record) { record { links { url } } } }", []],
    ["a recording beside a new link", "mutation { createLink(recordId: $record) { record { title } } }", ["WRITE"]],
    [
      "tokens beside a new token",
      'mutation { createToken(name: "x", scopes: [MANAGE]) { user { tokens { id } } } }',
      ["MANAGE"],
    ],
    [
      "usage beside a new token",
      'mutation { createToken(name: "x", scopes: [MANAGE]) { user { usage { bytes } } } }',
      [],
    ],
    ["tokens of a changed user", 'mutation { updateUser(name: "Ann") { user { tokens { id } } } }', ["MANAGE"]],
    ["usage of a changed user", 'mutation { updateUser(name: "Ann") { user { usage { bytes } } } }', []],
    [
      "links of a changed record",
      'mutation { updateRecord(id: $record, title: "x") { record { links { url } } } }',
      [],
    ],
    [
      "a mutation beside another",
      'mutation { a: createUser(name: "x") { token } deleteRecord(id: $record) { deletedId } }',
      ["WRITE"],
    ],
  ])("count for %s", async (_what, operation, allowed) => {
    const { id } = await upload(ann);
    const query = operation.replaceAll("$user", `"${ann.id}"`).replaceAll("$record", `"${id}"`);
    for (const scope of scopes) {
      const answer = await client.run(query, {}, tokens[scope]);
      expect([scope, codeOf(answer)]).toEqual([scope, allowed.includes(scope) ? "done" : "FORBIDDEN"]);
    }
  });

  it.each([
    "links { url }",
    "owner { records { totalCount } }",
    "owner { usage { bytes } }",
    "owner { tokens { id } }",
  ])("give UPLOAD no %s in an upload's answer, and store nothing of it", async (fields) => {
    const count = async () =>
      (await service.server.database.pool.query("select from audio_record where owner_id = $1", [ann.id])).rowCount;
    const before = await count();
    expect(codeOf(await client.uploadRecord(tokens.UPLOAD, wav, { fields }))).toBe("FORBIDDEN");
    expect(await count()).toBe(before);
  });

  it("let UPLOAD read what the same token has uploaded, and nothing else", async () => {
    const sibling = await newToken(ann, ["UPLOAD"]);
    const mine = await upload(tokens.UPLOAD, ", visibility: PRIVATE");
    const others = [await upload(sibling, ", visibility: PRIVATE"), await upload(ann)];
    const read = async (id: string, token: Credentials) =>
      (
        await client.run(
          `{ record(id: "${id}") { title url peaks owner { name } } node(id: "${id}") { id } }`,
          {},
          token,
        )
      ).data;
    expect(await read(mine.id, tokens.UPLOAD)).toEqual({
      record: { title: "take", url: mine.url, peaks: expect.any(Array), owner: { name: "Ann" } },
      node: { id: mine.id },
    });
    for (const { id } of others) expect(await read(id, tokens.UPLOAD)).toEqual({ record: null, node: null });
    expect(await read(mine.id, sibling)).toEqual({ record: null, node: null });
    expect((await read(mine.id, tokens.READ)).record.title).toBe("take");
    // After a token is revoked, its recordings belong to the user, but no other UPLOAD token can read them.
    await revoke(ann, sibling.tokenId);
    expect((await read(others[0]!.id, ann)).record.title).toBe("take");
    expect(await read(others[0]!.id, tokens.UPLOAD)).toEqual({ record: null, node: null });
  });

  it("let a token with WRITE read what it has uploaded, too", async () => {
    const mine = await upload(tokens.WRITE);
    expect((await client.run(`{ record(id: "${mine.id}") { id } }`, {}, tokens.WRITE)).data.record.id).toBe(mine.id);
  });

  it("open private links to READ, and to the token that uploaded the recording", async () => {
    const mine = await upload(tokens.UPLOAD, ", visibility: PRIVATE");
    const written = await upload(tokens.WRITE, ", visibility: PRIVATE");
    const managed = await upload(ann, ", visibility: PRIVATE");
    const opened = async (recording: { url: string; waveformUrl: string }) => {
      const found: string[] = [];
      for (const scope of scopes) {
        const headers = { authorization: `Bearer ${tokens[scope].token}` };
        const answers = [
          await fetch(recording.url, { method: "HEAD", headers }),
          await fetch(recording.url, { headers: { ...headers, range: "bytes=0-9" } }),
          await fetch(recording.waveformUrl, { headers }),
        ];
        await Promise.all(answers.map(async (answer) => await answer.arrayBuffer()));
        found.push(`${scope} ${answers.map(({ status }) => status).join(" ")}`);
      }
      return found;
    };
    const [open, shut] = ["200 206 200", "404 404 404"];
    const outcomes = (...allowed: readonly Scope[]) =>
      scopes.map((scope) => `${scope} ${allowed.includes(scope) ? open : shut}`);
    expect(await opened(mine)).toEqual(outcomes("READ", "UPLOAD"));
    expect(await opened(written)).toEqual(outcomes("READ", "WRITE"));
    expect(await opened(managed)).toEqual(outcomes("READ"));
    const bob = await client.createUser("Bob");
    const asBob = await fetch(mine.url, { headers: { authorization: `Bearer ${bob.token}` } });
    expect(asBob.status).toBe(404);
  });

  it("tell UPLOAD of no recording that another token has uploaded with the same idempotency key", async () => {
    const request = { args: `, idempotencyKey: "${crypto.randomUUID()}"`, fields: "id" };
    const first = await client.uploadRecord(ann, wav, request);
    const answers = [
      await client.uploadRecord(tokens.UPLOAD, wav, request),
      await client.uploadRecord(tokens.UPLOAD, wav, { ...request, fileName: "other.wav" }),
    ];
    for (const { status, errors } of answers) {
      expect([status, errors![0]!.extensions]).toEqual([409, { code: "CONFLICT", requestId: expect.any(String) }]);
      expect(errors![0]!.message).toContain("with another token");
    }
    expect((await client.uploadRecord(tokens.WRITE, wav, request)).data).toEqual({
      uploadRecord: { created: false, record: first.data.uploadRecord.record },
    });
    const own = { args: `, idempotencyKey: "${crypto.randomUUID()}"`, fields: "id" };
    const { data } = await client.uploadRecord(tokens.UPLOAD, wav, own);
    expect((await client.uploadRecord(tokens.UPLOAD, wav, own)).data.uploadRecord).toEqual({
      created: false,
      record: data.uploadRecord.record,
    });
  });

  it("are named by a refusal, with what to do", async () => {
    const { errors } = await client.run('mutation { updateUser(name: "x") { user { id } } }', {}, tokens.UPLOAD);
    expect(errors![0]).toMatchObject({
      message:
        "This needs a token with the scope MANAGE; this one has UPLOAD. " +
        "Use another token, or create one with createToken.",
      extensions: { code: "FORBIDDEN", scope: "MANAGE" },
    });
    const record = await client.run(`{ record(id: "${absent}") { id } }`, {}, tokens.MANAGE);
    expect(record.errors![0]!.message).toContain("the scope READ or UPLOAD; this one has MANAGE.");
  });

  it("are limited to those of the token that creates another", async () => {
    const manager = await newToken(ann, ["WRITE", "MANAGE"]);
    const answers = await Promise.all(
      [["READ"], ["UPLOAD"], ["WRITE", "MANAGE"], ["UPLOAD", "READ"]].map(
        async (wanted) =>
          await client.run(`mutation { createToken(name: "x", scopes: [${wanted.join()}]) { token } }`, {}, manager),
      ),
    );
    expect(answers.map(codeOf)).toEqual(["FORBIDDEN", "done", "done", "FORBIDDEN"]);
  });

  it("are all for a user's first token, and READ and WRITE by default for others", async () => {
    const query = 'mutation { createToken(name: "x") { accessToken { scopes parentId } } }';
    const { data } = await client.run(query, {}, ann);
    expect(data.createToken.accessToken).toEqual({ scopes: ["READ", "WRITE"], parentId: await idOf(ann) });
    const eve = await client.createUser("Eve");
    const { me } = (await client.run("{ me { tokens { scopes parentId } } }", {}, eve)).data;
    expect(me.tokens).toEqual([{ scopes: ["READ", "WRITE", "MANAGE"], parentId: null }]);
  });

  describe("and a token that is revoked", () => {
    it("takes its descendants with it, but no other token", async () => {
      const eve = await client.createUser("Eve");
      const child = await newToken(eve, ["WRITE", "MANAGE"]);
      const sibling = await newToken(eve, ["WRITE", "MANAGE"]);
      const grandchild = await newToken(child, ["MANAGE"]);
      const last = await newToken(grandchild, ["MANAGE"]);
      const { data } = await revoke(eve, child.tokenId);
      expect(data.revokeToken).toEqual({
        revokedId: child.tokenId,
        revokedIds: [child.tokenId, grandchild.tokenId, last.tokenId],
      });
      expect(await Promise.all([child, grandchild, last, sibling, eve].map(isValid))).toEqual([
        false,
        false,
        false,
        true,
        true,
      ]);
      const { me } = (await client.run("{ me { tokens { id } } }", {}, eve)).data;
      expect(me.tokens.map(({ id }: { id: string }) => id)).toEqual([sibling.tokenId, await idOf(eve)]);
    });

    it("is not an ancestor of the revoking token", async () => {
      const eve = await client.createUser("Eve");
      const child = await newToken(eve, ["MANAGE"]);
      const grandchild = await newToken(child, ["MANAGE"]);
      const sibling = await newToken(eve, ["MANAGE"]);
      for (const id of [child.tokenId, await idOf(eve)]) {
        const { status, data, errors } = await revoke(grandchild, id);
        expect([status, data, errors![0]!.extensions.code]).toEqual([403, null, "FORBIDDEN"]);
      }
      expect(codeOf(await revoke(grandchild, sibling.tokenId))).toBe("done");
      expect(codeOf(await revoke(grandchild, grandchild.tokenId))).toBe("done");
      expect(await Promise.all([eve, child, grandchild, sibling].map(isValid))).toEqual([true, true, false, false]);
    });

    it("may be the last one, with all its descendants", async () => {
      const eve = await client.createUser("Eve");
      const child = await newToken(eve, ["READ"]);
      expect(codeOf(await revoke(eve, await idOf(eve)))).toBe("done");
      expect(await Promise.all([eve, child].map(isValid))).toEqual([false, false]);
    });

    it("leaves no token that it created, even if both happen at once", async () => {
      const eve = await client.createUser("Eve");
      const child = await newToken(eve, ["MANAGE"]);
      await using revoking = await beginTransaction(service.databaseUrl, "delete from access_token where id = $1", [
        child.tokenId,
      ]);
      const making = client.run('mutation { createToken(name: "x", scopes: [MANAGE]) { token } }', {}, child);
      expect(await revoking.untilWaiting(1)).toBe(1);
      await revoking.commit();
      const { status, errors } = await making;
      expect([status, errors![0]!.extensions.code]).toEqual([401, "UNAUTHENTICATED"]);
      const { rowCount } = await service.server.database.pool.query("select from access_token where owner_id = $1", [
        eve.id,
      ]);
      expect(rowCount).toBe(1);
    });

    it.each([
      ["itself", (child: Token) => child.tokenId],
      ["by the one that made it", (_child: Token, parent: Token) => parent.tokenId],
    ])("ends its upload without a recording: revoked %s", async (_how, revoked) => {
      const { pool } = service.server.database;
      for (const quota of [null, 100_000_000]) {
        const eve = await client.createUser("Eve");
        await pool.query("update app_user set quota_bytes = $2 where id = $1", [eve.id, quota]);
        const parent = await newToken(eve, ["WRITE", "MANAGE"]);
        const child = await newToken(parent, ["UPLOAD"]);
        using half = await startHalfUpload(port, child, sineWav({ seconds: 20, channels: 2 }));
        const records = async () =>
          (await pool.query("select from audio_record where owner_id = $1", [eve.id])).rowCount;
        expect(await until(records, (count) => count === 1)).toBe(1);
        expect(codeOf(await revoke(eve, revoked(child, parent)))).toBe("done");
        await half.finish();
        const { status, body } = (await half.connection.answer())!;
        const { data, errors } = JSON.parse(body);
        expect([status, data, errors[0].extensions.code]).toEqual([401, null, "UNAUTHENTICATED"]);
        expect(errors[0].message).toBe("The token was revoked in the meantime. Use another one.");
        expect(await records()).toBe(0);
      }
    });

    it.each([
      ["waits for the lock of its user", 100_000_000, "select from app_user where id = $1 for update"],
      [
        "sees a token that is being revoked",
        0,
        "delete from access_token where owner_id = $1 and parent_id is not null",
      ],
    ])("ends its upload without a recording while the last statement %s", async (_what, quota, holding) => {
      const { pool } = service.server.database;
      const eve = await client.createUser("Eve");
      await pool.query("update app_user set quota_bytes = $2, quota_seconds = 0, quota_records = 0 where id = $1", [
        eve.id,
        quota,
      ]);
      const child = await newToken(eve, ["UPLOAD"]);
      using half = await startHalfUpload(port, child, sineWav({ seconds: 20, channels: 2 }));
      const records = async () => (await pool.query("select from audio_record where owner_id = $1", [eve.id])).rowCount;
      expect(await until(records, (count) => count === 1)).toBe(1);
      await using holder = await beginTransaction(service.databaseUrl, holding, [eve.id]);
      await half.finish();
      expect(await holder.untilWaiting(1)).toBe(1);
      // If the lock is not the revocation itself, the token is revoked now.
      expect(quota > 0 ? codeOf(await revoke(eve, child.tokenId)) : "done").toBe("done");
      await holder.commit();
      const { status, body } = (await half.connection.answer())!;
      const { data, errors } = JSON.parse(body);
      expect([status, data, errors[0].extensions.code]).toEqual([401, null, "UNAUTHENTICATED"]);
      expect(errors[0].message).toBe("The token was revoked in the meantime. Use another one.");
      expect(await records()).toBe(0);
    });
  });
});
