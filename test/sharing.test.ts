import { afterAll, beforeAll, beforeEach, describe, expect, it } from "@jest/globals";
import { once } from "node:events";
import { Client } from "pg";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { connectRaw } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const linkFields = "id url streamUrl waveformUrl note createdAt expiresAt downloads";
const createLink = `mutation ($recordId: ID!, $expiresAt: DateTime, $note: String) {
  createLink(recordId: $recordId, expiresAt: $expiresAt, note: $note) { link { ${linkFields} } }
}`;
const revokeLink = "mutation ($id: ID!) { revokeLink(id: $id) { revokedId recordId } }";
const setVisibility = `mutation ($id: ID!, $visibility: Visibility!) {
  updateRecord(id: $id, visibility: $visibility) { record { id visibility } }
}`;

describe("sharing", () => {
  let service: TestService;
  let database: Client;
  let client: ApiClient;
  let ann: Credentials;
  let bob: Credentials;
  const wav = sineWav({ seconds: 0.5 });

  beforeAll(async () => {
    service = await startService();
    database = new Client({ connectionString: service.databaseUrl });
    await database.connect();
    client = new ApiClient(service.url);
    [ann, bob] = [await client.createUser("Ann"), await client.createUser("Bob")];
  });

  afterAll(async () => {
    await database.end();
    await service[Symbol.asyncDispose]();
  });

  const upload = async (owner: Credentials, visibility = "PRIVATE") => {
    const { data } = await client.uploadRecord(owner, wav, {
      fields: "id url waveformUrl visibility",
      declarations: ", $visibility: Visibility",
      args: ", visibility: $visibility",
      variables: { visibility },
    });
    return data.uploadRecord.record;
  };
  const linkTo = async (recordId: string, more: object = {}) =>
    (await client.run(createLink, { recordId, ...more }, ann)).data.createLink.link;
  const get = async (url: string, headers: Record<string, string> = {}, method = "GET") => {
    const response = await fetch(url, { headers, method });
    const body = Buffer.from(await response.arrayBuffer());
    return { status: response.status, headers: response.headers, body };
  };
  const statusOf = async (url: string, headers: Record<string, string> = {}) => (await get(url, headers)).status;
  const bearer = ({ token }: Credentials) => ({ authorization: `Bearer ${token}` });
  const linksOf = async (recordId: string, owner = ann) =>
    (await client.run(`query ($id: ID!) { record(id: $id) { links { ${linkFields} } } }`, { id: recordId }, owner)).data
      .record?.links;

  describe("a private recording", () => {
    let record: { id: string; url: string; waveformUrl: string };

    beforeAll(async () => {
      record = await upload(ann);
    });

    it("opens only with its owner's token, and does not exist for others", async () => {
      for (const url of [record.url, record.waveformUrl]) {
        expect(await statusOf(url, bearer(ann))).toBe(200);
        for (const headers of [{}, bearer(bob), { authorization: "Bearer nonsense" }, { authorization: "Basic x" }]) {
          expect(await statusOf(url, headers)).toBe(404);
        }
      }
      const absent = await get(record.url.replace(record.id, uuidv4()));
      const closed = await get(record.url, bearer(bob));
      const messageOf = ({ body }: { body: Buffer }) => JSON.parse(body.toString()).error.message;
      expect(messageOf(closed)).toBe(messageOf(absent));
    });

    it("does not open with other parameters of its owner or with another user's id", async () => {
      const { origin } = new URL(record.url);
      for (const path of [
        `/record?audio_id=${record.id}&user_id=${ann.id}`,
        `/record/${record.id}/take.mp3?user=${ann.id}`,
        `/record?id=${record.id}&user=${bob.id}`,
        `/l/${record.id}`,
        `/l/${record.id.replaceAll("-", "")}`,
      ]) {
        expect(await statusOf(`${origin}${path}`)).toBe(404);
        expect(await statusOf(`${origin}${path}`, bearer(bob))).toBe(404);
      }
    });

    it("is revalidated by every cache", async () => {
      const { headers } = await get(record.url, bearer(ann));
      expect(headers.get("cache-control")).toBe("private, no-cache");
      expect(headers.get("vary")).toContain("Authorization");
    });

    it("may be fetched by a page with a token", async () => {
      const { status, headers } = await get(record.url, {}, "OPTIONS");
      expect(status).toBe(204);
      expect(headers.get("access-control-allow-headers")).toContain("Authorization");
    });
  });

  it("becomes public and private again at once, and only by its owner", async () => {
    const record = await upload(ann);
    const refused = await client.run(setVisibility, { id: record.id, visibility: "PUBLIC" }, bob);
    expect([refused.status, refused.errors![0]!.extensions.code]).toEqual([404, "NOT_FOUND"]);
    expect(await statusOf(record.url)).toBe(404);
    const { data } = await client.run(setVisibility, { id: record.id, visibility: "PUBLIC" }, ann);
    expect(data.updateRecord.record).toEqual({ id: record.id, visibility: "PUBLIC" });
    expect(await statusOf(record.url)).toBe(200);
    expect(await statusOf(record.url, bearer(bob))).toBe(200);
    await client.run(setVisibility, { id: record.id, visibility: "PRIVATE" }, ann);
    expect(await statusOf(record.url)).toBe(404);
  });

  it("starts as the settings say", async () => {
    await using closed = await startService({ DATABASE_URL: service.databaseUrl, VISIBILITY: "PRIVATE" });
    const { data } = await new ApiClient(closed.url).uploadRecord(ann, wav, { fields: "url visibility" });
    expect(data.uploadRecord.record.visibility).toBe("PRIVATE");
    expect((await client.uploadRecord(ann, wav, { fields: "visibility" })).data.uploadRecord.record.visibility).toBe(
      "PUBLIC",
    );
  });

  describe("a link", () => {
    let record: { id: string; url: string };
    let mp3: Buffer;

    beforeAll(async () => {
      record = await upload(ann);
      mp3 = (await get(record.url, bearer(ann))).body;
    });

    it("opens a private recording with all features of the plain link", async () => {
      const link = await linkTo(record.id, { note: "  for the band " });
      expect(link).toMatchObject({ note: "for the band", expiresAt: null, downloads: 0 });
      expect(link.url).toMatch(/\/l\/[\w-]{32}$/);
      for (const url of [link.url, `${link.url}/any name.mp3`]) {
        expect((await get(url)).body.equals(mp3)).toBe(true);
      }
      expect((await get(link.streamUrl)).headers.get("content-disposition")).toMatch(/^inline/);
      const part = await get(link.url, { range: "bytes=100-199" });
      expect([part.status, part.body.equals(mp3.subarray(100, 200))]).toEqual([206, true]);
      expect(await statusOf(link.url, { range: `bytes=${mp3.length}-` })).toBe(416);
      const { headers } = await get(link.url, {}, "HEAD");
      expect(headers.get("content-length")).toBe(String(mp3.length));
      expect(headers.get("cache-control")).toBe("private, no-cache");
      expect(await statusOf(link.url, { "if-none-match": headers.get("etag")! })).toBe(304);
      expect((await get(link.url, {}, "POST")).status).toBe(405);
      expect(JSON.parse((await get(link.waveformUrl)).body.toString())).toMatchObject({ version: 2 });
    });

    it("answers 410 from the moment it expires", async () => {
      const link = await linkTo(record.id, { expiresAt: new Date(Date.now() + 3_600_000).toISOString() });
      expect(await statusOf(link.url)).toBe(200);
      await database.query("update share_link set expires_at = now() where id = $1", [link.id]);
      for (const url of [link.url, `${link.url}/take.mp3`, link.waveformUrl]) {
        const { status, body } = await get(url);
        expect([status, JSON.parse(body.toString()).error.code]).toEqual([410, "GONE"]);
      }
      expect((await linksOf(record.id)).map(({ id }: { id: string }) => id)).toContain(link.id);
    });

    it("is gone when it is revoked, and no other link is", async () => {
      const [first, second] = [await linkTo(record.id), await linkTo(record.id)];
      const { data } = await client.run(revokeLink, { id: first.id }, ann);
      expect(data.revokeLink).toEqual({ revokedId: first.id, recordId: record.id });
      expect([await statusOf(first.url), await statusOf(second.url)]).toEqual([404, 200]);
      expect((await client.run(revokeLink, { id: first.id }, ann)).errors![0]!.extensions.code).toBe("NOT_FOUND");
    });

    it("is deleted with its recording", async () => {
      const other = await upload(ann);
      const link = await linkTo(other.id);
      await database.query("delete from audio_record where id = $1", [other.id]);
      expect(await statusOf(link.url)).toBe(404);
    });

    it("is created, seen and revoked by the owner only", async () => {
      const link = await linkTo(record.id);
      for (const [query, variables] of [
        [createLink, { recordId: record.id }],
        [createLink, { recordId: uuidv4() }],
        [createLink, { recordId: link.id }],
        [revokeLink, { id: link.id }],
        [revokeLink, { id: record.id }],
        [revokeLink, { id: "nonsense" }],
      ] as const) {
        const { status, data, errors } = await client.run(query, variables, bob);
        expect([status, data, errors![0]!.extensions.code]).toEqual([404, null, "NOT_FOUND"]);
        expect((await client.run(query, variables)).status).toBe(401);
      }
      expect(await linksOf(record.id, bob)).toBeUndefined();
      for (const id of [record.id, link.id]) {
        expect((await client.run("query ($id: ID!) { node(id: $id) { id } }", { id }, bob)).data.node).toBeNull();
      }
      expect(await statusOf(link.url)).toBe(200);
    });

    it("cannot be derived from anything else that is known about it", async () => {
      const [link, other] = [await linkTo(record.id), await linkTo(record.id)];
      const { origin } = new URL(link.url);
      const secret = link.url.slice(-32);
      expect(secret.slice(0, 8)).not.toBe(other.url.slice(-32).slice(0, 8));
      for (const path of [
        `/l/${link.id}`,
        `/l/${secret.slice(0, 31)}`,
        `/l/${secret}x`,
        `/l/${secret.toLowerCase()}`,
        `/l/%25`,
        `/record?id=${link.id}&user=${ann.id}`,
        `/record/${secret}/take.mp3?user=${ann.id}`,
      ]) {
        expect([path, (await statusOf(`${origin}${path}`)) >= 400]).toEqual([path, true]);
      }
    });

    it.each([
      ["a time that has passed", { expiresAt: "2020-01-01T00:00:00Z" }],
      ["a note that is too long", { note: "x".repeat(201) }],
      ["a note with control characters", { note: "a\u0000b" }],
    ])("is refused with %s", async (_what, more) => {
      const { status, errors } = await client.run(createLink, { recordId: record.id, ...more }, ann);
      expect([status, errors![0]!.extensions.code]).toEqual([400, "BAD_USER_INPUT"]);
    });

    it("is one of at most 100", async () => {
      const other = await upload(ann);
      await database.query(
        "insert into share_link (record_id, secret) select $1, gen_random_uuid()::text from generate_series(1, 99)",
        [other.id],
      );
      await linkTo(other.id);
      const { errors } = await client.run(createLink, { recordId: other.id }, ann);
      expect(errors![0]!.extensions).toMatchObject({ code: "BAD_USER_INPUT", maxLinks: 100 });
      expect(await linksOf(other.id)).toHaveLength(100);
    });
  });

  describe("the number of downloads", () => {
    let link: { id: string; url: string; waveformUrl: string };
    let recordId: string;

    beforeEach(async () => {
      recordId = (await upload(ann)).id;
      link = await linkTo(recordId);
    });

    /** Waits until this many downloads are counted, because counting ends after the response. */
    const downloadsWhen = async (least: number): Promise<number> => {
      for (;;) {
        const [{ downloads }] = await linksOf(recordId);
        if (downloads >= least) return downloads;
      }
    };

    const firefox = { "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0" };

    it("counts what starts at the first byte, and nothing else", async () => {
      const { headers } = await get(link.url);
      await get(link.url, { range: "bytes=0-1", "user-agent": "other" });
      await get(link.url, { range: "bytes=1000-" });
      await get(link.url, { range: "bytes=1000-", "user-agent": "another" });
      await get(link.url, { range: "bytes=99999999-" });
      await get(link.url, { "if-none-match": headers.get("etag")! });
      await get(link.url, {}, "HEAD");
      await get(link.waveformUrl);
      await get(`${link.url}/take.mp3`);
      await get(link.url, { range: "bytes=0-", ...firefox });
      expect(await downloadsWhen(3)).toBe(3);
    });

    it("counts a person who comes after a robot, a preview or a prefetch", async () => {
      const comers: Record<string, string>[] = [
        { "user-agent": "TelegramBot (like TwitterBot)" },
        { "user-agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)" },
        { "user-agent": "WhatsApp/2.23.20.0" },
        {
          "user-agent":
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 " +
            "Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0",
        },
        { "sec-purpose": "prefetch" },
        { "sec-purpose": "prefetch;prerender" },
        { purpose: "prefetch" },
        { "x-moz": "prefetch" },
        { "x-purpose": "preview" },
      ];
      const links = new Map<string, Record<string, string>>();
      for (const headers of comers) {
        const { id, url } = await linkTo(recordId);
        links.set(id, headers);
        expect(await statusOf(url, { ...firefox, ...headers })).toBe(200);
        expect(await statusOf(url, { range: "bytes=0-", ...headers })).toBe(206);
        expect(await statusOf(url, firefox)).toBe(200);
      }
      await get(link.url);
      const counts = await until<{ id: string; downloads: number }[]>(
        async () => await linksOf(recordId),
        (all) => all.reduce((sum, { downloads }) => sum + downloads, 0) > comers.length,
      );
      expect(counts.map(({ id, downloads }) => [links.get(id), downloads])).toEqual(
        expect.arrayContaining([...comers, undefined].map((headers) => [headers, 1])),
      );
    });

    it("counts all ranges of one player as one download, and each player separately", async () => {
      for (const player of ["AppleCoreMedia/1.0.0.21E236 (iPhone; U)", "VLC/3.0.20 LibVLC/3.0.20"]) {
        for (const range of ["bytes=0-1", "bytes=0-", "bytes=500-", "bytes=0-999", "bytes=1000-1999", "bytes=0-"]) {
          await get(link.url, { range, "user-agent": player });
        }
      }
      expect(await downloadsWhen(2)).toBe(2);
    });

    it("counts a download that was cut off and restarted once", async () => {
      const long = (await client.uploadRecord(ann, sineWav({ seconds: 200, channels: 1, sampleRateHz: 22_050 }))).data;
      recordId = long.uploadRecord.record.id;
      const { url } = await linkTo(recordId);
      const { port, pathname } = new URL(url);
      for (let attempt = 0; attempt < 2; attempt += 1) {
        using connection = await connectRaw(Number(port));
        connection.socket.pause();
        await connection.send(`GET ${pathname} HTTP/1.1\r\nHost: a\r\nUser-Agent: ${firefox["user-agent"]}\r\n\r\n`);
        await once(connection.socket.resume(), "data");
        connection.reset();
        await once(connection.socket, "close");
      }
      expect(await statusOf(url, firefox)).toBe(200);
      expect(await statusOf(url, { "user-agent": "other" })).toBe(200);
      expect(await downloadsWhen(2)).toBe(2);
    });

    it("misses none of many at once", async () => {
      await Promise.all(Array.from({ length: 40 }, async () => await get(link.url)));
      expect(await downloadsWhen(40)).toBe(40);
    });
  });
});
