import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { SentStatements, startServiceWithoutIntervals } from "./support/sent-statements.ts";
import { seedRecords } from "./support/seed-records.ts";
import type { TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const list = `query ($first: Int, $after: String, $last: Int, $before: String, $filter: RecordFilterInput, $orderBy: RecordOrderInput) {
  me { records(first: $first, after: $after, last: $last, before: $before, filter: $filter, orderBy: $orderBy) {
    totalCount
    edges { cursor node { title } }
    nodes { id title fileName createdAt durationSeconds sizeBytes }
    pageInfo { hasPreviousPage hasNextPage startCursor endCursor }
  } }
}`;

describe("a user's recordings", () => {
  let service: TestService;
  let client: ApiClient;

  beforeAll(async () => {
    service = await startServiceWithoutIntervals();
    client = new ApiClient(service.url);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const seeded = async (count: number, secondsApart?: number): Promise<Credentials> => {
    const user = await client.createUser();
    await seedRecords(service.server.database.pool, { ownerId: user.id, count, secondsApart });
    return user;
  };

  const records = async (user: Credentials, variables: object = {}): Promise<any> => {
    const { data, errors } = await client.run(list, variables, user);
    expect(errors).toBeUndefined();
    return data.me.records;
  };

  const titles = ({ nodes }: any): string[] => nodes.map(({ title }: any) => title);

  /** Follows the cursors to the last page. */
  const walk = async (user: Credentials, variables: any, between = async (): Promise<unknown> => null) => {
    const backward = "last" in variables;
    const found: any[] = [];
    for (let cursor: string | null = null; ;) {
      const page = await records(user, { ...variables, [backward ? "before" : "after"]: cursor });
      if (backward) found.unshift(...page.nodes);
      else found.push(...page.nodes);
      const { hasPreviousPage, hasNextPage, startCursor, endCursor } = page.pageInfo;
      if (!(backward ? hasPreviousPage : hasNextPage)) return found;
      cursor = backward ? startCursor : endCursor;
      await between();
    }
  };

  it("are none at first", async () => {
    const page = await records(await client.createUser());
    expect(page).toEqual({
      totalCount: 0,
      edges: [],
      nodes: [],
      pageInfo: { hasPreviousPage: false, hasNextPage: false, startCursor: null, endCursor: null },
    });
  });

  it("come 20 at a time, newest first, with the cursors to continue", async () => {
    const ann = await seeded(45);
    const first = await records(ann);
    expect(first.totalCount).toBe(45);
    expect(first.nodes).toHaveLength(20);
    expect(titles(first)[0]).toBe("Blues take 45");
    expect(first.edges.map(({ node }: any) => node.title)).toEqual(titles(first));
    expect(first.pageInfo).toEqual({
      hasPreviousPage: false,
      hasNextPage: true,
      startCursor: first.edges[0].cursor,
      endCursor: first.edges[19].cursor,
    });
    const second = await records(ann, { after: first.pageInfo.endCursor, first: 100 });
    expect(second.nodes).toHaveLength(25);
    expect(second.pageInfo).toMatchObject({ hasPreviousPage: true, hasNextPage: false });
    const back = await records(ann, { before: second.pageInfo.startCursor, last: 3 });
    expect(titles(back)).toEqual(titles(first).slice(17));
    expect(back.pageInfo).toMatchObject({ hasPreviousPage: true, hasNextPage: true });
    const between = await records(ann, {
      after: first.edges[4].cursor,
      before: first.edges[8].cursor,
    });
    expect(titles(between)).toEqual(titles(first).slice(5, 8));
    expect(between.pageInfo).toMatchObject({ hasPreviousPage: true, hasNextPage: true });
    const none = await records(ann, { first: 0 });
    expect(none).toMatchObject({ totalCount: 45, nodes: [], pageInfo: { hasNextPage: true } });
  });

  it.each(["CREATED_AT", "TITLE", "DURATION", "SIZE"])(
    "come in the order of %s, from either end, in either direction, each once",
    async (field) => {
      const ann = await seeded(30, field === "CREATED_AT" ? 0 : 60);
      const key = { CREATED_AT: "createdAt", TITLE: "title", DURATION: "durationSeconds", SIZE: "sizeBytes" }[field]!;
      for (const direction of ["ASC", "DESC"]) {
        const orderBy = { field, direction };
        const whole = (await records(ann, { orderBy, first: 100 })).nodes;
        expect(await walk(ann, { orderBy, first: 7 })).toEqual(whole);
        expect(await walk(ann, { orderBy, last: 7 })).toEqual(whole);
        const keys = whole.map((record: any) => record[key]);
        const sign = direction === "ASC" ? 1 : -1;
        expect(keys).toEqual(keys.toSorted((a: any, b: any) => sign * (Number(a > b) - Number(a < b))));
        const searched = { orderBy, filter: { text: "TAKE 1" } };
        expect(await walk(ann, { ...searched, first: 3 })).toEqual((await records(ann, searched)).nodes);
      }
    },
  );

  it("come in the order that people expect of a sort key, unless a direction is given", async () => {
    const ann = await seeded(30);
    for (const [field, direction] of [
      ["TITLE", "ASC"],
      ["CREATED_AT", "DESC"],
      ["DURATION", "DESC"],
      ["SIZE", "DESC"],
    ]) {
      const expected = titles(await records(ann, { orderBy: { field, direction } }));
      expect(titles(await records(ann, { orderBy: { field } }))).toEqual(expected);
      expect(await walk(ann, { orderBy: { field, direction: null }, first: 20 })).toHaveLength(30);
    }
  });

  it("are neither missed nor repeated while others are added and deleted", async () => {
    const ann = await seeded(20);
    const before = (await records(ann, { first: 100 })).nodes;
    let round = 0;
    const found = await walk(ann, { first: 4 }, async () => {
      await seedRecords(service.server.database.pool, { ownerId: ann.id, count: 1, secondsApart: 1e6 * ++round });
      // Deletes the recording at the cursor, which has been listed already.
      const { id } = before[4 * round - 1];
      await client.run("mutation ($id: ID!) { deleteRecord(id: $id) { deletedId } }", { id }, ann);
    });
    expect(found).toEqual(before);
  });

  it.each([
    ["more than 100", { first: 101 }],
    ["more than 100 from the end", { last: 101 }],
    ["less than none", { first: -1 }],
    ["both ends", { first: 1, last: 1 }],
    ["no cursor at all", { after: "nonsense" }],
    ["JSON that is no cursor", { after: Buffer.from('[1,"CREATED_AT"]').toString("base64url") }],
    ["an empty cursor", { before: "" }],
    ["too long a text", { filter: { text: "x".repeat(201) } }],
  ])("are refused when asked for with %s", async (_what, variables) => {
    const { status, errors } = await client.run(list, variables, await client.createUser());
    expect([status, errors?.[0]?.extensions.code]).toEqual([400, "BAD_USER_INPUT"]);
  });

  it("are refused with a cursor of another order, another direction or forged values", async () => {
    const ann = await seeded(3);
    const { pageInfo } = await records(ann, { first: 1, orderBy: { field: "TITLE", direction: "ASC" } });
    const forged = (key: unknown, id: unknown = uuidv4()): string =>
      Buffer.from(JSON.stringify([Number(ann.id), "CREATED_AT", "DESC", key, id])).toString("base64url");
    const attempts = [
      { after: pageInfo.endCursor },
      { after: pageInfo.endCursor, orderBy: { field: "TITLE", direction: "DESC" } },
      { after: pageInfo.endCursor, orderBy: { field: "SIZE", direction: "ASC" } },
      ...[forged("2026-01-01"), forged(1e300), forged(0.5), forged(null), forged(1, "x"), forged({})].map((after) => ({
        after,
      })),
    ];
    for (const variables of attempts) {
      const { status, errors } = await client.run(list, variables, ann);
      expect([status, errors?.[0]?.extensions.code]).toEqual([400, "BAD_USER_INPUT"]);
    }
    expect(await client.run(list, { after: forged(Number.MAX_SAFE_INTEGER) }, ann)).toMatchObject({ status: 200 });
  });

  it("are found by words in title, file name and tags, ignoring case and accents", async () => {
    const ann = await client.createUser();
    for (const [title, fileName] of [
      ["Ångström’s Café", "first.wav"],
      ["Straße 100%", "zweite_aufnahme.wav"],
      ["王小明的歌", "third.wav"],
      ["МОСКВА", "Ёлка.wav"],
    ] as const) {
      await client.uploadRecord(ann, sineWav({ seconds: 0.5, tags: { IART: "Björk" } } as never), {
        fileName,
        variables: { title },
        declarations: ", $title: String",
        args: ", title: $title",
      });
    }
    const find = async (text: string) => titles(await records(ann, { filter: { text } })).toSorted();
    expect(await find("angstrom")).toEqual(["Ångström’s Café"]);
    expect(await find("  CAFE\u0301  ANGST ")).toEqual(["Ångström’s Café"]);
    expect(await find("STRASSE")).toEqual(["Straße 100%"]);
    expect(await find("0%")).toEqual(["Straße 100%"]);
    expect(await find("%")).toEqual(["Straße 100%"]);
    expect(await find("_")).toEqual(["Straße 100%"]);
    expect(await find("\\")).toEqual([]);
    expect(await find("Zweite")).toEqual(["Straße 100%"]);
    expect(await find("小明")).toEqual(["王小明的歌"]);
    expect(await find("елка москва")).toEqual(["МОСКВА"]);
    expect(await find("cafe strasse")).toEqual([]);
    expect(await find(" \u0301 ")).toHaveLength(4);
    expect(await find("\u0000cafe\u0000\u001f angst\u007f")).toEqual(["Ångström’s Café"]);
    expect(await find("\u0000")).toHaveLength(4);
    expect((await records(ann, { filter: { text: "wav" } })).totalCount).toBe(4);
  });

  it("are found by upload time and duration", async () => {
    const ann = await seeded(10);
    const filter = {
      createdAt: { from: "2026-01-01T00:03:00Z", before: "2026-01-01T00:08:00Z" },
      durationSeconds: { min: 4, max: 6 },
      text: "take",
    };
    const page = await records(ann, { filter });
    expect(page.totalCount).toBe(3);
    expect(page.nodes.map(({ durationSeconds }: any) => durationSeconds)).toEqual([6, 5, 4]);
  });

  it("cost the same few statements, however many there are and whatever is selected", async () => {
    const everything = `query ($first: Int) { me { id records(first: $first, filter: { text: "take" }, orderBy: { field: TITLE, direction: ASC }) {
      totalCount pageInfo { hasNextPage endCursor }
      edges { cursor node { id url streamUrl mp3Url waveformUrl listenUrl title fileName createdAt durationSeconds sizeBytes bitrateKbps
        sampleRateHz channels sourceSha256 warnings peaks(count: 64) few: peaks(count: 2) tags { name value } mp3GainDb
        atLoudness(lufs: -16) { url } links { url note downloads } playUrl(validSeconds: 60)
        chapters { title } production { take tracks { name } }
        loudness { integratedLufs samplePeakDbfs } source { codec sizeBytes } owner { id name createdAt } visibility } }
    } } }`;
    const ann = await seeded(101);
    using sent = new SentStatements(service.server.database.pool);
    for (const first of [1, 100]) {
      sent.take();
      const { data: page } = await client.run(everything, { first }, ann);
      expect(page.me.records.edges).toHaveLength(first);
      expect(page.me.records.edges[0].node.few).toHaveLength(2);
      // The statements: the caller, the ids of the page, its recordings, their waveforms, their links, the count.
      expect(sent.take()).toHaveLength(6);
    }
  });

  it("are read with their chapters, production and tags only where those are selected", async () => {
    const ann = await seeded(2);
    const { pool } = service.server.database;
    const chapters = [{ title: "One", startSeconds: 0, endSeconds: 1 }];
    await pool.query(
      "update audio_record set chapters = $2, production = $3 where owner_id = $1 and title = 'Evening take 1'",
      [ann.id, JSON.stringify(chapters), JSON.stringify({ take: "7", tracks: [] })],
    );
    const bulky = "chapters { title startSeconds endSeconds } production { take } tags { name }";
    const query = `{ me { plain: records { nodes { id } } bulky: records { nodes { title ${bulky} } } } }`;
    using sent = new SentStatements(pool);
    const { data } = await client.run(query, {}, ann);
    expect(data.me.bulky.nodes).toEqual([
      { title: "Rehearsal take 2", chapters: [], production: null, tags: [{ name: "artist" }] },
      { title: "Evening take 1", chapters, production: { take: "7" }, tags: [{ name: "artist" }] },
    ]);
    // The statements: the caller, and for each list the ids of the page and its recordings.
    const columns = /"(?:chapters|production|tags)"/g;
    expect(sent.take().map((sql) => sql.match(columns)?.length ?? 0)).toEqual([0, 0, 0, 0, 3]);
  });

  it("cannot be listed inside their own list", async () => {
    const ann = await seeded(3);
    const nested = "{ me { records { nodes { owner { ... on User { records { totalCount } } } } } } }";
    const { status, errors } = await client.run(nested, {}, ann);
    expect([status, errors?.[0]?.extensions.code]).toEqual([400, "BAD_USER_INPUT"]);
  });

  it("can be renamed, which sorting and searching use at once", async () => {
    const ann = await seeded(2);
    const [{ id }] = (await records(ann)).nodes;
    const rename =
      "mutation ($id: ID!, $title: String, $visibility: Visibility) { " +
      "updateRecord(id: $id, title: $title, visibility: $visibility) { record { id title visibility } } }";
    const { data } = await client.run(rename, { id, title: "  Ähnlich  " }, ann);
    expect(data.updateRecord.record).toEqual({ id, title: "Ähnlich", visibility: "PUBLIC" });
    expect(titles(await records(ann, { filter: { text: "ahnlich rec_2" } }))).toEqual(["Ähnlich"]);
    expect(titles(await records(ann, { orderBy: { field: "TITLE", direction: "ASC" } }))[0]).toBe("Ähnlich");
    const closed = await client.run(rename, { id, visibility: "PRIVATE" }, ann);
    expect(closed.data.updateRecord.record).toEqual({ id, title: "Ähnlich", visibility: "PRIVATE" });
    expect(titles(await records(ann, { filter: { text: "ahnlich rec_2" } }))).toEqual(["Ähnlich"]);
    const both = await client.run(rename, { id, title: "Anders", visibility: "PUBLIC" }, ann);
    expect(both.data.updateRecord.record).toEqual({ id, title: "Anders", visibility: "PUBLIC" });
    expect(await client.run(rename, { id }, ann)).toMatchObject({
      status: 400,
      errors: [{ extensions: { code: "BAD_USER_INPUT" } }],
    });
    for (const title of ["", " ", "a\nb", "a\u0000b", "x".repeat(1001)]) {
      expect(await client.run(rename, { id, title }, ann)).toMatchObject({ status: 400, data: null });
    }
    expect(await client.run(rename, { id: uuidv4(), title: "x" }, ann)).toMatchObject({ status: 404, data: null });
    expect(await client.run(rename, { id: "1", title: "x" }, ann)).toMatchObject({ status: 404, data: null });
  });

  it("are deleted with their bytes, one or several at a time", async () => {
    const ann = await seeded(4);
    const uploaded = await client.uploadRecord(ann, sineWav({ seconds: 0.5 }));
    const { id, url } = uploaded.data.uploadRecord.record;
    const link = new URL(url);
    expect((await fetch(`${service.url}${link.pathname}${link.search}`, { method: "HEAD" })).status).toBe(200);
    const remove = "mutation ($id: ID!) { deleteRecord(id: $id) { deletedId } }";
    expect((await client.run(remove, { id: id.toUpperCase() }, ann)).data.deleteRecord).toEqual({ deletedId: id });
    expect(await client.run(remove, { id }, ann)).toMatchObject({ status: 404, data: null });
    expect((await fetch(`${service.url}${link.pathname}${link.search}`, { method: "HEAD" })).status).toBe(404);
    const { pool } = service.server.database;
    expect((await pool.query("select from mp3_chunk where record_id = $1", [id])).rowCount).toBe(0);

    const removeAll = "mutation ($ids: [ID!]!) { deleteRecords(ids: $ids) { deletedIds } }";
    const ids = (await records(ann)).nodes.slice(0, 3).map((record: any) => record.id);
    const { data } = await client.run(removeAll, { ids: [...ids, ids[0], id, "nonsense"] }, ann);
    expect(data.deleteRecords.deletedIds.toSorted()).toEqual(ids.toSorted());
    expect((await records(ann)).totalCount).toBe(1);
    const tooMany = Array.from({ length: 101 }, () => uuidv4());
    expect(await client.run(removeAll, { ids: tooMany }, ann)).toMatchObject({ status: 400, data: null });
  });

  it("are deleted a gigabyte at a time, by their ids or with their user", async () => {
    const { pool } = service.server.database;
    const deletions = async (query: string, variables: object, user: Credentials): Promise<number> => {
      using sent = new SentStatements(pool);
      expect((await client.run(query, variables, user)).status).toBe(200);
      return sent.take().filter((sql) => sql.includes('delete from "audio_record"')).length;
    };
    const ann = await seeded(7);
    await pool.query("update audio_record set size_bytes = 400e6 where owner_id = $1", [ann.id]);
    const ids = (await records(ann)).nodes.map((record: any) => record.id);
    await pool.query("update audio_record set size_bytes = 3e9 where id = $1", [ids[0]]);
    const removeAll = "mutation ($ids: [ID!]!) { deleteRecords(ids: $ids) { deletedIds } }";
    expect(await deletions(removeAll, { ids: ids.slice(1, 6) }, ann)).toBe(3);
    expect((await records(ann)).totalCount).toBe(2);
    expect(await deletions('mutation { deleteUser(confirm: "Ann") { deletedId } }', {}, ann)).toBe(2);
  });
});
