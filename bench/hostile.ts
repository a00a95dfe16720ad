/**
 * Sends floods of requests that anybody can send, and measures how long honest requests take meanwhile. The service has
 * a heap of 256 MB.
 *
 * `node dist/bench/hostile.js [--connections 500] [--requests 3000] [part of a kind's name...]`
 */
import { setImmediate } from "node:timers/promises";
import { parseArgs } from "node:util";
import { ApiClient } from "../test/support/api-client.ts";
import { fieldPart, filePart, multipartBody, rawPost } from "../test/support/raw-http.ts";
import { fillLibrary } from "../test/support/seed-records.ts";
import { sineWav } from "../test/support/wav-maker.ts";
import { anyUuid, startFlood } from "./support/flood.ts";
import { cpuSeconds, forgetPeak, peakResidentBytes } from "./support/process-usage.ts";
import { openWorkbench } from "./support/workbench.ts";

const { values, positionals } = parseArgs({
  options: { connections: { type: "string", default: "500" }, requests: { type: "string", default: "3000" } },
  allowPositionals: true,
});
const [connections, total] = [Number(values.connections), Number(values.requests)];

await using bench = await openWorkbench({ quick: true });
await using service = await bench.startService({ NODE_OPTIONS: "--max-old-space-size=256", LOG_LEVEL: "info" });
const port = Number(new URL(service.url).port);
const client = new ApiClient(service.url);
const [ann, eve] = [await client.createUser("Ann"), await client.createUser("Eve")];
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
  "records of a user": post(`{ record(id: "${anyUuid}") { id } }`, eve.token),
  "tokens over the maximum": post('mutation { createToken(name: "x", scopes: [READ]) { token } }', eve.token),
  "upload tickets": post("mutation { createUploadTicket { ticket } }", eve.token),
  usage: post("{ me { usage { bytes seconds } } }", eve.token),
  "large lists": post("{ me { records(first: 100) { nodes { id title tags { value } peaks } } } }", eve.token),
  "uploads of no sound": upload("", eve.token),
  "schema.graphql": get("/schema.graphql"),
  readyz: get("/readyz"),
  "nothing there": get("/nothing"),
};

const honest: Readonly<Record<string, () => Promise<number>>> = {
  createUser: async () => (await client.run('mutation { createUser(name: "Bob") { token } }')).status,
  list: async () => (await client.run("{ me { records { nodes { id title url } } } }", {}, ann)).status,
  range: async () => {
    const response = await fetch(recordUrl, { headers: { range: "bytes=1000-1999" } });
    await response.arrayBuffer();
    return response.status === 206 ? 200 : response.status;
  },
  upload: async () => (await client.uploadRecord(ann, second)).status,
};

console.log(`${connections} connections, ${total} requests; the longest honest request of each kind, in ms\n`);
console.log(
  `| flood | ${Object.keys(honest).join(" | ")} | flood, s | CPU per request, ms | peak memory, MB | answers |`,
);
console.log(`|${" --- |".repeat(Object.keys(honest).length + 5)}`);
for (const [name, request] of Object.entries(floods)) {
  if (positionals.length > 0 && !positionals.some((part) => name.includes(part))) continue;
  await forgetPeak(service.pid);
  const cpuBefore = await cpuSeconds(service.pid);
  const started = performance.now();
  const flood = await startFlood({ port, connections, total, request });
  const over = flood.ended.then(() => true);
  const longest: Record<string, number> = {};
  do {
    for (const [kind, ask] of Object.entries(honest)) {
      const asked = performance.now();
      const status = await ask();
      const ms = Math.round(performance.now() - asked);
      longest[kind] = Math.max(longest[kind] ?? 0, ms);
      if (status !== 200) console.error(`${name}: ${kind} was answered with ${status}`);
    }
  } while (!(await Promise.race([over, setImmediate(false)])));
  const answers = await flood.ended;
  const seconds = (performance.now() - started) / 1000;
  const cpuMs = ((await cpuSeconds(service.pid)) - cpuBefore) * 1000;
  const peak = (await peakResidentBytes(service.pid)) / 1e6;
  const counts = Object.entries(answers).map(([status, count]) => `${count} x ${status}`);
  const cells = [name, ...Object.values(longest), seconds.toFixed(1), (cpuMs / total).toFixed(2), peak.toFixed(0)];
  console.log(`| ${[...cells, counts.join(", ")].join(" | ")} |`);
}
