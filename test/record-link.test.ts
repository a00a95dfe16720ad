import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { request as httpRequest } from "node:http";
import { parse } from "content-disposition";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { connectRaw } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

describe("the link", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let id: string;

  beforeAll(async () => {
    service = await startService({ TRUST_PROXY: "loopback" });
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.5 }), { fileName: "Ärger “1”.wav" });
    id = data.uploadRecord.record.id;
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const get = async (path: string, init?: RequestInit) => await fetch(`${service.url}${path}`, init);

  it("opens with the older parameter names and with a file extension", async () => {
    for (const path of [
      `/record?id=${id}&user=${ann.id}`,
      `/record?audio_id=${id}&user_id=${ann.id}`,
      `/record?id=${id.toUpperCase()}&user=${ann.id}`,
      `/record/${id}/anything.mp3?user=${ann.id}`,
    ]) {
      const response = await get(path);
      expect([path, response.status]).toEqual([path, 200]);
      expect(
        Buffer.from(await response.arrayBuffer())
          .subarray(0, 3)
          .toString(),
      ).toBe("ID3");
    }
  });

  it("answers the same for a recording that does not exist and one of another user", async () => {
    const bob = await client.createUser("Bob");
    const answers = await Promise.all(
      [`/record?id=${uuidv4()}&user=${ann.id}`, `/record?id=${id}&user=${bob.id}`, `/record?id=${id}&user=999999`].map(
        async (path) => {
          const response = await get(path);
          return { status: response.status, body: await response.json() };
        },
      ),
    );
    const error = { code: "NOT_FOUND", message: "Recording not found.", requestId: expect.any(String) };
    const absent = { status: 404, body: { error } };
    expect(answers).toEqual([absent, absent, absent]);
  });

  it.each(["", "?id=1&user=1", "?user=1", `?id=${uuidv4()}`, `?id=${uuidv4()}&user=x`, `?id=${uuidv4()}&user=-1`])(
    "answers 400 to /record%s",
    async (search) => {
      const response = await get(`/record${search}`);
      expect(response.status).toBe(400);
      expect((await response.json()).error.code).toBe("BAD_USER_INPUT");
    },
  );

  it("has the same headers for HEAD as for GET", async () => {
    const path = `/record?id=${id}&user=${ann.id}`;
    const [got, head] = [await get(path), await get(path, { method: "HEAD" })];
    await got.arrayBuffer();
    const stable = ({ headers }: Response) =>
      Object.fromEntries(
        [...headers].filter(([name]) => !["date", "x-request-id", "connection", "keep-alive"].includes(name)),
      );
    expect(stable(head)).toEqual(stable(got));
    expect(head.status).toBe(200);
  });

  it("sends ranges, conditions and refusals of other methods", async () => {
    const path = `/record?id=${id}&user=${ann.id}`;
    const whole = await get(path);
    const mp3 = Buffer.from(await whole.arrayBuffer());
    const range = await get(path, { headers: { range: "bytes=100-199" } });
    expect(range.status).toBe(206);
    expect(range.headers.get("content-range")).toBe(`bytes 100-199/${mp3.length}`);
    expect(Buffer.from(await range.arrayBuffer()).equals(mp3.subarray(100, 200))).toBe(true);
    const beyond = await get(path, { headers: { range: `bytes=${mp3.length}-` } });
    expect(beyond.status).toBe(416);
    expect(beyond.headers.get("content-range")).toBe(`bytes */${mp3.length}`);
    expect((await beyond.json()).error.code).toBe("RANGE_NOT_SATISFIABLE");
    const unchanged = await get(path, { headers: { "if-none-match": whole.headers.get("etag")! } });
    expect(unchanged.status).toBe(304);
    const posted = await get(path, { method: "POST" });
    expect(posted.status).toBe(405);
    expect(posted.headers.get("allow")).toBe("GET, HEAD, OPTIONS");
    expect((await posted.json()).error.code).toBe("METHOD_NOT_ALLOWED");
  });

  it("has a validator that does not reveal the recording's id", async () => {
    const response = await get(`/record?id=${id}&user=${ann.id}`, { method: "HEAD" });
    expect(response.headers.get("etag")).toMatch(/^"[\w-]{27}"$/);
    expect(response.headers.get("etag")).not.toContain(id.slice(0, 8));
  });

  it("refuses other methods before it reads their bodies", async () => {
    for (const type of ["application/json", "audio/wav"]) {
      const response = await get(`/record?id=${id}&user=${ann.id}`, {
        method: "PUT",
        headers: { "content-type": type },
        body: "{",
      });
      expect(response.status).toBe(405);
      expect(response.headers.get("allow")).toBe("GET, HEAD, OPTIONS");
    }
  });

  it("tells pages of other origins why it refuses", async () => {
    const response = await get(`/record?id=${uuidv4()}&user=${ann.id}`);
    expect(response.status).toBe(404);
    expect(response.headers.get("access-control-allow-origin")).toBe("*");
    expect(response.headers.get("cross-origin-resource-policy")).toBe("cross-origin");
  });

  it("ignores a long name", async () => {
    const response = await get(`/record/${id}/${encodeURIComponent("ä".repeat(100))}.mp3?user=${ann.id}`);
    expect(response.status).toBe(200);
    await response.arrayBuffer();
  });

  it("names the download after its title in every form of the link, also when that changes", async () => {
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.2 }), {
      fileName: "ZOOM0007.WAV",
      fields: "id url streamUrl",
      declarations: ", $title: String",
      args: ", title: $title",
      variables: { title: "Final mix" },
    });
    const record = data.uploadRecord.record;
    const createLink = "mutation ($id: ID!) { createLink(recordId: $id) { link { url } } }";
    const shared = (await client.run(createLink, { id: record.id }, ann)).data.createLink.link.url;
    const urls = [
      record.url,
      record.streamUrl,
      `${service.url}/record?audio_id=${record.id}&user_id=${ann.id}`,
      `${service.url}/record/${record.id}/any.mp3?user=${ann.id}`,
      shared,
      `${shared}?inline=1`,
      `${shared}/any.mp3`,
    ];
    const namesOf = async (headers: Record<string, string> = {}) => {
      const names = new Set<string>();
      for (const url of urls) {
        for (const method of ["GET", "HEAD"]) {
          const answer = await fetch(url, { method, headers });
          await answer.arrayBuffer();
          names.add(parse(answer.headers.get("content-disposition")!).parameters["filename"]!);
        }
      }
      return [...names];
    };
    expect(await namesOf()).toEqual(["Final mix.mp3"]);
    const etag = (await get(`/record?id=${record.id}&user=${ann.id}`, { method: "HEAD" })).headers.get("etag")!;
    const rename = "mutation ($id: ID!, $title: String) { updateRecord(id: $id, title: $title) { record { id } } }";
    await client.run(rename, { id: record.id, title: "Dr. Who – “Łódź”" }, ann);
    for (const headers of [{}, { range: "bytes=0-1" }, { "if-none-match": etag }]) {
      expect(await namesOf(headers as Record<string, string>)).toEqual(["Dr. Who – “Łódź”.mp3"]);
    }
    await client.run(rename, { id: record.id, title: "???" }, ann);
    expect(await namesOf()).toEqual(["ZOOM0007.mp3"]);
  });

  it.each([
    ["Final mix", "Final%20mix.mp3"],
    ["AC/DC: live?", "AC-DC-%20live-.mp3"],
    ["../../etc/passwd", "etc-passwd.mp3"],
    ["100% #1; a&b+c=d", "100_%20_1_%20a%26b%2Bc%3Dd.mp3"],
    ["%2e%2e%2f", "_2e_2e_2f.mp3"],
    ["It's (all) here!*", "It%27s%20%28all%29%20here%21-.mp3"],
    ["Dr. Who", "Dr.%20Who.mp3"],
    ["take.wav", "take.mp3"],
    ["waveform.json", "waveform.json.mp3"],
    ["Lied für 王 😀", "Lied%20f%C3%BCr%20%E7%8E%8B%20%F0%9F%98%80.mp3"],
    ["x".repeat(1000), `${"x".repeat(200)}.mp3`],
    ["王".repeat(1000), `${"%E7%8E%8B".repeat(66)}.mp3`],
    ["???", "take.mp3"],
  ])("has a form that ends as a file does for %p", async (title, name) => {
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.2 }), {
      fields: "id mp3Url",
      declarations: ", $title: String",
      args: ", title: $title",
      variables: { title },
    });
    const record = data.uploadRecord.record;
    const createLink = "mutation ($id: ID!) { createLink(recordId: $id) { link { id url mp3Url } } }";
    const { link } = (await client.run(createLink, { id: record.id }, ann)).data.createLink;
    expect(record.mp3Url).toBe(`${new URL(link.url).origin}/record/${record.id}/${name}?user=${ann.id}`);
    expect(link.mp3Url).toBe(`${link.url}/${name}`);
    const linksOf = "query ($id: ID!) { record(id: $id) { links { id url mp3Url } } }";
    expect((await client.run(linksOf, { id: record.id }, ann)).data.record.links).toEqual([link]);

    for (const url of [record.mp3Url, link.mp3Url]) {
      const answer = await fetch(url);
      expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "audio/mpeg"]);
      expect(parse(answer.headers.get("content-disposition")!).type).toBe("attachment");
      await answer.arrayBuffer();
      // As proxies pass it on that decode and escape it again, escape it twice, or escape only what they must.
      const { pathname, search, port } = new URL(url);
      const decoded = decodeURIComponent(pathname);
      for (const path of [encodeURI(decoded), encodeURI(pathname), decoded.replace(/[^!-~]+/g, encodeURI)]) {
        using connection = await connectRaw(Number(port));
        void connection.send(`GET ${path}${search} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-0\r\n\r\n`);
        expect([path, (await connection.answer())?.status]).toEqual([path, 206]);
      }
    }
  });

  it("may be cached without end for playing, and is revalidated for downloads", async () => {
    const path = `/record?id=${id}&user=${ann.id}`;
    const cacheControl = async (path: string) => (await get(path, { method: "HEAD" })).headers.get("cache-control");
    expect(await cacheControl(`${path}&inline=1`)).toBe("private, max-age=31536000, immutable");
    expect(await cacheControl(path)).toBe("private, no-cache");
    await using behindCdn = await startService({
      DATABASE_URL: service.databaseUrl,
      RECORD_CACHE_CONTROL: "public, max-age=60",
    });
    const { headers } = await fetch(behindCdn.url + path, { method: "HEAD" });
    expect(headers.get("cache-control")).toBe("public, no-cache");
  });

  it("names the download after the upload, and plays it in the page if requested", async () => {
    const saved = await get(`/record?id=${id}&user=${ann.id}`);
    expect(saved.headers.get("content-disposition")).toMatch(
      /^attachment; filename=.*\.mp3.*; filename\*=UTF-8''%C3%84rger/,
    );
    const played = await get(`/record?id=${id}&user=${ann.id}&inline=1`);
    expect(played.headers.get("content-disposition")).toMatch(/^inline; /);
    await Promise.all([saved.arrayBuffer(), played.arrayBuffer()]);
  });

  it("has the origin that the client sees, through a trusted proxy too", async () => {
    const urlFor = async (headers: Record<string, string>): Promise<string> => {
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      const request = httpRequest(`${service.url}/graphql`, { method: "POST", headers }, (response) => {
        let body = "";
        response.setEncoding("utf8");
        response.on("data", (text: string) => (body += text));
        response.on("end", () => resolve(JSON.parse(body).data.record.url));
      });
      request.on("error", reject);
      request.end(JSON.stringify({ query: `{ record(id: "${id}") { url } }` }));
      return await promise;
    };
    const headers = { "content-type": "application/json", authorization: `Bearer ${ann.token}` };
    const link = `/record?id=${id}&user=${ann.id}`;
    expect(await urlFor({ ...headers, host: "music.example.com:8080" })).toBe(`http://music.example.com:8080${link}`);
    expect(
      await urlFor({
        ...headers,
        host: "inside",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "music.example.com",
      }),
    ).toBe(`https://music.example.com${link}`);
    expect(await urlFor({ ...headers, host: "inside", "x-forwarded-proto": "foo" })).toBe(`${service.url}${link}`);
    expect(await urlFor({ ...headers, host: "evil.example/path?" })).toBe(`${service.url}${link}`);
  });

  it("uses PUBLIC_URL as its origin if that is set", async () => {
    await using behindProxy = await startService({
      DATABASE_URL: service.databaseUrl,
      PUBLIC_URL: "https://music.example.com/app",
    });
    const { data } = await new ApiClient(behindProxy.url).run(`{ record(id: "${id}") { url } }`, {}, ann);
    expect(data.record.url).toBe(`https://music.example.com/app/record?id=${id}&user=${ann.id}`);
  });

  it("answers in JSON if nothing exists at the address", async () => {
    const response = await get("/nothing/here");
    expect(response.status).toBe(404);
    expect(await response.json()).toEqual({
      error: {
        code: "NOT_FOUND",
        message: "Nothing exists at this address. The API is at /graphql, and its schema at /schema.graphql.",
        requestId: response.headers.get("x-request-id"),
      },
    });
  });
});
