/**
 * Compares ways to bring a stored MP3 of 57 MB from PostgreSQL to an HTTP client on the same machine, with nginx (if it
 * is installed) serving the same bytes as a file. After `npm run build`:
 * `node --max-semi-space-size=2 dist/bench/chunk-reading.js`. The flag reaches the server under test: a small young
 * generation lets V8 free the buffers of bytes that were sent sooner, which saves memory and, in warm caches, time.
 */
import { execFile, fork, spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { promisify } from "node:util";
import { fastify } from "fastify";
import { Pool } from "pg";
import { to as copyTo } from "pg-copy-streams";
import { sendBytes } from "../src/http/send-bytes.ts";
import type { StoredMp3 } from "../src/record/mp3-chunks.ts";
import { readMp3, writeMp3 } from "../src/record/mp3-chunks.ts";
import { answerRecord, readBody } from "../src/record/record-answer.ts";
import { startScratchPostgres } from "../test/support/scratch-postgres.ts";

const run = promisify(execFile);
const sizeBytes = 57_000_000;
const neverAborted = new AbortController().signal;
const ways = ["hex", "base64", "pg-copy-streams", "readMp3"];
const exits = ["sendBytes", "write", "send"];

function read(pool: Pool, record: StoredMp3, way: string): AsyncGenerator<Buffer, void, undefined> {
  if (way === "readMp3") return readMp3(pool, record, { start: 0, end: sizeBytes - 1 }, neverAborted);
  if (way === "memory") return readFromMemory(pool, record);
  return readOtherwise(pool, record, way);
}

/** What a cache could give at most: every row is in memory. */
const cached: Buffer[] = [];
async function* readFromMemory(pool: Pool, record: StoredMp3): AsyncGenerator<Buffer, void, undefined> {
  if (cached.length === 0) for await (const piece of read(pool, record, "readMp3")) cached.push(piece);
  yield* cached;
}

/** What `readMp3` is compared with: a statement for each row, too. */
async function* readOtherwise(
  pool: Pool,
  { id, chunkBytes }: StoredMp3,
  way: string,
): AsyncGenerator<Buffer, void, undefined> {
  for (let position = 1; (position - 1) * chunkBytes < sizeBytes; position += 1) {
    if (way === "pg-copy-streams") {
      const client = await pool.connect();
      const text = `copy (select bytes from mp3_chunk where record_id = '${id}' and position = ${position})
        to stdout (format binary)`;
      let preamble = 25;
      let left = Math.min(chunkBytes, sizeBytes - (position - 1) * chunkBytes);
      for await (const piece of client.query(copyTo(text)) as AsyncIterable<Buffer>) {
        const bytes = piece.subarray(preamble).subarray(0, left);
        preamble = Math.max(0, preamble - piece.length);
        left -= bytes.length;
        yield bytes;
      }
      client.release();
    } else {
      const field = way === "hex" ? "bytes" : "encode(bytes, 'base64') as bytes";
      const { rows } = await pool.query<{ bytes: Buffer | string }>(
        `select ${field} from mp3_chunk where record_id = $1 and position = $2`,
        [id, position],
      );
      for (const { bytes } of rows) yield typeof bytes === "string" ? Buffer.from(bytes, "base64") : bytes;
    }
  }
}

/** The server under test, in a process of its own: `/<way>/<exit>/<record>/<chunk bytes>`. */
async function serve(host: string, port: number): Promise<void> {
  const pool = new Pool({ host, port, user: "postgres", database: "postgres", max: 10 });
  const app = fastify();
  app.get<{ Params: Record<"way" | "exit" | "id" | "chunk", string> }>(
    "/:way/:exit/:id/:chunk",
    async (request, reply) => {
      const { way, exit, id, chunk } = request.params;
      const stored = { id, headBytes: 0, chunkBytes: Number(chunk), sizeBytes };
      const facts = {
        id,
        sizeBytes,
        lastModified: new Date(0),
        fileName: "a.mp3",
        inline: false,
        cacheControl: "private",
      };
      const { status, headers, body } = answerRecord("GET", request.headers, facts);
      const source = (signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> =>
        way === "readMp3" ? readBody(body, (range) => readMp3(pool, stored, range, signal)) : read(pool, stored, way);
      if (exit === "send") {
        const bytes = Readable.from(source(neverAborted), { objectMode: false });
        return await reply.code(status).headers(headers).send(bytes);
      }
      reply.hijack();
      if (exit === "sendBytes") {
        await sendBytes(reply.raw, { status, headers }, source, 30);
      } else {
        reply.raw.writeHead(status, headers);
        for await (const piece of source(neverAborted)) if (!reply.raw.write(piece)) await once(reply.raw, "drain");
        reply.raw.end();
      }
      return await reply;
    },
  );
  await app.listen({ host: "127.0.0.1", port: 0 });
  const address = app.server.address();
  process.send?.(typeof address === "object" ? address?.port : undefined);
}

/** What curl measures for one download: MB/s, milliseconds to the first byte and in all. */
async function download(url: string, ...options: string[]): Promise<{ rate: number; firstByteMs: number; ms: number }> {
  const format = "%{speed_download} %{time_starttransfer} %{time_total}";
  const { stdout } = await run("curl", ["-sf", "-o", "/dev/null", "-w", format, ...options, url]);
  const [rate = 0, firstByte = 0, total = 0] = stdout.split(" ").map(Number);
  return { rate: rate / 1e6, firstByteMs: firstByte * 1000, ms: total * 1000 };
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((one, other) => one - other)[Math.floor(numbers.length / 2)] ?? NaN;
}

async function report(label: string, url: string, ...options: string[]): Promise<void> {
  await download(url, ...options);
  const downloads = [];
  for (let times = 0; times < 7; times += 1) downloads.push(await download(url, ...options));
  const rates = downloads.map(({ rate }) => rate);
  console.log(
    `${label.padEnd(48)} median ${median(rates).toFixed(0).padStart(5)}  best ${Math.max(...rates)
      .toFixed(0)
      .padStart(5)} MB/s` +
      `  first byte ${median(downloads.map(({ firstByteMs }) => firstByteMs)).toFixed(1)} ms` +
      `  all ${median(downloads.map(({ ms }) => ms)).toFixed(1)} ms`,
  );
}

async function memoryMb(pid: number, field: "VmRSS" | "VmHWM"): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1000;
}

async function startNginx(folder: string): Promise<{ url: string; stop(): void } | undefined> {
  const port = 40_000 + (process.pid % 20_000);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  await writeFile(
    join(folder, "nginx.conf"),
    `daemon off; pid ${folder}/pid; error_log ${folder}/error; worker_processes 1; ${process.getuid?.() === 0 ? "user root;" : ""}
    events {} http { access_log off; sendfile on; ${temporary.join(" ")}
    server { listen 127.0.0.1:${port}; root ${folder}; } }`,
  );
  const nginx = spawn("nginx", ["-c", join(folder, "nginx.conf")], { stdio: "ignore" });
  const isMissing = await Promise.race([once(nginx, "error").then(() => true), once(nginx, "spawn").then(() => false)]);
  if (isMissing) return undefined;
  const url = `http://127.0.0.1:${port}/a.mp3`;
  await download(url, "--retry", "20", "--retry-connrefused", "--retry-delay", "0");
  return { url, stop: () => nginx.kill() };
}

async function main(): Promise<void> {
  const pgPort = 20_000 + (process.pid % 20_000);
  await using postgres = await startScratchPostgres([
    `port=${pgPort}`,
    "listen_addresses=127.0.0.1",
    "shared_buffers=512MB", // five records of 57 MB must not push each other out
  ]);
  const pool = new Pool({ host: postgres.folder, port: pgPort, user: "postgres", database: "postgres" });
  await pool.query(`
    create table audio_record (id uuid primary key, state text not null);
    create table mp3_chunk (record_id uuid references audio_record on delete cascade, position int, bytes bytea not null,
      primary key (record_id, position));
    alter table mp3_chunk alter bytes set storage external`);
  const bytes = randomBytes(sizeBytes);
  async function* frames(): AsyncGenerator<Buffer> {
    for (let start = 0; start < bytes.length; start += 65_536) yield bytes.subarray(start, start + 65_536);
  }
  const records: StoredMp3[] = [];
  for (const kib of [64, 128, 256, 512, 1024]) {
    const id = randomUUID();
    await pool.query("insert into audio_record values ($1, 'receiving')", [id]);
    const begun = performance.now();
    await writeMp3(pool, id, frames(), kib * 1024);
    console.log(`wrote 57 MB in rows of ${kib} KiB in ${(performance.now() - begun).toFixed(0)} ms`);
    records.push({ id, headBytes: 0, chunkBytes: kib * 1024, sizeBytes });
  }

  console.log("\nReading alone, one row at a time");
  for (const record of records) {
    for (const way of ways) {
      const times: number[] = [];
      const cpus: number[] = [];
      for (let round = 0; round < 5; round += 1) {
        const begun = performance.now();
        const cpu = process.cpuUsage();
        let received = 0;
        for await (const piece of read(pool, record, way)) received += piece.length;
        times.push(performance.now() - begun);
        const { user, system } = process.cpuUsage(cpu);
        cpus.push((user + system) / 1000);
        if (received < sizeBytes) throw new Error(`${way} read ${received} bytes`);
      }
      const rate = sizeBytes / 1000 / median(times);
      console.log(
        `${String(record.chunkBytes / 1024).padStart(5)} KiB ${way.padEnd(16)} ${rate.toFixed(0).padStart(5)} MB/s, ${median(cpus).toFixed(0)} ms of CPU`,
      );
    }
  }

  const folder = await mkdtemp(join(tmpdir(), "bench-"));
  await writeFile(join(folder, "a.mp3"), bytes);
  const nginx = await startNginx(folder);
  for (const host of [postgres.folder, "127.0.0.1"]) {
    const server = fork(process.argv[1] ?? "", [host, String(pgPort)]);
    const [port] = await once(server, "message");
    const url = (way: string, exit: string, record: StoredMp3 | undefined): string =>
      `http://127.0.0.1:${port}/${way}/${exit}/${record?.id}/${record?.chunkBytes}`;
    console.log(`\nOver HTTP, the database by ${host === "127.0.0.1" ? "TCP" : "Unix socket"}`);
    if (nginx) await report("nginx, the same bytes as a file", nginx.url);
    for (const way of ways.slice(0, 3))
      await report(`${way}, rows of 256 KiB, sendBytes`, url(way, "sendBytes", records[2]));
    await report("from memory, sendBytes", url("memory", "sendBytes", records[2]));
    for (const record of records) {
      for (const exit of exits)
        await report(`readMp3, rows of ${record.chunkBytes / 1024} KiB, ${exit}`, url("readMp3", exit, record));
    }
    for (const record of records.slice(2, 4)) {
      const ours = url("readMp3", "sendBytes", record);
      const rows = `rows of ${record.chunkBytes / 1024} KiB`;
      const middle = sizeBytes / 2;
      await report(`64 KiB from the start, ${rows}`, ours, "-r", "0-65535");
      await report(`64 KiB from the middle, ${rows}`, ours, "-r", `${middle}-${middle + 65_535}`);
      await report(`10 MB from the start, ${rows}`, ours, "-r", "0-9999999");
      await report(`10 MB from the middle, ${rows}`, ours, "-r", `${middle}-${middle + 9_999_999}`);
    }
    if (nginx) await report("nginx, the same bytes as a file", nginx.url);
    server.kill();
    await once(server, "exit");
  }

  console.log("\nMemory of a fresh server");
  for (const record of records.slice(2, 4)) {
    const server = fork(process.argv[1] ?? "", [postgres.folder, String(pgPort)]);
    const [port] = await once(server, "message");
    const url = `http://127.0.0.1:${port}/readMp3/sendBytes/${record.id}/${record.chunkBytes}`;
    const pid = server.pid ?? 0;
    await download(url, "-r", "0-1");
    const before = await memoryMb(pid, "VmRSS");
    const peaks: string[] = [];
    const together = async (clients: number, ...options: string[]): Promise<void> => {
      const begun = performance.now();
      await Promise.all(Array.from({ length: clients }, () => download(url, ...options)));
      const ms = (performance.now() - begun).toFixed(0);
      const peak = (await memoryMb(pid, "VmHWM")) - before;
      peaks.push(`${[clients, "at once", ...options].join(" ")}: +${peak.toFixed(0)} MB, ${ms} ms`);
    };
    await together(8, "-r", "0-9999999", "--limit-rate", "5M");
    await together(1);
    await together(8);
    await together(8);
    console.log(`rows of ${record.chunkBytes / 1024} KiB: ${before.toFixed(0)} MB, ${peaks.join(", ")}`);
    server.kill();
    await once(server, "exit");
  }
  nginx?.stop();
  await pool.end();
  await rm(folder, { recursive: true });
}

const [, , host, port] = process.argv;
if (host !== undefined) await serve(host, Number(port));
else await main();
