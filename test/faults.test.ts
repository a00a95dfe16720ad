import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { openDatabase } from "../src/database/database.ts";
import { tables } from "../src/orm-options.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { UploadLeases } from "../src/upload/upload-leases.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { encodersOf, forkServersOf } from "./support/ffmpeg.ts";
import { startHalfUpload, uploadRequest } from "./support/half-upload.ts";
import { connectRaw } from "./support/raw-http.ts";
import { append, begin } from "./support/resumable.ts";
import { startServiceProcess, type ServiceProcess } from "./support/service-process.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const short = sineWav({ seconds: 3, channels: 1 });
const long = sineWav({ seconds: 20, channels: 2 });

/**
 * Whether a process has blocked SIGTERM, which takes its first program some hundred microseconds (proc_pid_status(5)).
 */
function blocksTermination(pid: number): boolean {
  const blocked = /^SigBlk:\s*([\da-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? "0";
  return (BigInt(`0x${blocked}`) & (1n << 14n)) !== 0n;
}

describe("after a fault", () => {
  let database: TestDatabase;
  let service: ServiceProcess;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    database = await createTestDatabase();
    service = await startServiceProcess({
      NODE_ENV: "production",
      DATABASE_URL: database.url,
      ENCODERS: "2",
      MAX_UPLOAD_BYTES: "4000000",
      MAX_DURATION_SECONDS: "60",
    });
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  /** Counts what a failed upload could leave behind: processes, rows and transactions. */
  async function remains(at = service): Promise<string> {
    const connection = new Client({ connectionString: database.url });
    await connection.connect();
    try {
      const { rows } = await connection.query(
        `select (select count(*) from audio_record where state = 'receiving') as records,
           (select count(*) from mp3_chunk c join audio_record r on r.id = c.record_id where r.state <> 'ready') as chunks,
           (select count(*) from pg_stat_activity where datname = current_database()
             and pid <> pg_backend_pid() and state <> 'idle' and backend_type = 'client backend') as transactions`,
      );
      const { records, chunks, transactions } = rows[0];
      const processes = (await encodersOf(at.child.pid)).length;
      return `${processes} processes, ${records} records, ${chunks} chunks, ${transactions} transactions`;
    } finally {
      await connection.end();
    }
  }

  const nothing = "0 processes, 0 records, 0 chunks, 0 transactions; the next upload: 200";

  async function aftermath(at = service): Promise<string> {
    const left = async () =>
      await until(
        async () => await remains(at),
        (found) => nothing.startsWith(found),
      );
    const after = `${await left()}; the next upload: ${(await client.uploadRecord(ann, short)).status}`;
    await left(); // An encoder outlives its upload for a moment. The next test would take it for its own.
    return after;
  }

  async function startUpload() {
    const upload = await startHalfUpload(service.port, ann, long);
    const seen = await until(
      async () => await remains(),
      (found) => found.includes(" 1 records"),
    );
    expect(seen).toContain("1 records");
    return upload;
  }

  async function encoders(at = service): Promise<number[]> {
    return await until(
      async () => await encodersOf(at.child.pid),
      (found) => found.length > 0,
    );
  }

  async function errorOf(answer: { status: number; body: string } | undefined) {
    return { status: answer?.status, code: JSON.parse(answer!.body).errors[0].extensions.code as string };
  }

  it("of a client that resets its connection at any byte, nothing is left", async () => {
    const { bytes, fileStart } = uploadRequest(ann, short);
    const random = seeded(4);
    const cuts = [fileStart, fileStart + 44, bytes.length - 1].concat(
      Array.from({ length: 25 }, () => Math.floor(random() * bytes.length)),
    );
    for (const cut of cuts) {
      const connection = await connectRaw(service.port);
      await connection.send(bytes.subarray(0, cut));
      connection.reset();
    }
    expect(await aftermath()).toBe(nothing);
  });

  it("of SIGTERM to the whole process group, the encoders continue, so that running uploads finish", async () => {
    using upload = await startUpload();
    const children = await until(
      async () => await encoders(),
      (found) => found.every(blocksTermination),
    );
    const group = [...children, ...(await forkServersOf(service.child.pid))];
    for (const child of group) process.kill(child, "SIGTERM");
    void upload.finish();
    const answer = await upload.connection.answer();
    expect(answer?.status).toBe(200);
    expect(await aftermath()).toBe(nothing);
  });

  it.each(["SIGKILL", "SIGABRT", "SIGSEGV"] as const)(
    "of an upload whose ffmpeg met %s, nothing is left",
    async (signal) => {
      using upload = await startUpload();
      const children = await encoders();
      for (const child of children) process.kill(child, signal);
      void upload.finish();
      const answer = await upload.connection.answer();
      expect(await errorOf(answer)).toEqual({ status: 500, code: "CONVERSION_FAILED" });
      const { requestId } = JSON.parse(answer!.body).errors[0].extensions;
      expect(requestId).toBe(answer!.headers.get("x-request-id"));
      const logged = await until(
        () => service.log.map((line) => JSON.parse(line)).find(({ reqId, code }) => reqId === requestId && code),
        (line) => line !== undefined,
      );
      expect(logged).toMatchObject({ msg: "request failed", code: "CONVERSION_FAILED", err: expect.any(Object) });
      expect(await aftermath()).toBe(nothing);
    },
  );

  it("of an upload whose ffmpeg is stopped, nothing is left", async () => {
    // Long enough to find and stop the encoder, while the client sends nothing.
    await using impatient = await startServiceProcess({ DATABASE_URL: database.url, STALL_TIMEOUT_SECONDS: "8" });
    using upload = await startHalfUpload(impatient.port, ann, long);
    for (const child of await encoders(impatient)) process.kill(child, "SIGSTOP");
    void upload.finish();
    const { status, code } = await errorOf(await upload.connection.answer());
    expect({ status, code }).toEqual({ status: 500, code: "CONVERSION_FAILED" });
    expect(await aftermath(impatient)).toBe(nothing);
  });

  it("of a client that stops sending, nothing is left", async () => {
    // Longer than an encoder waits for a processor on a busy machine. Such a wait would end as BUSY.
    await using impatient = await startServiceProcess({ DATABASE_URL: database.url, STALL_TIMEOUT_SECONDS: "8" });
    using upload = await startHalfUpload(impatient.port, ann, long);
    expect(await errorOf(await upload.connection.answer())).toEqual({ status: 408, code: "UPLOAD_STALLED" });
    const isLogged = () => impatient.log.some((line) => line.includes('"code":"UPLOAD_STALLED"'));
    expect(await until(isLogged, (logged) => logged)).toBe(true);
    expect(await aftermath(impatient)).toBe(nothing);
  });

  it("of a service that stood still, no client is taken for one that stopped sending", async () => {
    await using paused = await startServiceProcess({ DATABASE_URL: database.url, STALL_TIMEOUT_SECONDS: "4" });
    const mayGoOn = Promise.withResolvers<void>();
    const middle = Math.floor(long.length / 2);
    const halves = async function* () {
      yield long.subarray(0, middle);
      await mayGoOn.promise;
      yield long.subarray(middle);
    };
    const { url } = await begin(new ApiClient(paused.url), ann, { sizeBytes: long.length });
    const portion = append(url, Readable.from(halves()), 0);
    using upload = await startHalfUpload(paused.port, ann, long);
    const atWork = await until(
      async () => await encoders(paused),
      ({ length }) => length >= 2,
    );
    expect(atWork.length).toBeGreaterThanOrEqual(2);
    paused.child.kill("SIGSTOP");
    mayGoOn.resolve();
    void upload.finish();
    await delay(5000);
    paused.child.kill("SIGCONT");
    expect((await upload.connection.answer())?.status).toBe(200);
    expect((await portion).status).toBe(200);
    expect(await aftermath(paused)).toBe(nothing);
  });

  it("of a file that is too large in the middle, nothing is left", async () => {
    const answer = await client.uploadRecord(ann, sineWav({ seconds: 30, channels: 2 }));
    expect(answer.errors![0]!.extensions).toMatchObject({ code: "UPLOAD_TOO_LARGE", maxBytes: 4_000_000 });
    expect(await aftermath()).toBe(nothing);
  });

  it("of sound that is too long in the middle, nothing is left", async () => {
    const wav = sineWav({ seconds: 70, channels: 1, sampleRateHz: 8000 });
    wav.writeUInt32LE(0xffff_ffff, 40); // the header does not state it
    const answer = await client.uploadRecord(ann, wav);
    expect(answer.errors![0]!.extensions).toMatchObject({ code: "UPLOAD_TOO_LONG", maxSeconds: 60 });
    expect(await aftermath()).toBe(nothing);
  });

  it("of idle connections to the database that were ended, an upload takes no notice", async () => {
    using upload = await startUpload();
    const connection = new Client({ connectionString: database.url });
    await connection.connect();
    const { rowCount } = await connection.query(
      "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
    );
    await connection.end();
    expect(rowCount).toBeGreaterThan(0);
    // The service has noticed when it is ready again.
    const ready = async () => (await fetch(`${service.url}/readyz`)).status;
    expect(await until(ready, (status) => status === 200)).toBe(200);
    void upload.finish();
    const answer = await upload.connection.answer();
    expect(answer!.status).toBe(200);
    expect(await aftermath()).toBe(nothing);
  });

  it("of a service that was killed, any sweeper deletes what is dead, and nothing that is alive", async () => {
    await using other = await startServiceProcess({ DATABASE_URL: database.url });
    const theirs = new ApiClient(other.url);
    expect((await theirs.run("{ __typename }")).status).toBe(200);
    using dead = await startHalfUpload(other.port, ann, long);
    const records = async () => {
      const connection = new Client({ connectionString: database.url });
      await connection.connect();
      const { rows } = await connection.query("select id from audio_record where state = 'receiving'");
      await connection.end();
      return rows.map(({ id }) => id as string);
    };
    const [deadId] = await until(records, ({ length }) => length === 1);
    other.child.kill("SIGKILL");
    await other.ended;
    dead.connection.reset();
    expect(await records()).toEqual([deadId]);

    await using second = await startServiceProcess({ DATABASE_URL: database.url });
    using alive = await startHalfUpload(second.port, ann, long);
    expect(await until(records, ({ length }) => length === 2)).toHaveLength(2);
    const connection = new Client({ connectionString: database.url });
    await connection.connect();
    await connection.query("update audio_record set lease_until = now() - interval '1 s' where id = $1", [deadId]);
    await connection.end();
    // A replica that has just started would wait first.
    const logger = createLogger({ logLevel: "silent" });
    await using third = await openDatabase(database.url, { poolSize: 2, timeoutSeconds: 10, tables }, logger);
    await using leases = new UploadLeases(third.em, logger, 0);
    await leases.sweep();
    expect(await records()).toEqual([expect.not.stringMatching(deadId!)]);
    await alive.finish();
    expect((await alive.connection.answer())!.status).toBe(200);
    expect(await aftermath()).toBe(nothing);
  });

  it("writes each upload and each refusal to the log, and no token anywhere", async () => {
    const wrong = crypto.randomUUID();
    await client.uploadRecord({ id: ann.id, token: wrong }, short);
    await fetch(`${service.url}/graphql?token=${ann.token}&query={__typename}`);
    await fetch(`${service.url}/record?id=${ann.token}&user=1&token=${ann.token}`);
    await client.run(`{ record(id: "${ann.token}") { id } }`, { token: ann.token }, ann);
    await client.uploadRecord(ann, short, {
      declarations: ", $userId: ID, $token: UUID",
      args: ", userId: $userId, token: $token",
      variables: { userId: ann.id, token: `${ann.token}x` },
    });
    // Once this line has been read, all earlier lines have been read as well.
    const last = (await fetch(`${service.url}/nothing`)).headers.get("x-request-id")!;
    const isOver = () => service.log.some((line) => line.includes(last) && line.includes("request completed"));
    expect(await until(isOver, (over) => over)).toBe(true);
    const lines = service.log.map((line) => JSON.parse(line) as Record<string, unknown>);
    const all = service.log.join("\n");
    expect(all).not.toContain(ann.token);
    expect(all).not.toContain(wrong);
    expect(lines.find(({ msg }) => msg === "upload stored")).toMatchObject({
      reqId: expect.any(String),
      user: Number(ann.id),
      record: expect.any(String),
      sourceBytes: short.length,
      mp3Bytes: expect.any(Number),
      soundSeconds: 3,
      ms: expect.any(Number),
    });
    const codes = lines.filter(({ msg }) => msg === "request refused").map(({ code }) => code);
    expect(codes).toEqual(expect.arrayContaining(["UNAUTHENTICATED", "UPLOAD_TOO_LARGE", "UPLOAD_TOO_LONG"]));
  });
});

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
