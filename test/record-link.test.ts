import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { request as httpRequest } from "node:http";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Credentials } from "./support/api-client.ts";
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

  it("opens in the ancestor's spelling and with an ending", async () => {
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

  it("answers the same for a record that is absent and one that is somebody else's", async () => {
    const bob = await client.createUser("Bob");
    const answers = await Promise.all(
      [`/record?id=${uuidv4()}&user=${ann.id}`, `/record?id=${id}&user=${bob.id}`, `/record?id=${id}&user=999999`].map(
        async (path) => {
          const response = await get(path);
          return { status: response.status, body: await response.json() };
        },
      ),
    );
    const error = { code: "NOT_FOUND", message: "There is no such recording.", requestId: expect.any(String) };
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

  it("has a validator that does not tell the record's id", async () => {
    const response = await get(`/record?id=${id}&user=${ann.id}`, { method: "HEAD" });
    expect(response.headers.get("etag")).toMatch(/^"[\w-]{27}"$/);
    expect(response.headers.get("etag")).not.toContain(id.slice(0, 8));
  });

  it("refuses other methods before it looks at what they send", async () => {
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

  it("takes a long name as decoration", async () => {
    const response = await get(`/record/${id}/${encodeURIComponent("ä".repeat(100))}.mp3?user=${ann.id}`);
    expect(response.status).toBe(200);
    await response.arrayBuffer();
  });

  it("names the download after the upload, and plays it in the page if asked to", async () => {
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

  it("takes its origin from PUBLIC_URL if that is set", async () => {
    await using behindProxy = await startService({
      DATABASE_URL: service.databaseUrl,
      PUBLIC_URL: "https://music.example.com/app",
    });
    const { data } = await new ApiClient(behindProxy.url).run(`{ record(id: "${id}") { url } }`, {}, ann);
    expect(data.record.url).toBe(`https://music.example.com/app/record?id=${id}&user=${ann.id}`);
  });

  it("answers in JSON where there is nothing", async () => {
    const response = await get("/nothing/here");
    expect(response.status).toBe(404);
    expect(await response.json()).toEqual({
      error: {
        code: "NOT_FOUND",
        message: "There is nothing at this address.",
        requestId: response.headers.get("x-request-id"),
      },
    });
  });
});
