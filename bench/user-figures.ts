import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { setTimeout as delay } from "node:timers/promises";
import { Pool } from "pg";
import { readConfig } from "../src/settings/config.ts";
import { ApiClient } from "../test/support/api-client.ts";
import { median, type Figure } from "./support/figure.ts";
import { JsonConnection } from "./support/socket-client.ts";
import { secondsFor, type Workbench } from "./support/workbench.ts";

const createUser = "mutation ($name: String!) { createUser(name: $name) { user { id } token } }";
const connections = 32;

/** createUser under load, and while a long recording converts. */
export async function userFigures(bench: Workbench): Promise<Figure[]> {
  await using service = await bench.startService();
  return [...(await throughput(bench, service.url)), ...(await latencyDuringConversion(bench, service.url))];
}

async function throughput(bench: Workbench, url: string): Promise<Figure[]> {
  const count = bench.quick ? 3000 : 10_000;
  const clients = Array.from({ length: connections }, () => new JsonConnection(url));
  const create = async (index: number, client: number) =>
    await clients[client]!.run(createUser, { name: `User ${index}` });
  await secondsFor(1000, connections, create);
  const seconds = await secondsFor(count, connections, create);
  for (const client of clients) client[Symbol.dispose]();

  const pool = new Pool({ connectionString: bench.databaseUrl, max: readConfig({}).databasePoolSize });
  const insert = async (index: number) =>
    await pool.query("insert into app_user (name) values ($1) returning id, created_at", [`User ${index}`]);
  await secondsFor(1000, connections, insert);
  const bareSeconds = await secondsFor(count, connections, insert);
  await pool.end();
  return [
    {
      name: `createUser, ${connections} connections`,
      value: count / seconds,
      unit: "/s",
      reference: { name: "one bare insert through a pool of the same size", value: count / bareSeconds },
      goal: { of: "value", atLeast: 1320 },
    },
  ];
}

/** Uploads from a separate process, so that the measuring process is not delayed. */
async function uploadWithCurl(url: string, token: string, wav: string): Promise<void> {
  const query = "mutation ($file: Upload!) { uploadRecord(file: $file) { record { id } } }";
  const operations = JSON.stringify({ query, variables: { file: null } });
  const headers = ["--header", `authorization: Bearer ${token}`, "--header", "apollo-require-preflight: true"];
  const parts = ["--form", `operations=${operations}`, "--form", 'map={"0":["variables.file"]}', "--form", `0=@${wav}`];
  const { stdout } = await promisify(execFile)("curl", ["--silent", ...headers, ...parts, `${url}/graphql`]);
  if (!stdout.includes('"data":{"uploadRecord"')) throw new Error(`The upload failed: ${stdout}`);
}

async function latencyDuringConversion(bench: Workbench, url: string): Promise<Figure[]> {
  const user = await new ApiClient(url).createUser();
  const wav = await bench.music(600);
  using client = new JsonConnection(url);
  const latenciesMs: number[] = [];
  let converting = true;
  const uploaded = uploadWithCurl(url, user.token, wav).then(() => false);
  while (converting) {
    const started = performance.now();
    await client.run(createUser, { name: "Ann" });
    const latencyMs = performance.now() - started;
    latenciesMs.push(latencyMs);
    converting = await Promise.race([uploaded, delay(Math.max(1, 100 - latencyMs), true)]);
  }
  const what = "createUser every 100 ms while 10 min convert";
  return [
    { name: `${what}: median`, value: median(latenciesMs), unit: "ms", goal: { of: "value", atMost: 10 } },
    { name: `${what}: worst`, value: Math.max(...latenciesMs), unit: "ms", goal: { of: "value", atMost: 100 } },
  ];
}
