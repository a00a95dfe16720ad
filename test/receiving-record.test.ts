import { describe, expect, it } from "@jest/globals";
import { EncoderPool } from "../src/audio/encoder/encoder-pool.ts";
import { mp3Head } from "../src/audio/mp3-head.ts";
import { openConversion } from "../src/audio/wav-to-mp3.ts";
import { openDatabase, type Database } from "../src/database/database.ts";
import { MemoryBlocks } from "../src/memory/memory-blocks.ts";
import { tables } from "../src/orm-options.ts";
import { shortMp3Bytes, writeMp3 } from "../src/record/mp3-chunks.ts";
import { noCharge } from "../src/limits/write-allowance.ts";
import { beginRecord } from "../src/upload/begin-record.ts";
import { finishRecord, type FinishedRecord } from "../src/upload/finish-record.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { createUser } from "../src/user/create-user.ts";
import { UploadLeases } from "../src/upload/upload-leases.ts";
import { ApiClient } from "./support/api-client.ts";
import { startDatabaseProxy } from "./support/database-proxy.ts";
import { HeldDeletions } from "./support/held-deletions.ts";
import { SentStatements } from "./support/sent-statements.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import { startService } from "./support/service.ts";
import { beginTransaction } from "./support/transaction.ts";
import { openTestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

/** The data of a short recording that was converted. */
async function converted(): Promise<FinishedRecord> {
  await using encoders = new EncoderPool({ ffmpeg });
  const { signal } = new AbortController();
  const conversion = await openConversion(
    (async function* () {
      yield sineWav({ seconds: 1 });
    })(),
    { encoders, quality: "LOW", maxDurationSeconds: 60, signal },
  );
  const pieces: Buffer[] = [];
  const frames = conversion.frames();
  let next = await frames.next();
  for (; !next.done; next = await frames.next()) pieces.push(next.value);
  const facts = next.value;
  const unstored = Buffer.concat(pieces);
  const head = mp3Head(facts, "Take");
  return { title: "Take", fileName: "take.wav", head, store: "postgres", frameBytes: unstored.length, unstored, facts };
}

const owner = {
  id: 1,
  name: "Ann",
  createdAt: new Date(),
  isVouchedFor: true,
  tokenId: null,
  scopes: ["WRITE" as const],
  expiresAt: null,
  playKey: null,
};

it("is a conflict if the recording or its user is deleted before the upload is complete", async () => {
  await using service = await startService();
  const finished = await converted();
  const em = service.server.database.em.fork();
  const conflict = { code: "CONFLICT", message: expect.stringContaining("deleted while it was being uploaded") };
  await new ApiClient(service.url).createUser("Ann");
  for (const ownerId of [1, 2]) {
    for (const records of [0, 1]) {
      const quota = { bytes: 0, seconds: 0, records };
      const finishing = finishRecord(em, crypto.randomUUID(), { ...owner, id: ownerId }, finished, quota);
      await expect(finishing).rejects.toMatchObject(conflict);
    }
  }
});

it("tells the user of an upload that begins while the user is being deleted", async () => {
  await using service = await startService();
  const { id } = await new ApiClient(service.url).createUser("Ann");
  const { em } = service.server.database;
  await using deleting = await beginTransaction(service.databaseUrl, "delete from app_user where id = $1", [id]);
  const upload = {
    id: crypto.randomUUID(),
    ownerId: Number(id),
    fileName: "take.wav",
    visibility: "PUBLIC" as const,
    idempotencyKey: undefined,
    store: "postgres" as const,
  };
  const beginning = beginRecord(em, upload, { quota: { bytes: 0, seconds: 0, records: 0 }, charge: noCharge });
  const failure = beginning.catch((error: unknown) => error);
  expect(await deleting.untilWaiting(1)).toBe(1);
  await deleting.commit();
  expect(await failure).toMatchObject({ code: "UNAUTHENTICATED", message: "The user has been deleted." });
});

describe("leases", () => {
  const logger = createLogger({ logLevel: "silent" });

  /** Inserts receiving recordings whose leases end after so many seconds, with so many rows each. */
  async function receive({ pool }: Database, ownerId: string, leases: readonly number[], rows = 0): Promise<string[]> {
    const { rows: records } = await pool.query<{ id: string }>(
      `insert into audio_record (id, owner_id, state, lease_until, title, file_name, chunk_bytes, visibility)
       select gen_random_uuid(), $1, 'receiving', now() + make_interval(secs => lease), '', '', 1, 'PUBLIC'
       from unnest($2::int[]) lease returning id`,
      [ownerId, leases],
    );
    const ids = records.map(({ id }) => id);
    await pool.query(
      "insert into mp3_chunk select id, position, '' from unnest($1::uuid[]) id, generate_series(1, $2) position",
      [ids, rows],
    );
    return ids;
  }

  const newOwner = async ({ em }: Database): Promise<string> => String((await createUser(em, "Ann")).user.id);

  /** More of them than are deleted at once: the seconds until their leases end. */
  const dead = Array.from({ length: 45 }, () => -1);

  const left = async ({ pool }: Database): Promise<string[]> =>
    (await pool.query<{ id: string }>("select id from audio_record order by id")).rows.map(({ id }) => id);

  it("delete what dead uploads have left, in small parts", async () => {
    await using database = await openTestDatabase();
    const id = await newOwner(database);
    await receive(database, id, dead, 9);
    const alive = await receive(database, id, [60, 60], 9);
    using sent = new SentStatements(database.pool);
    await using leases = new UploadLeases(database.em, logger, 0);
    await leases.sweep();
    expect(await left(database)).toEqual(alive.toSorted());
    const deletions = sent.take().filter((statement) => statement.startsWith('delete from "mp3_chunk"'));
    expect(deletions.length).toBeGreaterThanOrEqual(Math.ceil((45 * 9) / 64));
  });

  it("delay no start", async () => {
    await using first = await startService();
    const { database } = first.server;
    const { id } = await new ApiClient(first.url).createUser("Ann");
    await receive(database, id, [-1], 9);
    await database.pool.query("update audio_record set state = 'dead'");
    const deletions = await HeldDeletions.of(database.pool, "mp3_chunk");
    await using second = await startService({ DATABASE_URL: first.databaseUrl, DATABASE_TIMEOUT_SECONDS: "60" });
    await deletions.one();
    expect((await fetch(`${second.url}/readyz`)).status).toBe(200);
    await deletions.letGo();
    expect(
      await until(
        async () => await left(database),
        ({ length }) => length === 0,
      ),
    ).toEqual([]);
  });

  it("delay a stop by no more than the part that is being deleted", async () => {
    await using database = await openTestDatabase();
    const id = await newOwner(database);
    await receive(database, id, dead, 9);
    const deletions = await HeldDeletions.of(database.pool, "mp3_chunk");
    const leases = new UploadLeases(database.em, logger, 0);
    const sweeping = leases.sweep();
    await deletions.one();
    const stopping = leases[Symbol.asyncDispose]();
    await deletions.letGo();
    await Promise.all([sweeping, stopping]);
    expect((await database.pool.query("select from mp3_chunk")).rowCount).toBe(45 * 9 - 64);
  });

  it("wait for nobody who deletes or locks the same recordings", async () => {
    await using database = await openTestDatabase();
    const id = await newOwner(database);
    const [locked] = await receive(database, id, [-1]);
    await using other = await beginTransaction(database.url, "select from audio_record where id = $1 for update", [
      locked,
    ]);
    await receive(database, id, [-1, -1], 3);
    await using leases = new UploadLeases(database.em, logger, 0);
    await leases.sweep();
    expect(await left(database)).toEqual([locked]);
    await other.commit();
    await leases.sweep();
    expect(await left(database)).toEqual([]);
  });

  it("let no row be added to a dead upload", async () => {
    await using database = await openTestDatabase();
    const id = await newOwner(database);
    const [dead] = await receive(database, id, [-1]);
    await database.pool.query("update audio_record set state = 'dead'");
    async function* frames(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(shortMp3Bytes + 1);
    }
    const writing = writeMp3(database.em, new MemoryBlocks(16, 2), dead!, frames());
    await expect(writing).rejects.toMatchObject({ code: "CONFLICT" });
    const quota = { bytes: 0, seconds: 0, records: 0 };
    const finishing = finishRecord(database.em.fork(), dead!, { ...owner, id: Number(id) }, await converted(), quota);
    await expect(finishing).rejects.toMatchObject({ code: "CONFLICT" });
    const { rows } = await database.pool.query("select from mp3_chunk where record_id = $1", [dead]);
    expect(rows).toEqual([]);
  });

  it("leave the uploads of other replicas alone after the database was away for longer than a lease", async () => {
    await using service = await startService();
    await using proxy = await startDatabaseProxy(service.databaseUrl);
    const options = { poolSize: 2, timeoutSeconds: 2, tables };
    await using database = await openDatabase(proxy.url, options, logger);
    const { id } = await new ApiClient(service.url).createUser("Ann");
    await using first = new UploadLeases(database.em, logger, 2);
    await using second = new UploadLeases(database.em, logger, 2);

    // The first replica has watched for long enough.
    const [dead] = await receive(database, id, [-1]);
    const swept = async () => {
      await first.sweep();
      return await left(database);
    };
    expect(await until(swept, ({ length }) => length === 0)).toEqual([]);
    expect(dead).toBeDefined();

    const [theirs] = await receive(database, id, [60]);
    using _held = second.hold(theirs!);
    proxy.cut();
    await first.sweep();
    await service.server.database.pool.query("update audio_record set lease_until = now() - interval '1 s'");
    proxy.restore();
    await first.sweep();
    expect(await left(database)).toEqual([theirs]);
    await second.sweep();
    const { rows } = await database.pool.query("select lease_until > now() as renewed, state from audio_record");
    expect(rows).toEqual([{ renewed: true, state: "receiving" }]);
  });
});

it("finds the row of an upload by its id, however many uploads run", async () => {
  await using service = await startService();
  const { pool } = service.server.database;
  const { id: owner } = await new ApiClient(service.url).createUser("Ann");
  const insert = (state: string, lease: string) =>
    pool.query(
      `insert into audio_record (id, owner_id, state, lease_until, title, file_name, chunk_bytes)
       select gen_random_uuid(), $1, '${state}', ${lease}, '', '', 1 from generate_series(1, 3000)`,
      [owner],
    );
  await insert("ready", "null");
  await pool.query("analyze audio_record");
  // As in a large table: the statistics know of no upload.
  await insert("receiving", "now() + interval '1 min'");
  const { rows } = await pool.query(
    "explain select id from audio_record where id = '00000000-0000-4000-8000-000000000000' and state = 'receiving'",
  );
  expect(rows.map((row) => row["QUERY PLAN"]).join("\n")).toContain("audio_record_pkey");
});

it("has its waveform in a table of its own, and old recordings still show theirs", async () => {
  await using service = await startService();
  const client = new ApiClient(service.url);
  const ann = await client.createUser("Ann");
  const { data } = await client.uploadRecord(ann, sineWav({ seconds: 30 }), { fields: "id peaks waveformUrl" });
  const { id, peaks, waveformUrl } = data.uploadRecord.record;
  const json = await (await fetch(waveformUrl)).json();
  const { pool } = service.server.database;
  const { rows } = await pool.query("select pg_column_size(audio_record.*) as bytes, waveform from audio_record");
  expect(rows[0].waveform).toBeNull();
  expect(rows[0].bytes).toBeLessThan(700);
  await pool.query("update audio_record set waveform = overview, waveform_detail = detail from record_waveform");
  await pool.query("delete from record_waveform");
  expect((await client.run(`{ record(id: "${id}") { peaks } }`, {}, ann)).data.record.peaks).toEqual(peaks);
  expect(await (await fetch(waveformUrl)).json()).toEqual(json);
});
