import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { needs } from "./support/needs.ts";
import { startDatabaseProxy } from "./support/database-proxy.ts";
import { exchange } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

const chrome =
  "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7";

interface Sent {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

describe("a person who opens an address", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let id: string;
  let hiddenId: string;
  let expired: string;
  let revoked: string;

  beforeAll(async () => {
    service = await startService({ NODE_ENV: "production", WEB_PAGE: "false" });
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
    const wav = sineWav({ seconds: 0.2 });
    ({ id } = (await client.uploadRecord(ann, wav)).data.uploadRecord.record);
    const hidden = await client.uploadRecord(ann, wav, { args: ", visibility: PRIVATE" });
    hiddenId = hidden.data.uploadRecord.record.id;
    const createLink = async (): Promise<{ id: string; path: string }> => {
      const answer = await client.run(`mutation { createLink(recordId: "${id}") { link { id url } } }`, {}, ann);
      const { link } = answer.data.createLink;
      return { id: link.id, path: new URL(link.url).pathname };
    };
    const [toExpire, toRevoke] = [await createLink(), await createLink()];
    expired = toExpire.path;
    revoked = toRevoke.path;
    await service.server.database.pool.query(
      "update share_link set created_at = now() - interval '2 days', expires_at = now() - interval '1 day' where id = $1",
      [toExpire.id],
    );
    await client.run(`mutation { revokeLink(id: "${toRevoke.id}") { revokedId } }`, {}, ann);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const open = async (path: string, { method = "GET", headers = {}, body }: Sent = {}): Promise<Response> =>
    await fetch(service.url + path, {
      method,
      redirect: "manual",
      headers: { accept: chrome, ...headers },
      ...(body !== undefined && { body }),
    });

  const addresses = (): [path: string, status: number, sentence: string][] => [
    [`/record?id=${uuidv4()}&user=${ann.id}`, 404, "Recording not found."],
    [`/record?id=${hiddenId}&user=${ann.id}`, 404, "Recording not found."],
    [`/record?id=${hiddenId}&user=${ann.id}&inline=1`, 404, "Recording not found."],
    [`/record/${hiddenId}/take.mp3?user=${ann.id}`, 404, "Recording not found."],
    [`/record/${hiddenId}/waveform.json?user=${ann.id}`, 404, "Recording not found."],
    [`/record?id=${id}`, 400, "This link is incomplete, or it was changed."],
    ["/record", 400, "This link is incomplete, or it was changed."],
    ["/record/", 400, "This link is incomplete, or it was changed."],
    [expired, 410, "This link has expired."],
    [`${expired}/take.mp3`, 410, "This link has expired."],
    [revoked, 404, "Recording not found."],
    ["/l/short", 404, "Recording not found."],
    ["/l", 404, "Nothing exists at this address."],
    ["/nothing/here", 404, "Nothing exists at this address."],
    ["/%zz", 400, "The address is not valid."],
    ["/record/%c3%28", 400, "The address is not valid."],
    ["/", 200, "Links that play recordings"],
    ["/graphql", 200, "This address is for programs"],
    ["/graphql/", 200, "This address is for programs"],
    ["//graphql", 200, "This address is for programs"],
    ["/graphql?query=%7B__typename%7D", 200, "This address is for programs"],
  ];

  it("gets a sentence in HTML, with the right status, and the same head for HEAD", async () => {
    // Compressed, two pages with different request ids have different lengths.
    const headers = { "accept-encoding": "identity" };
    for (const [path, status, sentence] of addresses()) {
      const response = await open(path, { headers });
      const html = await response.text();
      expect([path, response.status]).toEqual([path, status]);
      expect([path, html]).toEqual([path, expect.stringContaining(`<h1>${sentence}`)]);
      expect(html).toMatch(/^<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" /);
      expect(html).not.toMatch(/<script|[\s<]on\w+=/);
      expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
      expect(response.headers.get("vary")).toContain("Accept");
      expect(response.headers.get("x-robots-tag")).toBe("noindex");
      expect(response.headers.get("x-content-type-options")).toBe("nosniff");
      expect(response.headers.get("content-security-policy")).toMatch(
        /^default-src 'none';style-src 'sha256-[^']+';base-uri 'none';form-action 'none'/,
      );
      const head = await open(path, { method: "HEAD", headers });
      expect([path, head.status, stableHeaders(head)]).toEqual([path, status, stableHeaders(response)]);
    }
  });

  it("reads first what a person can do about a bad link, and in small print what is wrong with it", async () => {
    const html = await (await open(`/listen?id=${id}`)).text();
    expect(html.split("<main>\n")[1]).toMatch(
      /^<h1>This link is incomplete, or it was changed\.<\/h1>\n<p>Copy the whole link [^<]*<\/p>\n<p><small>The link needs the user&#39;s id, a number: user=&lt;user&gt;\. 400 BAD_USER_INPUT, request [^<]*<\/small><\/p>\n<\/main>\n$/,
    );
  });

  it("gets JSON if it is a program, whatever the address and the form of the request", async () => {
    const accepts = [
      "*/*",
      "application/json",
      "application/json, text/plain, */*",
      "application/json, text/html",
      "text/html;q=0, */*",
      "text/html;q=0.8, application/json",
      "audio/webm,audio/ogg,audio/wav,audio/*;q=0.9,application/ogg;q=0.7,video/*;q=0.6,*/*;q=0.5",
      "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", // Java's HttpURLConnection
      "",
      "nonsense",
    ];
    for (const [path, status] of addresses().filter(([, status]) => status !== 200)) {
      for (const accept of accepts) {
        const response = await open(path, { headers: { accept } });
        expect([path, accept, response.status]).toEqual([path, accept, status]);
        expect(response.headers.get("vary")).toContain("Accept");
        expect((await response.json()).error.message).toEqual(expect.any(String));
      }
    }
    const { port } = new URL(service.url);
    const withoutAccept = await exchange(Number(port), Buffer.from("GET /record HTTP/1.1\r\nHost: a\r\n\r\n"));
    expect(JSON.parse(withoutAccept!.body).error.code).toBe("BAD_USER_INPUT");
  });

  it.each(["text/html", "text/*", "text/html, application/json", "text/html;q=0.9, application/json;q=0.8"])(
    "gets HTML for Accept: %s",
    async (accept) => {
      const response = await open("/record", { headers: { accept } });
      expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    },
  );

  it("is told in HTML that a method is not supported, by the service or by the address", async () => {
    for (const [path, method, allow] of [
      [`/record?id=${id}&user=${ann.id}`, "POST", "GET, HEAD, OPTIONS"],
      [revoked, "DELETE", "GET, HEAD, OPTIONS"],
      ["/", "POST", "GET, HEAD"],
      ["/healthz", "PUT", "GET, HEAD"],
    ]) {
      const response = await open(path!, { method: method! });
      expect([path, response.status, response.headers.get("allow")]).toEqual([path, 405, allow]);
      expect(await response.text()).toContain("405 METHOD_NOT_ALLOWED");
      const program = await open(path!, { method: method!, headers: { accept: "*/*" } });
      expect((await program.json()).error.code).toBe("METHOD_NOT_ALLOWED");
    }
  });

  it("sees the page also where a page of another origin embeds the link, and no other page there", async () => {
    const link = (await open(expired)).headers;
    expect(link.get("x-frame-options")).toBeNull();
    expect(link.get("cross-origin-embedder-policy")).toBe("require-corp");
    expect(link.get("content-security-policy")).not.toContain("frame-ancestors");
    const other = (await open("/")).headers;
    expect(other.get("x-frame-options")).toBe("SAMEORIGIN");
    expect(other.get("content-security-policy")).toContain("frame-ancestors 'none'");
  });

  needs("Chromium", () => {
    it("reads it in a browser, with its style and without browser errors", async () => {
      const browser = await openBrowser();
      try {
        const page = await browser.newPage();
        const complaints: string[] = [];
        page.on("console", (message) => complaints.push(message.text()));
        const response = await page.goto(service.url + expired);
        expect(response!.status()).toBe(410);
        expect(await page.textContent("h1")).toBe("This link has expired.");
        expect(await page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth")).not.toBe("none");
        expect(complaints.filter((text) => !/status of (410|404)/.test(text))).toEqual([]);
      } finally {
        await browser.close();
      }
    });
  });

  it("comes to Sandbox from the start page where Sandbox is on, and a program to the addresses", async () => {
    await using development = await startService({ DATABASE_URL: service.databaseUrl, WEB_PAGE: "false" });
    const response = await fetch(development.url, { redirect: "manual", headers: { accept: chrome } });
    expect([response.status, response.headers.get("location")]).toEqual([302, "/graphql"]);
    for (const { url } of [development, service]) {
      const answer = await fetch(url, { headers: { accept: "*/*" } });
      expect([answer.status, await answer.json()]).toEqual([
        200,
        { service: "web-user-music", graphql: "/graphql", schema: "/schema.graphql" },
      ]);
    }
    for (const path of ["/graphql", "/graphql/"]) {
      const sandbox = await fetch(development.url + path, { headers: { accept: chrome } });
      expect(await sandbox.text()).toContain("apollo-require-preflight");
    }
    const named = await startService({ DATABASE_URL: service.databaseUrl, PUBLIC_URL: "https://a.example/music/" });
    await using _named = named;
    const answer = await fetch(named.url, { headers: { accept: "*/*" } });
    expect((await answer.json()).graphql).toBe("https://a.example/music/graphql");
  });

  it("gets the recording for a link with slashes, junk or capitals that do not matter", async () => {
    const link = `/record?id=${id}&user=${ann.id}`;
    for (const path of [
      `/record/?id=${id}&user=${ann.id}`,
      `//record?id=${id}&user=${ann.id}`,
      `/record?id=${id}&amp;user=${ann.id}`,
      `${link}.`,
      `${link})`,
      `/record/${id}?user=${ann.id}`,
      `/record/${id}/?user=${ann.id}`,
      `/record/${id}/take.mp3/?user=${ann.id})`,
      `http://music.example.com${link}`, // in the form of a request to a proxy
    ]) {
      expect([path, await headOf(service.url, path)]).toEqual([path, "200 audio/mpeg"]);
    }
    const shared = await client.run(`mutation { createLink(recordId: "${id}") { link { url } } }`, {}, ann);
    const { pathname } = new URL(shared.data.createLink.link.url);
    for (const junk of ["/", ".", "%20", ")", "%3E", "%E2%80%8B", "&fbclid=1", "?utm_source=x", ".mp3", "/take.mp3."]) {
      const response = await open(pathname + junk, { method: "HEAD" });
      expect([junk, response.status]).toEqual([junk, 200]);
    }
  });

  it("is redirected from a mistyped address to the one that is meant", async () => {
    const search = `?id=${id}&user=${ann.id}`;
    for (const [path, location] of [
      [`/Record${search}`, `record${search}`],
      ["/GraphQL", "graphql"],
      ["/graphql.", "graphql"],
      ["/graphql)", "graphql"],
      ["/graphql%20", "graphql"],
      [`/record%3Fid=${id}&user=${ann.id}`, `record${search}`],
      ["/schema.graphql,", "schema.graphql"],
    ]) {
      const response = await open(path!);
      expect([path, response.status, response.headers.get("location")]).toEqual([path, 308, location]);
      expect((await open(`/${location}`)).status).toBe(200);
    }
    for (const path of ["/graph", "/nothing.", "/l.", "/..", "/%2F", "/record.txt"]) {
      expect([path, (await open(path)).status]).toEqual([path, path === "/.." ? 200 : 404]);
    }
  });

  it("can send GraphQL to an address with extra slashes", async () => {
    for (const path of ["/graphql/", "//graphql"]) {
      const response = await open(path, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "*/*" },
        body: JSON.stringify({ query: "{ __typename }" }),
      });
      expect(await response.json()).toEqual({ data: { __typename: "Query" } });
      const multipart = await new ApiClient(service.url + path.replace("graphql", "").replace("//", "/")).uploadRecord(
        ann,
        sineWav({ seconds: 0.1 }),
      );
      expect([path, multipart.status]).toEqual([path, 200]);
    }
  });

  it("is told in HTML when to come back, while the database is away", async () => {
    await using proxy = await startDatabaseProxy(service.databaseUrl);
    await using away = await startService({ DATABASE_URL: proxy.url });
    proxy.cut();
    const response = await fetch(`${away.url}/record?id=${id}&user=${ann.id}`, { headers: { accept: chrome } });
    expect([response.status, response.headers.get("retry-after")]).toEqual([503, "5"]);
    expect(await response.text()).toContain("<h1>The database cannot be reached; try again in 5 seconds.</h1>");
  });
});

function stableHeaders({ headers }: Response): Record<string, string> {
  const changing = ["date", "x-request-id", "connection", "keep-alive", "transfer-encoding"];
  return Object.fromEntries([...headers].filter(([name]) => !changing.includes(name)));
}

/** The status and content type of the response to a HEAD request for this target, which is sent unchanged. */
async function headOf(url: string, path: string): Promise<string> {
  const request = httpRequest(url, { method: "HEAD", path }).end();
  const [response] = (await once(request, "response")) as [IncomingMessage];
  return `${response.statusCode} ${response.headers["content-type"]}`;
}
