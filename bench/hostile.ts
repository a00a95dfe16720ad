/**
 * Sends floods of requests that anybody can send, and holds connections open, and measures how long honest requests
 * take meanwhile. The service has a heap of 256 MB, and honest clients have another address than the flood.
 *
 * `node dist/bench/hostile.js [--connections 500] [--requests 3000] [--seconds 5] [--production] [part of a kind's name...]`
 */
import { once } from "node:events";
import { get as httpGet, type IncomingMessage } from "node:http";
import { setImmediate } from "node:timers/promises";
import { parseArgs } from "node:util";
import { ApiClient } from "../test/support/api-client.ts";
import { fieldPart, filePart, multipartBody, rawPost } from "../test/support/raw-http.ts";
import { fillLibrary } from "../test/support/seed-records.ts";
import { sineWav } from "../test/support/wav-maker.ts";
import { median } from "./support/figure.ts";
import { anyUuid, startFlood, type Flood } from "./support/flood.ts";
import { cpuSecondsWithChildren, forgetPeak, peakResidentBytes } from "./support/process-usage.ts";
import { openWorkbench } from "./support/workbench.ts";

const { values, positionals } = parseArgs({
  options: {
    connections: { type: "string", default: "500" },
    requests: { type: "string", default: "3000" },
    seconds: { type: "string", default: "5" },
    production: { type: "boolean", default: false },
  },
  allowPositionals: true,
});
const [connections, total, holdSeconds] = [Number(values.connections), Number(values.requests), Number(values.seconds)];

await using bench = await openWorkbench({ quick: true });
await using service = await bench.startService({
  NODE_OPTIONS: "--max-old-space-size=256",
  LOG_LEVEL: "info",
  TRUST_PROXY: "127.0.0.1",
  // Without the limit for all addresses together, which the honest ones reach in a long run.
  ...(values.production && { NODE_ENV: "production", ALL_NEW_USERS_PER_HOUR: "0" }),
});
const port = Number(new URL(service.url).port);
let honestRequests = 0;
const fromElsewhere = (): Record<string, string> => ({ "x-forwarded-for": `198.51.100.${++honestRequests % 250}` });
const client = new ApiClient(service.url, fromElsewhere);
const eve = await client.createUser("Eve");
/** Another one for each kind, since a user may upload only so often in an hour. */
let ann = await client.createUser("Ann");
const second = sineWav({ seconds: 1 });
const { url: recordUrl } = (await client.uploadRecord(ann, second)).data.uploadRecord.record;
const hers = await client.uploadRecord(eve, second, { args: ", visibility: PRIVATE" });
const privateUrl = new URL(hers.data.uploadRecord.record.url);
await fillLibrary(bench.databaseUrl, eve.id);

const get = (path: string, token?: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: a\r\n${token ? `Authorization: Bearer ${token}\r\n` : ""}\r\n`;
const post = (query: string, token?: string): string =>
  rawPost(Buffer.from(JSON.stringify({ query })), {
    "content-type": "application/json",
    authorization: token && `Bearer ${token}`,
  }).toString("latin1");
const upload = (args: string, token?: string): string => {
  const query = `mutation ($file: Upload!) { uploadRecord(file: $file${args}) { record { id } } }`;
  const body = multipartBody(
    fieldPart("operations", JSON.stringify({ query, variables: { file: null } })),
    fieldPart("map", '{"0":["variables.file"]}'),
    filePart("0", "take.wav", "no sound"),
  );
  return rawPost(body, { authorization: token && `Bearer ${token}` }).toString("latin1");
};

/** Requests, each of which is answered. */
const floods: Readonly<Record<string, string>> = {
  "nothing but names": post("{ __typename }"),
  "wrong tokens": post("{ me { id } }", anyUuid),
  "wrong tokens of uploads": upload("", anyUuid),
  "unknown tickets": upload(`, ticket: "${anyUuid}"`),
  "new users": post('mutation { createUser(name: "Eve") { token } }'),
  "unknown recordings": get(`/record?id=${anyUuid}&user=1`),
  "wrong tokens at a private recording": get(privateUrl.pathname + privateUrl.search, anyUuid),
  "unknown share links": get(`/l/${"A".repeat(32)}`),
  "unknown shared recordings": post(`{ shared(url: "${service.url}/record?id=${anyUuid}&user=1") { title } }`),
  "pages of unknown links": get(`/listen/${"A".repeat(32)}`),
  "records of a user": post(`{ record(id: "${anyUuid}") { id } }`, eve.token),
  "tokens over the maximum": post(
    'mutation { createToken(name: "x", scopes: [READ]) { accessToken { id } } }',
    eve.token,
  ),
  "upload tickets": post("mutation { createUploadTicket { ticket } }", eve.token),
  usage: post("{ me { usage { bytes seconds } } }", eve.token),
  "large lists": post("{ me { records(first: 100) { nodes { id title tags { value } peaks } } } }", eve.token),
  "uploads of no sound": upload("", eve.token),
  "schema.graphql": get("/schema.graphql"),
  readyz: get("/readyz"),
  "nothing there": get("/nothing"),
};

const clip = upload("", eve.token);
const json = { "content-type": "application/json", "content-length": "1000000" };
const largestLists = "{ me { records(first: 100) { nodes { links { a: note b: note c: note d: note e: note } } } } }";

/** Connections that are kept: what they send, after which they are silent, and whether they read answers. */
const held: Readonly<Record<string, { readonly request: string; readonly isUnread?: boolean }>> = {
  "held: silent": { request: "" },
  "held: headers without an end": { request: `GET /healthz HTTP/1.1\r\nHost: a\r\n${"a: b\r\n".repeat(300)}` },
  "held: half of a body": { request: rawPost(Buffer.alloc(900_000, "a"), json).toString("latin1") },
  "held: no operations": { request: clip.slice(0, clip.indexOf("{")) },
  "held: no file": { request: clip.slice(0, clip.indexOf("no sound")) },
  "held: no file, wrong tokens": { request: upload("", anyUuid).split("no sound", 1)[0]! },
  "held: lists unread": { request: post(largestLists, eve.token), isUnread: true },
  "held: MP3s unread": { request: get(new URL(recordUrl).pathname + new URL(recordUrl).search), isUnread: true },
  "held: thousands of requests unread": { request: get("/healthz").repeat(1600), isUnread: true },
};

const honest: Readonly<Record<string, () => Promise<number>>> = {
  createUser: async () => (await client.run('mutation { createUser(name: "Bob") { token } }')).status,
  list: async () => (await client.run("{ me { records(first: 5) { nodes { id title url } } } }", {}, ann)).status,
  // Somebody clicks a link: a new connection.
  link: async () => {
    const request = httpGet(recordUrl, { agent: false, headers: { range: "bytes=1000-1999", ...fromElsewhere() } });
    const [response] = (await once(request, "response")) as [IncomingMessage];
    for await (const _piece of response);
    return response.statusCode === 206 ? 200 : response.statusCode!;
  },
  upload: async () => (await client.uploadRecord(ann, second)).status,
};

const kinds: readonly Omit<Flood & { readonly name: string }, "port" | "connections" | "total">[] = [
  ...Object.entries(floods).map(([name, request]) => ({ name, request })),
  ...Object.entries(held).map(([name, kind]) => ({ name, ...kind, holdSeconds })),
];

const how = values.production ? "NODE_ENV=production" : "defaults";
console.log(
  `${how}; ${connections} connections; ${total} requests, or ${holdSeconds} s; the median and the longest honest request of each kind, in ms\n`,
);
console.log(`| kind | ${Object.keys(honest).join(" | ")} | seconds | CPU, s | peak memory, MB | answers |`);
console.log(`|${" --- |".repeat(Object.keys(honest).length + 5)}`);
for (const { name, ...kind } of kinds) {
  if (positionals.length > 0 && !positionals.some((part) => name.includes(part))) continue;
  ann = await client.createUser("Ann");
  await client.uploadRecord(ann, second);
  await forgetPeak(service.pid);
  const cpuBefore = await cpuSecondsWithChildren(service.pid);
  const started = performance.now();
  const flood = await startFlood({ ...kind, port, connections, total });
  const over = flood.ended.then(() => true);
  const times: Record<string, number[]> = {};
  do {
    for (const [what, ask] of Object.entries(honest)) {
      const asked = performance.now();
      const status = await ask();
      (times[what] ??= []).push(performance.now() - asked);
      if (status !== 200) console.error(`${name}: ${what} was answered with ${status}`);
    }
  } while (!(await Promise.race([over, setImmediate(false)])));
  const answers = await flood.ended;
  const seconds = (performance.now() - started) / 1000;
  const cpu = (await cpuSecondsWithChildren(service.pid)) - cpuBefore;
  const peak = (await peakResidentBytes(service.pid)) / 1e6;
  const counts = Object.entries(answers).map(([status, count]) => `${count} x ${status}`);
  const ofHonest = Object.values(times).map((all) => `${median(all).toFixed(0)}, ${Math.max(...all).toFixed(0)}`);
  const cells = [name, ...ofHonest, seconds.toFixed(1), cpu.toFixed(1), peak.toFixed(0), counts.join(", ")];
  console.log(`| ${cells.join(" | ")} |`);
}
