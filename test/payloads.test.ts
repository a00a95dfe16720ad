import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { SentStatements, startServiceWithoutIntervals } from "./support/sent-statements.ts";
import { seedRecords } from "./support/seed-records.ts";
import type { TestService } from "./support/service.ts";

const absent = "00000000-0000-4000-8000-000000000000";

/** What a client's cache needs: what was changed, and the object whose lists and sums it changes. */
describe("the API", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let bob: Credentials;

  beforeAll(async () => {
    service = await startServiceWithoutIntervals();
    client = new ApiClient(service.url);
    [ann, bob] = [await client.createUser("Ann"), await client.createUser("Bob")];
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const codeOf = ({ errors }: Answer): unknown => errors?.[0]?.extensions.code;

  async function seeded(user: Credentials, count: number): Promise<string[]> {
    await seedRecords(service.server.database.pool, { ownerId: user.id, count });
    const { data } = await client.run("{ me { records(first: 100) { nodes { id } } } }", {}, user);
    return data.me.records.nodes.slice(0, count).map(({ id }: { id: string }) => id);
  }

  async function newToken(user: Credentials, scopes: string[]): Promise<Credentials & { tokenId: string }> {
    const query = `mutation ($scopes: [TokenScope!]!) {
      createToken(name: "x", scopes: $scopes) { token accessToken { id } }
    }`;
    const { data } = await client.run(query, { scopes }, user);
    return { id: user.id, token: data.createToken.token, tokenId: data.createToken.accessToken.id };
  }

  it("answers with the recording when its links have changed", async () => {
    const [id] = await seeded(ann, 1);
    const create = "mutation ($id: ID!) { createLink(recordId: $id) { link { id } record { id title links { id } } } }";
    const { createLink } = (await client.run(create, { id }, ann)).data;
    expect(createLink.record).toMatchObject({ id, links: [createLink.link] });
    const revoke = "mutation ($id: ID!) { revokeLink(id: $id) { revokedId recordId record { id links { id } } } }";
    expect((await client.run(revoke, { id: createLink.link.id }, ann)).data.revokeLink).toEqual({
      revokedId: createLink.link.id,
      recordId: id,
      record: { id, links: [] },
    });
  });

  it("answers with the user when recordings were deleted", async () => {
    const eve = await client.createUser("Eve");
    const ids = await seeded(eve, 3);
    const user = "user { id name usage { records } records { totalCount } }";
    const one = `mutation ($id: ID!) { deleteRecord(id: $id) { deletedId ${user} } }`;
    expect((await client.run(one, { id: ids[0] }, eve)).data.deleteRecord).toEqual({
      deletedId: ids[0],
      user: { id: eve.id, name: "Eve", usage: { records: 2 }, records: { totalCount: 2 } },
    });
    const many = `mutation ($ids: [ID!]!) { deleteRecords(ids: $ids) { deletedIds ${user} } }`;
    const { deleteRecords } = (await client.run(many, { ids: ids.slice(1) }, eve)).data;
    expect(deleteRecords.user).toMatchObject({ usage: { records: 0 }, records: { totalCount: 0 } });
  });

  it("answers with the user when tokens have changed", async () => {
    const eve = await client.createUser("Eve");
    const create = 'mutation { createToken(name: "x") { accessToken { id } user { id tokens { id } } } }';
    const { createToken } = (await client.run(create, {}, eve)).data;
    expect(createToken.user).toEqual({ id: eve.id, tokens: [createToken.accessToken, { id: expect.any(String) }] });
    const revoke = "mutation ($id: ID!) { revokeToken(id: $id) { user { id tokens { id } } } }";
    const { revokeToken } = (await client.run(revoke, { id: createToken.accessToken.id }, eve)).data;
    expect(revokeToken.user).toEqual({ id: eve.id, tokens: [createToken.user.tokens[1]] });
    const renew = "mutation { renewToken { accessToken { id } user { id tokens { id } } } }";
    const { renewToken } = (await client.run(renew, {}, eve)).data;
    expect(renewToken.user).toEqual({ id: eve.id, tokens: [renewToken.accessToken] });
  });

  it("answers with the user when uploads have begun or were given up, and nobody's to who has a ticket", async () => {
    const eve = await client.createUser("Eve");
    const start = `mutation ($ticket: UUID) {
      startUpload(fileName: "take.wav", ticket: $ticket) { upload { id } user { id uploads { id } } }
    }`;
    const { startUpload } = (await client.run(start, {}, eve)).data;
    expect(startUpload.user).toEqual({ id: eve.id, uploads: [startUpload.upload] });
    const cancel = "mutation ($id: ID!) { cancelUpload(id: $id) { user { id uploads { id } } } }";
    const { cancelUpload } = (await client.run(cancel, { id: startUpload.upload.id }, eve)).data;
    expect(cancelUpload.user).toEqual({ id: eve.id, uploads: [] });
    const { ticket } = (await client.run("mutation { createUploadTicket { ticket } }", {}, eve)).data
      .createUploadTicket;
    const guest = 'mutation ($ticket: UUID) { startUpload(fileName: "take.wav", ticket: $ticket) { user { id } } }';
    expect((await client.run(guest, { ticket })).data.startUpload).toEqual({ user: null });
  });

  describe("nodes", () => {
    const nodes = "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }";

    it("are answered in the order of their ids, with two statements however many they are", async () => {
      const ids = await seeded(ann, 100);
      using sent = new SentStatements(service.server.database.pool);
      const { data } = await client.run(nodes, { ids }, ann);
      expect(sent.take()).toHaveLength(2);
      expect(data.nodes).toEqual(ids.map((id) => ({ __typename: "Recording", id })));
      const some = [ids[1]!.toUpperCase(), ann.id, absent, "nonsense", ids[0], ids[1]];
      expect((await client.run(nodes, { ids: some }, ann)).data.nodes).toEqual([
        { __typename: "Recording", id: ids[1] },
        { __typename: "User", id: ann.id },
        null,
        null,
        { __typename: "Recording", id: ids[0] },
        { __typename: "Recording", id: ids[1] },
      ]);
      expect((await client.run(nodes, { ids: [] }, ann)).data.nodes).toEqual([]);
    });

    it("are null for other users, and refused for strangers and revoked tokens", async () => {
      const [id] = await seeded(ann, 1);
      const ids = [id, ann.id];
      expect((await client.run(nodes, { ids }, bob)).data.nodes).toEqual([null, null]);
      expect(codeOf(await client.run(nodes, { ids }))).toBe("UNAUTHENTICATED");
      const token = await newToken(ann, ["READ"]);
      expect((await client.run(nodes, { ids: [id] }, token)).data.nodes).toEqual([{ __typename: "Recording", id }]);
      await client.run("mutation ($id: ID!) { revokeToken(id: $id) { revokedId } }", { id: token.tokenId }, ann);
      expect(codeOf(await client.run(nodes, { ids }, token))).toBe("UNAUTHENTICATED");
    });

    it("are null for a token that may only upload and has not uploaded them", async () => {
      const [mine, other] = await seeded(ann, 2);
      const kiosk = await newToken(ann, ["UPLOAD"]);
      const { pool } = service.server.database;
      await pool.query("update audio_record set made_by = $1 where id = $2", [kiosk.tokenId, mine]);
      const { data } = await client.run(nodes, { ids: [mine, other, ann.id] }, kiosk);
      expect(data.nodes).toEqual([{ __typename: "Recording", id: mine }, null, { __typename: "User", id: ann.id }]);
    });

    it("are refused when they are too many, or would each have a list of recordings", async () => {
      const tooMany = await client.run(nodes, { ids: Array.from({ length: 101 }, () => absent) }, ann);
      expect([tooMany.status, tooMany.errors?.[0]?.extensions]).toMatchObject([400, { argument: "ids", max: 100 }]);
      const beside = `query ($ids: [ID!]!) { record(id: "${absent}") { id } nodes(ids: $ids) { id } }`;
      const manager = await newToken(ann, ["MANAGE"]);
      const answer = await client.run(beside, { ids: Array.from({ length: 101 }, () => ann.id) }, manager);
      expect([answer.status, answer.data]).toEqual([400, null]);
      expect(answer.errors?.map(({ extensions }) => extensions.code)).toEqual(["BAD_USER_INPUT"]);
      for (const inside of [
        "... on User { records { totalCount } }",
        "... on Recording { owner { records { totalCount } } }",
      ]) {
        const answer = await client.run(
          `query ($ids: [ID!]!) { nodes(ids: $ids) { ${inside} } }`,
          { ids: [ann.id] },
          ann,
        );
        expect([answer.status, codeOf(answer)]).toEqual([400, "BAD_USER_INPUT"]);
      }
    });
  });

  describe("updateRecords", () => {
    const update = `mutation ($changes: [RecordChangeInput!]!) {
      updateRecords(changes: $changes) { records { id title visibility owner { name } } }
    }`;
    const stateOf = async (ids: readonly string[]) =>
      (
        await service.server.database.pool.query(
          "select title, visibility from audio_record where id = any($1) order by id",
          [ids],
        )
      ).rows;

    it("changes all of them, with as many statements as for one, and search and order follow", async () => {
      const eve = await client.createUser("Eve");
      const ids = await seeded(eve, 100);
      const changes = ids.map((id, at) =>
        at === 0
          ? { id: id.toUpperCase(), title: "Ähnlich" }
          : { id, title: at === 1 ? "Zuletzt" : null, visibility: "PRIVATE" },
      );
      using sent = new SentStatements(service.server.database.pool);
      const { data } = await client.run(update, { changes }, eve);
      const statements = sent.take();
      expect(statements.filter((statement) => statement.startsWith("update"))).toHaveLength(1);
      expect(statements.length).toBeLessThanOrEqual(6);
      const { records } = data.updateRecords;
      expect(records.map(({ id }: { id: string }) => id)).toEqual(ids);
      expect(records.slice(0, 3)).toMatchObject([
        { title: "Ähnlich", visibility: "PUBLIC", owner: { name: "Eve" } },
        { title: "Zuletzt", visibility: "PRIVATE" },
        { visibility: "PRIVATE" },
      ]);
      const list = `query ($filter: RecordFilterInput) {
        me { records(filter: $filter, orderBy: { field: TITLE }) { totalCount nodes { title } } }
      }`;
      const find = async (filter: object) => (await client.run(list, { filter }, eve)).data.me.records;
      expect((await find({ text: "ahnlich" })).nodes).toEqual([{ title: "Ähnlich" }]);
      expect((await find({ visibility: "PRIVATE" })).totalCount).toBe(99);
      expect((await find({})).nodes[0]).toEqual({ title: "Ähnlich" });
      expect((await client.run(update, { changes: [] }, eve)).data.updateRecords.records).toEqual([]);
      const wrong = await client.run(update, { changes: [{ id: "nonsense", title: "x" }] }, eve);
      expect(wrong.errors?.[0]?.extensions).toMatchObject({ code: "NOT_FOUND", id: "nonsense" });
    });

    it("changes none if one cannot be changed, and says which", async () => {
      const ids = await seeded(ann, 2);
      const [bobs] = await seeded(bob, 1);
      const before = await stateOf([...ids, bobs!]);
      for (const id of [absent, bobs!, "nonsense"]) {
        const changes = [...ids, id].map((id) => ({ id, title: "x" }));
        const { status, data, errors } = await client.run(update, { changes }, ann);
        expect([status, data, errors?.[0]?.extensions]).toMatchObject([404, null, { code: "NOT_FOUND", id }]);
      }
      const wrong = [
        [{ id: ids[0], title: "x" }, { id: ids[1] }],
        [
          { id: ids[0], title: "x" },
          { id: ids[1], title: "a\nb" },
        ],
        [
          { id: ids[0], title: "x" },
          { id: ids[0]!.toUpperCase(), title: "y" },
        ],
        Array.from({ length: 101 }, () => ({ id: absent, title: "x" })),
      ];
      for (const changes of wrong) {
        expect(codeOf(await client.run(update, { changes }, ann))).toBe("BAD_USER_INPUT");
      }
      expect(await stateOf([...ids, bobs!])).toEqual(before);
    });

    it("is refused to strangers and revoked tokens", async () => {
      const [id] = await seeded(ann, 1);
      const token = await newToken(ann, ["WRITE"]);
      await client.run("mutation ($id: ID!) { revokeToken(id: $id) { revokedId } }", { id: token.tokenId }, ann);
      const before = await stateOf([id!]);
      for (const user of [undefined, token]) {
        expect(codeOf(await client.run(update, { changes: [{ id, title: "x" }] }, user))).toBe("UNAUTHENTICATED");
      }
      expect(await stateOf([id!])).toEqual(before);
    });
  });

  it("finds recordings by visibility, tag and checksum, and of the caller only", async () => {
    const eve = await client.createUser("Eve");
    await seeded(eve, 10);
    await seeded(bob, 10);
    const list = `query ($filter: RecordFilterInput) {
      me { records(filter: $filter, orderBy: { field: CREATED_AT, direction: ASC }) {
        totalCount nodes { title sourceSha256 tags { name value } }
      } }
    }`;
    const find = async (filter: object) => await client.run(list, { filter }, eve);
    const { data } = await find({ tag: { name: "artist", value: "Artist 7" } });
    expect(data.me.records).toMatchObject({
      totalCount: 1,
      nodes: [{ tags: [{ name: "artist", value: "Artist 7" }] }],
    });
    const [{ title, sourceSha256 }] = data.me.records.nodes;
    for (const [filter, count] of [
      [{ sourceSha256 }, 1],
      [{ sourceSha256: sourceSha256.toUpperCase(), text: title }, 1],
      [{ sourceSha256: "0".repeat(64) }, 0],
      [{ sourceSha256, visibility: "PRIVATE" }, 0],
      [{ visibility: "PUBLIC" }, 10],
      [{ visibility: null, tag: null, sourceSha256: null }, 10],
      [{ tag: { name: "artist", value: "artist 7" } }, 0],
      [{ tag: { name: "title", value: "Artist 7" } }, 0],
      [{ tag: { name: "artist", value: "'\"\\u0000" } }, 0],
      [{ tag: { name: "artist", value: "a\u0000b" } }, 0],
      [{ tag: { name: "artist\ud800", value: "a" } }, 0],
    ] as const) {
      const { errors, data: found } = await find(filter);
      expect([filter, errors, found.me.records.totalCount]).toEqual([filter, undefined, count]);
    }
    for (const sourceSha256 of ["", "abc", "g".repeat(64)]) {
      const { status, errors } = await find({ sourceSha256 });
      expect([status, errors?.[0]?.extensions]).toMatchObject([400, { argument: "filter.sourceSha256" }]);
    }
  });

  it("tells every error code to anyone", async () => {
    const { data } = await client.run("{ errorCodes { code status meaning advice } }");
    expect(data.errorCodes).toContainEqual({
      code: "NOT_FOUND",
      status: 404,
      meaning: expect.any(String),
      advice: expect.any(String),
    });
  });
});
