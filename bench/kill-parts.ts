/**
 * Kills each part of the set-up of docs/scale.md once (SIGKILL) while `steady-load.ts` uploads through it: a replica, PgBouncer,
 * the standby, S3, HAProxy, and the primary, whose place the standby takes. It ends with the code 1 if an upload was lost, or if
 * anything is left over after the longest lease.
 *
 * In the folder of compose.scale.yml, on a set-up for trials only, because it changes `.env` and deletes the old primary:
 * `node dist/bench/kill-parts.js http://localhost:8000 --uploads 200`
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { compose, containersOf, docker, psql } from "./support/compose.ts";

const { values, positionals } = parseArgs({
  options: {
    uploads: { type: "string", default: "200" },
    parallel: { type: "string", default: "6" },
    patience: { type: "string", default: "300" },
  },
  allowPositionals: true,
});
const uploads = Number(values.uploads);

/** The lease of an upload, 90 s, and the sweep that finds it. Resumable uploads have ended by then. */
const longestLeaseSeconds = 120;

let primary = (await primaryNamed()) ?? "database";
const other = primary === "database" ? "standby" : "database";

interface Part {
  readonly name: string;
  /** Seconds for which it is away. */
  readonly awaySeconds: number;
  readonly kill: () => Promise<void>;
  readonly restart: () => Promise<void>;
}

/** A part that comes back as it was. */
function part(name: string, service: string, awaySeconds: number): Part {
  let killed: string | undefined;
  return {
    name,
    awaySeconds,
    kill: async () => {
      [killed] = await containersOf(service);
      await docker("kill", killed!);
    },
    restart: async () => {
      await docker("start", killed!);
      await compose("up", "--detach", "--wait", "--no-deps", "--no-recreate", service);
    },
  };
}

const parts: readonly Part[] = [
  part("a replica", "service", 20),
  part("PgBouncer", "pgbouncer", 15),
  part("the standby", other, 15),
  part("S3", "s3", 25),
  part("HAProxy", "haproxy", 5),
  {
    name: "the primary",
    awaySeconds: 10,
    kill: async () => {
      await compose("kill", primary);
    },
    restart: failOver,
  },
];

/** As docs/scale.md says under "When the primary is lost". */
async function failOver(): Promise<void> {
  const old = primary;
  const env = (await readFile(".env", "utf8")).replaceAll(/^PRIMARY=.*\n?/gm, "");
  await writeFile(".env", env);
  await appendFile(".env", `${env.endsWith("\n") ? "" : "\n"}PRIMARY=${other}\n`);
  primary = other;
  await psql(other, "select pg_promote()");
  await psql(other, "alter system set synchronous_standby_names = ''");
  await psql(other, "select pg_reload_conf()");
  await compose("up", "--detach", "--no-deps", "pgbouncer");
  say(`${other} leads`);
  const project = JSON.parse(await compose("config", "--format", "json")).name as string;
  await compose("rm", "--stop", "--force", old);
  await docker("volume", "rm", `${project}_${old}`);
  await compose("up", "--detach", "--wait", "--no-deps", old);
  await psql(other, "alter system set synchronous_standby_names = 'ANY 1 (*)'");
  await psql(other, "select pg_reload_conf()");
}

async function primaryNamed(): Promise<string | undefined> {
  return /^PRIMARY=(\w+)/m.exec(await readFile(".env", "utf8"))?.[1];
}

const started = performance.now();
function say(text: string): void {
  console.log(`${((performance.now() - started) / 1000).toFixed(0)} s: ${text}`);
}

const load = spawn(
  process.execPath,
  [
    join(import.meta.dirname, "steady-load.js"),
    positionals[0] ?? "http://localhost:8000",
    `--uploads=${values.uploads}`,
    `--parallel=${values.parallel}`,
    `--patience=${values.patience}`,
  ],
  { stdio: ["ignore", "inherit", "pipe"] },
);
const ended = once(load, "close");
const progress = { answered: 0 };
createInterface({ input: load.stderr }).on("line", (line) => {
  if (/^\d+ answered$/.test(line)) progress.answered = Number.parseInt(line, 10);
  else console.error(line);
});
for (const [index, { name, awaySeconds, kill, restart }] of parts.entries()) {
  // Each is killed when it has worked again for a while.
  const wanted = Math.max(progress.answered + uploads / 20, ((index + 0.5) * uploads) / (parts.length + 0.5));
  await answeredAtLeast(wanted);
  if (load.exitCode !== null) throw new Error(`All uploads had ended before ${name} was killed`);
  await kill();
  say(`killed ${name}, ${progress.answered} uploads answered`);
  await delay(awaySeconds * 1000);
  await restart();
  say(`${name} is back, ${progress.answered} uploads answered`);
}
async function answeredAtLeast(wanted: number): Promise<void> {
  while (progress.answered < wanted && load.exitCode === null) await delay(100);
}
const [loadCode] = await ended;
say(`the load has ended with ${loadCode}`);

/** What is neither a ready recording nor a part of one; of S3, `reconcile` tells. */
const leftOver = `select (select count(*) from audio_record where state <> 'ready') as unfinished,
  (select count(*) from mp3_chunk c where not exists (select from audio_record r where r.id = c.record_id and r.state = 'ready')),
  (select count(*) from upload_piece), (select count(*) from audio_record where state = 'ready')`;
const deadline = performance.now() + longestLeaseSeconds * 1000;
let rows = await psql(primary, leftOver);
while (!rows.startsWith("0|0|0|") && performance.now() < deadline) {
  await delay(1000);
  rows = await psql(primary, leftOver);
}
const isClean = rows.startsWith("0|0|0|");
const [unfinished, chunks, pieces, ready] = rows.split("|");
say(`left over: ${unfinished} unfinished recordings, ${chunks} chunks, ${pieces} pieces; ready recordings: ${ready}`);
const program = ["node", "dist/src/store-command.js", "reconcile", "--json"];
const objects = JSON.parse(await compose("run", "--rm", "--no-deps", "-T", "service", ...program)) as {
  orphans: number;
  missing: number;
  wrongSize: number;
  openUploads: number;
};
say(`reconcile: ${JSON.stringify(objects)}`);
const isWhole = objects.orphans + objects.missing + objects.wrongSize + objects.openUploads === 0;
process.exitCode = loadCode === 0 && isClean && isWhole ? 0 : 1;
