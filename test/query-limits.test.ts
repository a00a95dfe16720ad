import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { getIntrospectionQuery, parse } from "graphql";
import { queryLimits, refusalOfDocument } from "../src/graphql/query-limits.ts";
import { ApiClient, type Answer, type Credentials } from "./support/api-client.ts";
import { seedRecords } from "./support/seed-records.ts";
import { startService, type TestService } from "./support/service.ts";

/** A query as Relay and generated clients send it: every number is a variable. */
const page = `query Page($first: Int!, $count: Int!) {
  me {
    records(first: $first) {
      edges { cursor node { ...card ...wave links { id note url streamUrl waveformUrl expiresAt downloads } } }
      pageInfo { hasNextPage endCursor }
    }
  }
}
fragment card on Recording { id title fileName durationSeconds sizeBytes tags { name value } warnings ...wave }
fragment wave on Recording { id peaks(count: $count) }`;

describe("the limits of a query", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser();
    await seedRecords(service.server.database.pool, { ownerId: ann.id, count: 3 });
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const refusal = ({ status, data, errors }: Answer): unknown => ({ status, data, ...errors?.[0]?.extensions });

  it("count the variables that were sent, like the same numbers in the text", async () => {
    const variables = { first: 20, count: 64 };
    const withVariables = await client.run(page, variables, ann);
    expect(withVariables.errors).toBeUndefined();
    expect(withVariables.data.me.records.edges).toHaveLength(3);
    expect(withVariables.data.me.records.edges[0].node.peaks).toHaveLength(64);
    const literal = page.replace("Page($first: Int!, $count: Int!)", "Page").replace("$first", "20");
    const withLiterals = await client.run(literal.replaceAll("$count", "64"), {}, ann);
    expect(withLiterals.data).toEqual(withVariables.data);
  });

  it("count the variables of each request, also of one document with others", async () => {
    const few = { first: 20, count: 64 };
    expect((await client.run(page, few, ann)).status).toBe(200);
    const many = { first: 100, count: 2048 };
    expect(refusal(await client.run(page, many, ann))).toMatchObject({ status: 400, maxValues: 250_000 });
    expect((await client.run(page, few, ann)).status).toBe(200);
  });

  it("take two lists on one screen", async () => {
    const list = "records(first: $first) { nodes { id title peaks(count: $count) links { id url } } }";
    const two = `query ($first: Int = 10, $count: Int = 64) { me { newest: ${list} longest: ${list} } }`;
    expect((await client.run(two, {}, ann)).status).toBe(200);
    expect((await client.run(two, { first: 10, count: 64 }, ann)).status).toBe(200);
  });

  it.each([
    [
      "defaults of variables",
      "query ($n: Int = 2048) { me { records(first: 100) { nodes { a: peaks(count: $n) b: peaks(count: $n) } } } }",
    ],
    ["arguments that say nothing", `{ me { records { nodes { ${repeat(25, (i) => `a${i}: peaks`)} } } } }`],
  ])("count %s", async (_what, query) => {
    expect(refusal(await client.run(query, {}, ann))).toMatchObject({ code: "QUERY_TOO_COMPLEX", maxValues: 250_000 });
  });

  it("count only selected fields: none that is skipped, and once a field in two fragments", async () => {
    const query = `query ($wave: Boolean!) { me { records(first: 100) { nodes {
      ...a ...b ... @include(if: $wave) { second: peaks(count: 2048) }
    } } } }
    fragment a on Recording { peaks(count: 2048) } fragment b on Recording { peaks(count: 2048) }`;
    expect((await client.run(query, { wave: false }, ann)).status).toBe(200);
    expect(refusal(await client.run(query, { wave: true }, ann))).toMatchObject({ status: 400, maxValues: 250_000 });
  });

  it("name the field, the number found and the limit", async () => {
    const { errors } = await client.run(page, { first: 100, count: 1536 }, ann);
    expect(errors).toBeUndefined();
    const twice = page.replace(
      "fragment wave on Recording {",
      "fragment wave on Recording { again: peaks(count: $count)",
    );
    const { status, errors: refusals } = await client.run(twice, { first: 100, count: 1536 }, ann);
    expect(status).toBe(400);
    expect(refusals).toHaveLength(1);
    expect(refusals![0]!.extensions).toMatchObject({
      code: "QUERY_TOO_COMPLEX",
      maxValues: 250_000,
      field: "me.records.edges.node.again",
      found: expect.any(Number),
    });
    const { message } = refusals![0]!;
    for (const part of ["250000", String(refusals![0]!.extensions.found), "153600", "me.records.edges.node.again"]) {
      expect(message).toContain(part);
    }
  });

  it.each([
    ["tags", repeat(48, (i) => `a${i}: tags { value }`)],
    ["long aliases of short values", `links { ${repeat(20, (i) => `${"a".repeat(90)}${i}: id`)} }`],
    ["notes of links", "links { note a: note b: note c: note d: note e: note f: note g: note }"],
  ])("limit the characters of the response: %s", async (_what, fields) => {
    const query = `{ me { records(first: 100) { nodes { ${fields} } } } }`;
    expect(query.length).toBeLessThan(6000);
    const answer = refusal(await client.run(query, {}, ann));
    expect(answer).toMatchObject({ status: 400, code: "QUERY_TOO_COMPLEX", maxCharacters: 16_000_000 });
  });

  it("accept everything that a recording has, for a whole page", async () => {
    const everything = `{ me { id name createdAt usage { bytes } records(first: 100) { totalCount nodes {
      id title fileName createdAt visibility owner { id name } durationSeconds sizeBytes bitrateKbps sampleRateHz channels
      source { codec bitsPerSample sampleRateHz channels sizeBytes sha256 } sourceSha256 tags { name value }
      loudness { integratedLufs samplePeakDbfs } warnings url streamUrl mp3Url waveformUrl peaks
      links { id note createdAt expiresAt downloads url streamUrl waveformUrl }
    } } } }`;
    expect((await client.run(everything, {}, ann)).errors).toBeUndefined();
  });

  it("allow only short aliases, which are repeated in the response with each field", async () => {
    const longest = "a".repeat(queryLimits.maxAliasCharacters);
    expect((await client.run(`{ me { ${longest}: name } }`, {}, ann)).status).toBe(200);
    const answer = await client.run(`{ me { ${longest}a: name } }`, {}, ann);
    expect(refusal(answer)).toMatchObject({ code: "QUERY_TOO_COMPLEX", maxAliasCharacters: 100, found: 101 });
  });

  it.each([
    ["aliases inside it", "{ __schema { types { a: name } } }", { maxSchemaAliases: 0, found: 1 }],
    ["aliases in a fragment", '{ __type(name: "User") { ...a } } fragment a on __Type { a: name }', { found: 1 }],
    ["itself again", "{ __schema { description } again: __schema { description } }", { maxSchemas: 1, found: 2 }],
  ])("take introspection without %s, which would multiply it", async (_what, query, details) => {
    expect(refusal(await client.run(query))).toMatchObject({ code: "QUERY_TOO_COMPLEX", ...details });
  });

  it("take what Apollo Kotlin asks before it asks for the schema", async () => {
    const types = ["__Schema", "__Type", "__Directive", "__Field", "__InputValue"];
    const query = `{ ${types.map((name, i) => `a${i}: __type(name: "${name}") { fields { name args { name } } }`).join(" ")} }`;
    expect((await client.run(query)).status).toBe(200);
  });

  it.each([
    ["at the top of an object", `{ me { ${repeat(490, () => "usage { bytes }")} } }`],
    [
      "in fragments",
      `{ me { ...a ...b } } fragment a on User { ${repeat(20, () => "usage { bytes }")} ...c }
      fragment b on User { ...c ...c } fragment c on User { ${repeat(10, () => "usage { bytes }")} }`,
    ],
    ["in a fragment that nobody uses", `{ me { id } } fragment a on User { ${repeat(33, () => "usage { bytes }")} }`],
    ["in what asks for the schema", `{ __schema { ${repeat(33, () => "types { name }")} } }`],
  ])("refuse a field that occurs too often in one selection, %s", async (_what, query) => {
    const answer = await client.run(query, {}, ann);
    expect(answer.errors).toHaveLength(1);
    expect(refusal(answer)).toMatchObject({ status: 400, code: "QUERY_TOO_COMPLEX", maxRepetitions: 32 });
  });

  it("measure a document before it is validated, each time that it comes", async () => {
    const wrong = `{ ${repeat(490, () => "nothing { like: this }")} }`;
    for (let times = 0; times < 2; times++) {
      const { errors } = await client.run(wrong, {}, ann);
      expect(errors!.map(({ extensions }) => extensions.code)).toEqual(["QUERY_TOO_COMPLEX"]);
    }
    const { errors } = await client.run("{ nothing }", {}, ann);
    expect(errors!.map(({ extensions }) => extensions.code)).toEqual(["GRAPHQL_VALIDATION_FAILED"]);
  });

  it("measure fragments that spread each other without end, and leave them to the validation", async () => {
    const cycle = "{ me { ...a } } fragment a on User { id ...b } fragment b on User { name ...a }";
    expect(refusal(await client.run(cycle, {}, ann))).toMatchObject({ code: "GRAPHQL_VALIDATION_FAILED" });
    const doubling = repeat(60, (i) => `fragment f${i} on User { ...f${i + 1} ...f${i + 1} }`);
    const bomb = parse(`{ me { ...f0 } } ${doubling} fragment f60 on User { id }`);
    expect(refusalOfDocument(bomb)).toMatchObject({ code: "QUERY_TOO_COMPLEX" });
  });

  it("accept what tools send", async () => {
    const options = { inputValueDeprecation: true, oneOf: true, directiveIsRepeatable: true };
    expect((await client.run(getIntrospectionQuery(options))).status).toBe(200);
  });
});

function repeat(times: number, make: (i: number) => string): string {
  return Array.from({ length: times }, (_, i) => make(i)).join(" ");
}
