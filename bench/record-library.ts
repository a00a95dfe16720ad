/**
 * Prints how long API requests take in a large library: the median and the maximum of 41 requests over HTTP. The
 * argument is the number of recordings, by default 100,000. `DATABASE_URL` must name an empty database.
 */
import { readConfig } from "../src/settings/config.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { startServer } from "../src/server.ts";
import { ApiClient } from "../test/support/api-client.ts";
import { seedRecords } from "../test/support/seed-records.ts";

const rounds = 41;
const count = Number(process.argv[2] ?? 100_000);

const config = readConfig({ ...process.env, HOST: "127.0.0.1", PORT: "0", LOG_LEVEL: "warn" });
await using server = await startServer(config, createLogger(config));
const client = new ApiClient(server.url);
const ann = await client.createUser();
await seedRecords(server.database.pool, { ownerId: ann.id, count });

const page =
  "edges { cursor node { id url title fileName createdAt durationSeconds sizeBytes } } pageInfo { hasNextPage }";
const everything =
  "nodes { id url title peaks(count: 64) tags { name value } loudness { integratedLufs } owner { name } }";
const cases: (readonly [what: string, args: string, fields: string])[] = [
  ["first page", "", page],
  ["100 records with everything", "first: 100", everything],
  ["page by title", "orderBy: { field: TITLE, direction: ASC }", page],
  ["page by duration", "orderBy: { field: DURATION }", page],
  ["page by size", "orderBy: { field: SIZE }", page],
  ["count", "first: 0", "totalCount"],
  ["search: one hit", 'filter: { text: "take 77777" }', page],
  ["search: one hit, by title", 'filter: { text: "take 77777" }, orderBy: { field: TITLE }', page],
  ["search: no hit", 'filter: { text: "nowhere" }', page],
  ["search: a sixth hits", 'filter: { text: "Blues" }', page],
  ["search: a sixth hits, by title", 'filter: { text: "Blues" }, orderBy: { field: TITLE }', page],
  ["search: all hit, by title", 'filter: { text: "take" }, orderBy: { field: TITLE }', page],
  ["search: one hit, and count", 'filter: { text: "take 77777" }', `totalCount ${page}`],
  ["search: a sixth hits, and count", 'filter: { text: "Blues" }', `totalCount ${page}`],
  ["search: all hit, and count", 'filter: { text: "take wav" }', `totalCount ${page}`],
  ["lasts 100 to 110 s, and count", "filter: { durationSeconds: { min: 100, max: 110 } }", `totalCount ${page}`],
];

/** What is asked before an upload: whether the library has a recording of this file. */
const { data } = await client.run("{ me { records(first: 1) { nodes { sourceSha256 } } } }", {}, ann);
const { sourceSha256 } = data.me.records.nodes[0];
cases.push(["the recording of a file", `filter: { sourceSha256: "${sourceSha256}" }`, "nodes { id }"]);
cases.push(["no recording of a file", `filter: { sourceSha256: "${"0".repeat(64)}" }`, "nodes { id }"]);

for (const [what, args, fields] of cases) await measure(what, `{ me { records${args && `(${args})`} { ${fields} } } }`);
await measure("a page in the middle", `{ me { records(after: "${await middle()}") { ${page} } } }`);

async function measure(what: string, query: string): Promise<void> {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    const { errors } = await client.run(query, {}, ann);
    if (errors) throw new Error(errors[0]!.message);
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  const median = times[(rounds - 1) / 2]!;
  console.log(`${what.padEnd(34)} median ${median.toFixed(1).padStart(6)} ms  slowest ${times.at(-1)!.toFixed(1)} ms`);
}

/** The cursor of a recording in the middle. */
async function middle(): Promise<string> {
  const before = new Date(Date.parse("2026-01-01") + (count / 2) * 60_000).toISOString();
  const query = `{ me { records(first: 1, filter: { createdAt: { before: "${before}" } }) { edges { cursor } } } }`;
  const { data } = await client.run(query, {}, ann);
  return data.me.records.edges[0].cursor;
}
