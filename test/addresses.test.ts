import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { text } from "node:stream/consumers";
import { clientAddress, isTrustedProxy } from "../src/addresses/client-address.ts";
import { isAllowedHost } from "../src/addresses/allowed-hosts.ts";
import { readConfig } from "../src/settings/config.ts";
import { ApiClient } from "./support/api-client.ts";
import { startService, type TestService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: any;
}

/** Sends `createUser` with headers that fetch does not allow, such as Host. */
async function createUser(
  url: string,
  headers: Readonly<Record<string, string>>,
  query = "user { id }",
): Promise<Answer> {
  const request = httpRequest(`${url}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
  });
  request.end(JSON.stringify({ query: `mutation { createUser(name: "Ann") { ${query} } }` }));
  return await new Promise((resolve, reject) => {
    request.once("error", reject);
    request.once("response", (response) => {
      text(response).then(
        (body) => resolve({ status: response.statusCode!, headers: response.headers, body: JSON.parse(body) }),
        reject,
      );
    });
  });
}

const statuses = async (url: string, addresses: readonly string[]): Promise<number[]> => {
  const found: number[] = [];
  for (const address of addresses) found.push((await createUser(url, { "x-forwarded-for": address })).status);
  return found;
};

it("is unknown where the connection is closed and has not told it, which is no error", () => {
  const { trustProxy } = readConfig({ TRUST_PROXY: "loopback" });
  expect(clientAddress({ ip: undefined, socket: { remoteAddress: undefined } })).toBe("unknown");
  expect(isTrustedProxy(trustProxy!, undefined)).toBe(false);
});

describe("behind a trusted proxy", () => {
  let service: TestService;

  beforeAll(async () => {
    service = await startService({ TRUST_PROXY: "loopback, 192.0.2.0/24", MAX_NEW_USERS_PER_HOUR: "2" });
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  it.each([
    ["a client whose port the gateway adds", ["203.0.113.7:1", "203.0.113.7:2", "203.0.113.7:3", "203.0.113.7"]],
    ["one with IPv6 and a port", ["[2001:db8:1::7]:1", "[2001:db8:1::7]:2", "2001:db8:1::8", "2001:DB8:1:0::9"]],
    [
      "one that puts addresses of its own in front",
      ["1.1.1.1, 203.0.113.8", "2.2.2.2, 203.0.113.8", "3.3.3.3, 203.0.113.8", "203.0.113.8"],
    ],
    [
      "one behind a second proxy, whose port stands there too",
      ["203.0.113.9, 192.0.2.1:80", "203.0.113.9, 192.0.2.2:81", "203.0.113.9, 192.0.2.3", "203.0.113.9"],
    ],
    ["what is no address: the proxy itself is counted", ["unknown", "a".repeat(1000), "_hidden", "300.1.1.1"]],
  ])("counts %s as one address", async (_what, addresses) => {
    expect(await statuses(service.url, addresses)).toEqual([200, 200, 429, 429]);
  });

  it("counts what one client plays of a link once, also where the gateway adds its port", async () => {
    const client = new ApiClient(service.url, () => ({ "x-forwarded-for": "203.0.113.20" }));
    const ann = await client.createUser("Ann");
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.5 }));
    const recordId = data.uploadRecord.record.id;
    const linkTo = async (): Promise<{ id: string; url: string }> => {
      const query = "mutation ($id: ID!) { createLink(recordId: $id) { link { id url } } }";
      return (await client.run(query, { id: recordId }, ann)).data.createLink.link;
    };
    const [played, last] = [await linkTo(), await linkTo()];
    const play = async ({ url }: { url: string }, port: number): Promise<void> => {
      const { pathname } = new URL(url);
      const headers = { "x-forwarded-for": `203.0.113.21:${port}`, range: "bytes=0-" };
      await (await fetch(service.url + pathname, { headers })).arrayBuffer();
    };
    for (const port of [1, 2, 3]) await play(played, port);
    await play(last, 4);
    const countsOf = async (): Promise<Map<string, number>> => {
      const query = "query ($id: ID!) { record(id: $id) { links { id downloads } } }";
      const { links } = (await client.run(query, { id: recordId }, ann)).data.record;
      return new Map(links.map(({ id, downloads }: { id: string; downloads: number }) => [id, downloads]));
    };
    const counts = await until(countsOf, (all) => all.get(last.id) === 1);
    expect(counts.get(played.id)).toBe(1);
  });
});

it("trusts no X-Forwarded-* headers if no proxy is named, not even from the same machine", async () => {
  await using service = await startService({ MAX_NEW_USERS_PER_HOUR: "2" });
  expect(await statuses(service.url, ["203.0.113.1", "203.0.113.2", "203.0.113.3"])).toEqual([200, 200, 429]);
});

it.each([
  ["1", "1 would trust anybody"],
  ["true", "true would trust anybody"],
  ["nginx", "nginx is none of these"],
  ["10.0.0.0/33", "10.0.0.0/33 is none of these"],
])("refuses TRUST_PROXY=%s and says what to write", (given, why) => {
  expect(() => readConfig({ TRUST_PROXY: given })).toThrow(
    "TRUST_PROXY must be false, or the addresses of the proxies: loopback, linklocal, uniquelocal, 192.0.2.1, " +
      `192.0.2.0/24, separated by commas; ${why}`,
  );
});

describe("ALLOWED_HOSTS", () => {
  it("makes the service answer only under these names, except to probes", async () => {
    await using service = await startService({ ALLOWED_HOSTS: "music.example.com,*.example.org" });
    const answers = await Promise.all(
      [
        "music.example.com",
        "MUSIC.example.com:8080",
        "a.b.example.org",
        "localhost:1",
        "evil.example",
        "example.org",
      ].map(async (host) => await createUser(service.url, { host })),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 421, 421]);
    expect(answers[4]!.body.errors[0]).toMatchObject({
      message:
        "The service does not answer to this host name. Use its public address, or ask its operator to add the name to ALLOWED_HOSTS.",
      extensions: { code: "WRONG_HOST" },
    });
    expect(answers[4]!.headers).toMatchObject({ "x-content-type-options": "nosniff" });
    const probe = httpRequest(`${service.url}/readyz`, { headers: { host: "10.1.2.3:8000" } }).end();
    const status = await new Promise((resolve) => {
      probe.once("response", (response) => resolve(response.resume().statusCode));
    });
    expect(status).toBe(200);
  });

  it("matches whole names, with or without a port", () => {
    const allowed = ["music.example.com", "*.example.org", "[::1]", "other.example:8443"];
    const answer = (host: string): boolean => isAllowedHost(allowed, host);
    expect(
      ["music.example.com.", "music.example.com:1", "x.example.org", "[::1]:8000", "other.example:8443"].map(answer),
    ).toEqual(Array(5).fill(true));
    expect(
      [
        "",
        "evilmusic.example.com",
        "music.example.com.evil",
        "evilexample.org",
        "example.org",
        "other.example",
        "other.example:1",
      ].map(answer),
    ).toEqual(Array(7).fill(false));
  });

  it("is refused if it lists something that is not a name", () => {
    expect(() => readConfig({ ALLOWED_HOSTS: "https://music.example.com" })).toThrow(
      "ALLOWED_HOSTS must list names such as music.example.com or *.example.com, separated by commas",
    );
  });
});
