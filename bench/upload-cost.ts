/**
 * Tells what an upload costs each part of the set-up of docs/scale.md, with one replica and with two: CPU time, and what
 * PostgreSQL writes to its log. The plan in docs/scale.md comes from it. It takes turns between one replica and two, so that what
 * changes with time does not count for one of them.
 *
 * In the folder of compose.scale.yml: `node dist/bench/upload-cost.js http://localhost:8000 --uploads 60 --rounds 2`
 */
import { parseArgs } from "node:util";
import { ApiClient } from "../test/support/api-client.ts";
import { sineWav } from "../test/support/wav-maker.ts";
import { compose, cpuSecondsOf, psql } from "./support/compose.ts";

const { values, positionals } = parseArgs({
  options: { uploads: { type: "string", default: "60" }, rounds: { type: "string", default: "2" } },
  allowPositionals: true,
});
const [uploads, rounds] = [Number(values.uploads), Number(values.rounds)];
const client = new ApiClient(positionals[0] ?? "http://localhost:8000");
const user = await client.createUser("Costs");
const notes = { mono: sineWav({ seconds: 30, channels: 1 }), stereo: sineWav({ seconds: 30, channels: 2 }) };
/** Ffmpeg is a part of the replicas. */
const parts = ["service", "database", "standby", "pgbouncer", "haproxy", "s3"] as const;

/** Uploads a note so many times, by four clients. Returns the size of one MP3, in bytes. */
async function upload(note: Buffer, times: number): Promise<number> {
  let next = 0;
  let mp3Bytes = 0;
  const clients = Array.from({ length: 4 }, async () => {
    while (next++ < times) {
      const { status, data, errors } = await client.uploadRecord(user, note, { fields: "sizeBytes" });
      if (status !== 200) throw new Error(`An upload failed: ${JSON.stringify(errors)}`);
      mp3Bytes = data.uploadRecord.record.sizeBytes;
    }
  });
  await Promise.all(clients);
  return mp3Bytes;
}

async function cpuOfParts(): Promise<number[]> {
  return await Promise.all(parts.map(async (part) => await cpuSecondsOf(part)));
}

async function logBytes(): Promise<number> {
  const leads = "select case when pg_is_in_recovery() then 0 else pg_current_wal_lsn() - '0/0'::pg_lsn end";
  const [one, other] = await Promise.all([psql("database", leads), psql("standby", leads)]);
  return Number(one) + Number(other);
}

console.log(
  `For each of ${uploads} uploads of 30 s: CPU seconds, kB of PostgreSQL's log, kB of MP3; and seconds for all`,
);
console.log(["replicas", "note", ...parts, "sum", "log kB", "MP3 kB", "seconds"].join("\t"));
for (let round = 0; round < 2 * rounds; round++) {
  const replicas = round % 4 === 0 || round % 4 === 3 ? 1 : 2;
  await compose("up", "--detach", "--wait", "--no-deps", "--no-recreate", "--scale", `service=${replicas}`, "service");
  await upload(notes.stereo, 8);
  for (const [name, note] of Object.entries(notes)) {
    const [cpuBefore, logBefore] = [await cpuOfParts(), await logBytes()];
    const started = performance.now();
    const mp3Bytes = await upload(note, uploads);
    const seconds = (performance.now() - started) / 1000;
    const logged = ((await logBytes()) - logBefore) / uploads;
    const each = (await cpuOfParts()).map((after, part) => (after - cpuBefore[part]!) / uploads);
    const sum = each.reduce((total, cpu) => total + cpu, 0);
    const shown = [...each, sum].map((cpu) => cpu.toFixed(3));
    const sizes = [logged, mp3Bytes].map((bytes) => (bytes / 1000).toFixed(0));
    console.log([replicas, name, ...shown, ...sizes, seconds.toFixed(1)].join("\t"));
  }
}
