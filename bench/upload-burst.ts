/**
 * Starts 1000 uploads of one second at once, by 20 users, and retries each as `Retry-After` says. It checks that each
 * upload is accepted in the end and belongs to the user who sent it, and measures how long `{ __typename }` takes
 * meanwhile.
 *
 * `node dist/bench/upload-burst.js [uploads] [users]`; the service takes its settings from the environment.
 */
import { createHash } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ApiClient, type Answer, type Credentials } from "../test/support/api-client.ts";
import { startServiceProcess } from "../test/support/service-process.ts";
import { sineWav } from "../test/support/wav-maker.ts";

const uploads = Number(process.argv[2] ?? 1000);
const users = Number(process.argv[3] ?? 20);
const maxTries = 20;

interface Outcome {
  readonly accepted: boolean;
  readonly refusals: readonly string[];
  readonly fault?: string;
}

const dataDir = await mkdtemp(join(tmpdir(), "web-user-music-burst-"));
await chmod(dataDir, 0o711); // run as root, PostgreSQL becomes another user
try {
  const settings = Object.entries(process.env).filter(([name]) => /^[A-Z_]+$/.test(name));
  await using service = await startServiceProcess({
    DATA_DIR: dataDir,
    LOG_LEVEL: "info",
    ...(Object.fromEntries(settings) as Record<string, string>),
  });
  const client = new ApiClient(service.url);
  const people: Credentials[] = [];
  for (let i = 0; i < users; i++) people.push(await client.createUser(`User ${i}`));

  const wavs = Array.from({ length: uploads }, (_, i) => sineWav({ seconds: 1, channels: 1, frequencyHz: 100 + i }));
  const latencies: number[] = [];
  let running = true;
  const probing = probe(client, latencies, () => running);
  const started = performance.now();
  const outcomes = await Promise.all(
    Array.from({ length: uploads }, async (_, i) => await uploadOne(client, people[i % users]!, wavs[i]!)),
  );
  const seconds = (performance.now() - started) / 1000;
  running = false;
  await probing;

  const accepted = outcomes.filter((outcome) => outcome.accepted).length;
  const atOnce = outcomes.filter((outcome) => outcome.accepted && outcome.refusals.length === 0).length;
  const faults = outcomes.flatMap(({ fault }) => fault ?? []);
  const p95 = percentile(latencies, 0.95);
  console.log(`${uploads} uploads of one second by ${users} users: ${accepted} accepted in ${seconds.toFixed(1)} s`);
  console.log(`${atOnce} at once; refusals before that:`, countBy(outcomes.flatMap(({ refusals }) => refusals)));
  console.log(`__typename: ${latencies.length} answers, median ${percentile(latencies, 0.5)} ms, p95 ${p95} ms`);
  console.log(`faults: ${faults.length}`, countBy(faults));
  const failures = service.log.flatMap((line) => /"err":\{[^}]*?"message":"([^"]*)"/.exec(line)?.[1] ?? []);
  console.log("failures in the log:", countBy(failures));
  process.exitCode = accepted >= 0.9 * uploads && faults.length === 0 && p95 < 2000 ? 0 : 1;
  service.child.kill("SIGTERM");
  console.log("service ended with", await service.ended);
} finally {
  await rm(dataDir, { recursive: true, force: true });
}

async function uploadOne(client: ApiClient, user: Credentials, wav: Buffer): Promise<Outcome> {
  const sha256 = createHash("sha256").update(wav).digest("hex");
  const refusals: string[] = [];
  while (refusals.length < maxTries) {
    let answer: Answer;
    try {
      answer = await client.uploadRecord(user, wav, { fields: "sourceSha256 owner { id } durationSeconds" });
    } catch (error) {
      return { accepted: false, refusals, fault: `no answer: ${String((error as Error).cause ?? error)}` };
    }
    if (answer.status === 200) {
      const { record } = answer.data.uploadRecord;
      const right = record.sourceSha256 === sha256 && record.owner.id === user.id && record.durationSeconds === 1;
      return { accepted: true, refusals, ...(!right && { fault: "mixed up" }) };
    }
    const code = String(answer.errors?.[0]?.extensions.code);
    const retryAfter = Number(answer.headers.get("retry-after"));
    if ((answer.status !== 503 && answer.status !== 429) || !retryAfter) {
      return { accepted: false, refusals, fault: `${answer.status} ${code}` };
    }
    refusals.push(code);
    await delay(retryAfter * 1000);
  }
  return { accepted: false, refusals };
}

async function probe(client: ApiClient, latencies: number[], running: () => boolean): Promise<void> {
  while (running()) {
    const started = performance.now();
    await client.run("{ __typename }");
    latencies.push(Math.round(performance.now() - started));
    await delay(100);
  }
}

function percentile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(share * (values.length - 1))] ?? 0;
}

function countBy(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}
