import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { getIntrospectionQuery } from "graphql";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { fillLibrary } from "./support/seed-records.ts";
import { startServiceProcess, type ServiceProcess } from "./support/service-process.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";

/** For how long one request may hold the event loop, in CPU time. */
const maxHoldMs = 50;

const repeat = (times: number, make: (i: number) => string): string =>
  Array.from({ length: times }, (_, i) => make(i)).join(" ");
const page = (fields: string): string => `{ me { records(first: 100) { nodes { ${fields} } } } }`;

const everything = `id title fileName createdAt visibility owner { id name } durationSeconds sizeBytes bitrateKbps
  sampleRateHz channels source { codec bitsPerSample sampleRateHz channels sizeBytes sha256 } sourceSha256
  tags { name value } loudness { integratedLufs samplePeakDbfs } warnings url streamUrl mp3Url waveformUrl peaks`;
const links = "links { id note createdAt expiresAt downloads url streamUrl waveformUrl }";

/** What introspection gives at most: without aliases, two lists of fields inside each other. */
const typeFacts = "kind name description enumValues(includeDeprecated: true) { name description }";
const type = (inside: string): string =>
  `type { ${typeFacts} ${inside} ofType { ${typeFacts} ${inside} ofType { ${typeFacts} ofType { ${typeFacts} ${inside} } } } }`;
const field = (inside: string): string =>
  `fields(includeDeprecated: true) { name description isDeprecated deprecationReason
     args { name description defaultValue ${type("")} } ${type(inside)} }`;
const schema = `{ __schema { types { ${typeFacts} ${field(field(""))} inputFields { name description ${type("")} } }
  directives { name description locations args { name description ${type("")} } } } }`;

describe("the largest answer of each kind holds the event loop for less than 50 ms of CPU", () => {
  let database: TestDatabase;
  let service: ServiceProcess;
  let ann: Credentials;

  beforeAll(async () => {
    database = await createTestDatabase();
    service = await startMeasured();
    ann = await new ApiClient(service.url).createUser();
    await fillLibrary(database.url, ann.id);
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  const startMeasured = async (): Promise<ServiceProcess> =>
    await startServiceProcess({
      DATABASE_URL: database.url,
      LOG_LEVEL: "info",
      NODE_OPTIONS: `--import=${import.meta.dirname}/support/longest-hold.js`,
    });

  /** The next line of the log that begins so. */
  const nextLine = async ({ log, child }: ServiceProcess, beginning: string, from: number): Promise<string> => {
    for (;;) {
      const line = log.slice(from).find((text) => text.startsWith(beginning));
      if (line !== undefined) return line;
      await once(child.stdout!, "data");
    }
  };

  const holdOf = async (
    query: string,
    encoding: string,
    of = service,
  ): Promise<{ status: number; bytes: number; ms: number }> => {
    let seen = of.log.length;
    of.child.kill("SIGUSR2");
    await nextLine(of, "measures holds", seen);
    const response = await fetch(`${of.url}/graphql`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        authorization: `Bearer ${ann.token}`,
        "accept-encoding": encoding,
      },
      body: JSON.stringify({ query }),
    });
    const { byteLength } = await response.arrayBuffer();
    seen = of.log.length;
    of.child.kill("SIGUSR2");
    const line = await nextLine(of, "longest hold", seen);
    return { status: response.status, bytes: byteLength, ms: Number(line.split(":")[1]) };
  };

  it.each([
    ["everything that a page has", page(`${everything} ${links}`)],
    ["tags", page(repeat(9, (i) => `a${i}: tags { value }`))],
    ["many short tags", page(repeat(26, (i) => `a${i}: tags { name __typename }`))],
    ["titles", page(repeat(50, (i) => `a${i}: title`))],
    ["names of downloads", page(repeat(50, (i) => `a${i}: mp3Url`))],
    ["warnings", page(repeat(50, (i) => `a${i}: warnings`))],
    ["waveforms", page("peaks(count: 2048)")],
    [
      "waveforms of few recordings",
      `{ me { records(first: 4) { nodes { ${repeat(30, (i) => `a${i}: peaks(count: 2048)`)} } } } }`,
    ],
    ["ids of links", page(`links { ${repeat(18, (i) => `a${i}: id`)} }`)],
    ["addresses of links", page(`links { ${repeat(10, (i) => `a${i}: url`)} }`)],
    ["notes of links", page("links { a: note b: note c: note d: note e: note f: note g: note }")],
    ["links under many names", page(repeat(5, (i) => `a${i}: links { id downloads url }`))],
    ["tokens of owners", page(`owner { tokens { ${repeat(20, (i) => `a${i}: createdAt`)} } }`)],
    [
      "recordings twice",
      `{ me { records(first: 100) { nodes { ${everything} } edges { cursor node { again: title ${everything.replace("peaks", "")} } } } } }`,
    ],
    ["many lists", `{ me { ${repeat(48, (i) => `a${i}: records(first: 100) { nodes { id } }`)} } }`],
    [
      "many lists with tags",
      `{ ${repeat(5, (i) => `a${i}: me { records(first: 100) { nodes { title tags { value } url } } }`)} }`,
    ],
    [
      "many counts",
      `{ me { ${repeat(45, (i) => `a${i}: records(first: 1, filter: { text: "a b c d e f g" }) { totalCount }`)} } }`,
    ],
    ["the schema", schema],
    [
      "many types of the schema",
      `{ ${repeat(20, (i) => `a${i}: __type(name: "Recording") { ${typeFacts} fields { name description args { name description } type { ofType { fields { name description } } } } }`)} }`,
    ],
  ])("%s", async (_what, query) => {
    for (const encoding of ["identity", "gzip"]) {
      let least = Infinity;
      // Others on the machine, and the collection of what came before, only add to it.
      for (let tries = 0; tries < 8 && least >= maxHoldMs; tries++) {
        const { status, bytes, ms } = await holdOf(query, encoding);
        expect({ status, isLarge: bytes > 1000 }).toEqual({ status: 200, isLarge: true });
        least = Math.min(least, ms);
      }
      expect(least).toBeLessThan(maxHoldMs);
    }
  });

  it("the schema as tools ask for it, in the first request of a process", async () => {
    let least = Infinity;
    for (let tries = 0; tries < 4 && least >= maxHoldMs; tries++) {
      await using fresh = await startMeasured();
      const { status, ms } = await holdOf(getIntrospectionQuery(), "identity", fresh);
      expect(status).toBe(200);
      least = Math.min(least, ms);
    }
    expect(least).toBeLessThan(maxHoldMs);
  });
});
