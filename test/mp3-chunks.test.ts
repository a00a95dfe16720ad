import { afterAll, beforeAll, expect, it } from "@jest/globals";
import { randomBytes } from "node:crypto";
import { Pool } from "pg";
import { v4 as uuidv4 } from "uuid";
import { openDatabase, type Database } from "../src/database/database.ts";
import { tables } from "../src/orm-options.ts";
import { MemoryBlocks } from "../src/memory/memory-blocks.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import type { StoredMp3 } from "../src/record/mp3-chunks.ts";
import { readMp3, shortMp3Bytes, writeMp3 } from "../src/record/mp3-chunks.ts";
import { createUser } from "../src/user/create-user.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { beginTransaction } from "./support/transaction.ts";

const chunkBytes = 10_000;
const rowMemory = new MemoryBlocks(chunkBytes, 4);
const neverAborted = new AbortController().signal;
const poolSize = 10;
let empty: TestDatabase;
let database: Database;
let ownerId: number;

beforeAll(async () => {
  empty = await createTestDatabase();
  database = await openDatabase(
    empty.url,
    { poolSize, timeoutSeconds: 10, tables },
    createLogger({ logLevel: "silent" }),
  );
  ({
    user: { id: ownerId },
  } = await createUser(database.em, "Ann"));
});

afterAll(async () => {
  await database[Symbol.asyncDispose]();
  await empty[Symbol.asyncDispose]();
});

async function beginRecord(): Promise<string> {
  const id = uuidv4();
  await database.pool.query(
    "insert into audio_record (id, owner_id, state, title, file_name, chunk_bytes) values ($1, $2, 'receiving', '', '', $3)",
    [id, ownerId, chunkBytes],
  );
  return id;
}

async function insertRow(id: string, position: number, bytes: Buffer): Promise<void> {
  await database.pool.query("insert into mp3_chunk values ($1, $2, $3)", [id, position, bytes]);
}

async function removeRecord(id: string): Promise<void> {
  await database.pool.query("delete from audio_record where id = $1", [id]);
}

async function* inPieces(bytes: Buffer, pieceBytes: number): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += pieceBytes) yield bytes.subarray(start, start + pieceBytes);
}

async function storeRecord(head: Buffer, frames: Buffer): Promise<StoredMp3> {
  const id = await beginRecord();
  const { unstored } = await writeMp3(database.em, rowMemory, id, inPieces(frames, 3_333));
  if (head.length > 0) await insertRow(id, 0, head);
  if (unstored) await insertRow(id, 1, unstored);
  await database.pool.query("update audio_record set state = 'ready' where id = $1", [id]);
  return { id, headBytes: head.length, chunkBytes, sizeBytes: head.length + frames.length };
}

async function readRange(record: StoredMp3, start: number, end: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of readMp3(database.pool, rowMemory, record, { start, end }, neverAborted)) {
    pieces.push(Buffer.from(piece));
  }
  return Buffer.concat(pieces);
}

it.each([
  ["no byte", 0, 0],
  ["one byte", 1, 1],
  ["a byte less than a row", chunkBytes - 1, 1],
  ["exactly one row", chunkBytes, 1],
  ["a byte more than a row", chunkBytes + 1, 2],
  ["exactly three rows", 3 * chunkBytes, 3],
])("stores %s in rows of the chunk size", async (_what, byteLength, chunks) => {
  const id = await beginRecord();
  const frames = randomBytes(byteLength);
  const { unstored, ...written } = await writeMp3(database.em, rowMemory, id, inPieces(frames, 7_001));
  expect(written).toEqual({ byteLength });
  if (unstored) await insertRow(id, 1, unstored);
  const { rows } = await database.pool.query<{ position: number; bytes: Buffer }>(
    "select position, bytes from mp3_chunk where record_id = $1 order by position",
    [id],
  );
  expect(rows.map((row) => row.position)).toEqual(Array.from({ length: chunks }, (_, index) => index + 1));
  expect(rows.slice(0, -1).every((row) => row.bytes.length === chunkBytes)).toBe(true);
  expect(Buffer.concat(rows.map((row) => row.bytes)).equals(frames)).toBe(true);
});

it.each([
  ["nothing", 0, 0],
  ["one byte", 1, 0],
  ["a short MP3", shortMp3Bytes, 0],
  ["a byte more than a short MP3", shortMp3Bytes + 1, 1],
])("stores no row of a short MP3, which it returns: %s", async (_what, byteLength, rowCount) => {
  const blocks = new MemoryBlocks(1024 * 1024, 2);
  const id = await beginRecord();
  const frames = randomBytes(byteLength);
  const { unstored } = await writeMp3(database.em, blocks, id, inPieces(frames, 417));
  const { rows } = await database.pool.query("select from mp3_chunk where record_id = $1", [id]);
  expect(rows).toHaveLength(rowCount);
  // The blocks are used for the next one.
  await writeMp3(database.em, blocks, await beginRecord(), inPieces(randomBytes(byteLength), 417));
  expect(unstored).toEqual(byteLength > 0 && rowCount === 0 ? frames : undefined);
});

it("reads any range back as it was stored, with and without a head", async () => {
  const frames = randomBytes(3 * chunkBytes + 17);
  for (const head of [randomBytes(500), Buffer.alloc(0)]) {
    const record = await storeRecord(head, frames);
    const whole = Buffer.concat([head, frames]);
    const edges = [0, 1, head.length - 1, head.length, head.length + chunkBytes - 1, head.length + chunkBytes];
    const offsets = [...edges, whole.length - 1].filter((offset) => offset >= 0);
    for (const start of offsets) {
      for (const end of offsets.filter((offset) => offset >= start)) {
        expect((await readRange(record, start, end)).equals(whole.subarray(start, end + 1))).toBe(true);
      }
    }
  }
});

it("reads a row that arrives in many pieces", async () => {
  const frames = randomBytes(1_500_000);
  const id = await beginRecord();
  await writeMp3(database.em, new MemoryBlocks(700_000, 0), id, inPieces(frames, 65_536));
  const record = { id, headBytes: 0, chunkBytes: 700_000, sizeBytes: frames.length };
  expect((await readRange(record, 0, frames.length - 1)).equals(frames)).toBe(true);
});

it("reads over connections that cannot read directly to a destination, such as TLS", async () => {
  const frames = randomBytes(1_500_000);
  const id = await beginRecord();
  await writeMp3(database.em, new MemoryBlocks(700_000, 0), id, inPieces(frames, 65_536));
  const record = { id, headBytes: 0, chunkBytes: 700_000, sizeBytes: frames.length };
  const pool = new Pool({ connectionString: empty.url });
  const pieces: Buffer[] = [];
  for await (const piece of readMp3(pool, rowMemory, record, { start: 5, end: frames.length - 1 }, neverAborted)) {
    pieces.push(Buffer.from(piece));
  }
  await pool.end();
  expect(Buffer.concat(pieces).equals(frames.subarray(5))).toBe(true);
});

it("returns its memory when all was read, but not while something may still use it", async () => {
  const record = await storeRecord(Buffer.alloc(0), randomBytes(5 * chunkBytes));
  const blocks = new MemoryBlocks(chunkBytes, 4);
  const used = async (pieces: number) => {
    const reader = readMp3(database.pool, blocks, record, { start: 0, end: 5 * chunkBytes - 1 }, neverAborted);
    const memories = new Set<unknown>();
    for (let count = 0; count < pieces; count += 1) memories.add((await reader.next()).value?.buffer);
    await reader.return();
    return memories;
  };
  const spare = () => [blocks.take(), blocks.take()].map(({ buffer }) => buffer);
  const ofGivenUp = await used(2);
  expect(spare().filter((memory) => ofGivenUp.has(memory))).toEqual([]);
  const ofWhole = await used(6);
  expect(spare().filter((memory) => ofWhole.has(memory))).toHaveLength(2);
});

it("mixes nothing up when the memory of one download is reused, even of an aborted one", async () => {
  const stored: { record: StoredMp3; frames: Buffer }[] = [];
  for (let i = 0; i < 6; i++) {
    const frames = randomBytes(4 * chunkBytes + 100 * i);
    stored.push({ record: await storeRecord(Buffer.alloc(0), frames), frames });
  }
  const rounds = Array.from({ length: 4 }, () => stored).flat();
  const outcomes = rounds.map(async ({ record, frames }, i) => {
    if (i % 3 !== 0) return (await readRange(record, 0, frames.length - 1)).equals(frames);
    const reader = readMp3(database.pool, rowMemory, record, { start: 0, end: frames.length - 1 }, neverAborted);
    const first = (await reader.next()).value ?? Buffer.alloc(0);
    const isRight = first.equals(frames.subarray(0, chunkBytes));
    await reader.return();
    return isRight;
  });
  expect(await Promise.all(outcomes)).toEqual(rounds.map(() => true));
});

it("takes no memory for rows before the first frame, and one block for a short MP3", async () => {
  let taken = 0;
  class CountedBlocks extends MemoryBlocks {
    override take(): Buffer {
      taken += 1;
      return super.take();
    }
  }
  const blocks = new CountedBlocks(chunkBytes, 0);
  await writeMp3(database.em, blocks, await beginRecord(), inPieces(Buffer.alloc(0), 1));
  expect(taken).toBe(0);
  await writeMp3(database.em, blocks, await beginRecord(), inPieces(randomBytes(5000), 417));
  expect(taken).toBe(1);
});

it("ends an upload whose record is removed, without reading on", async () => {
  const id = await beginRecord();
  let pieces = 0;
  async function* endless(): AsyncGenerator<Buffer> {
    for (;;) {
      pieces += 1;
      if (pieces === 5) await removeRecord(id);
      yield Buffer.alloc(chunkBytes);
    }
  }
  await expect(writeMp3(database.em, rowMemory, id, endless())).rejects.toMatchObject({ code: "CONFLICT" });
  expect(pieces).toBeLessThan(10);
});

it("stores nothing for a record that is ready", async () => {
  const record = await storeRecord(randomBytes(10), randomBytes(shortMp3Bytes + 1));
  const more = writeMp3(database.em, rowMemory, record.id, inPieces(randomBytes(shortMp3Bytes + 1), 999));
  await expect(more).rejects.toMatchObject({ code: "CONFLICT" });
});

it("passes on the error of its source after the last insert", async () => {
  const id = await beginRecord();
  async function* failing(): AsyncGenerator<Buffer> {
    yield Buffer.alloc(chunkBytes);
    throw new Error("the encoder died");
  }
  await expect(writeMp3(database.em, rowMemory, id, failing())).rejects.toThrow("the encoder died");
  expect(database.pool.idleCount).toBe(database.pool.totalCount);
});

it("ends with an error, not with wrong bytes, when the record is removed in the middle", async () => {
  const frames = randomBytes(5 * chunkBytes);
  const record = await storeRecord(Buffer.alloc(0), frames);
  const reader = readMp3(database.pool, rowMemory, record, { start: 0, end: frames.length - 1 }, neverAborted);
  const received = [(await reader.next()).value ?? Buffer.alloc(0)];
  await removeRecord(record.id);
  await expect(
    (async () => {
      for await (const piece of reader) received.push(piece);
    })(),
  ).rejects.toMatchObject({ code: "NOT_FOUND" });
  const bytes = Buffer.concat(received);
  expect(bytes.length).toBeLessThanOrEqual(2 * chunkBytes);
  expect(bytes.equals(frames.subarray(0, bytes.length))).toBe(true);
});

it("refuses a row of another size than the record says", async () => {
  const record = await storeRecord(Buffer.alloc(0), randomBytes(chunkBytes));
  await expect(readRange(record, 0, chunkBytes)).rejects.toMatchObject({ code: "NOT_FOUND" });
  await expect(readRange({ ...record, chunkBytes: chunkBytes + 1 }, 0, chunkBytes)).rejects.toThrow(/bytes came in/);
});

it("stops at once when it is aborted, even while it waits for a connection", async () => {
  const record = await storeRecord(Buffer.alloc(0), randomBytes(5 * chunkBytes));
  const abort = new AbortController();
  const clients = await Promise.all(Array.from({ length: poolSize }, () => database.pool.connect()));
  const reader = readMp3(database.pool, rowMemory, record, { start: 0, end: 100 }, abort.signal);
  const first = reader.next();
  abort.abort(new Error("the client went away"));
  await expect(first).rejects.toThrow("the client went away");
  for (const client of clients) client.release();
  expect((await readRange(record, 0, 9)).length).toBe(10);
  expect(database.pool.waitingCount).toBe(0);
});

it("holds no connection while its consumer is slow, and reads at most one row ahead", async () => {
  const record = await storeRecord(Buffer.alloc(0), randomBytes(5 * chunkBytes));
  const readers = Array.from({ length: 30 }, () =>
    readMp3(database.pool, rowMemory, record, { start: 0, end: 5 * chunkBytes - 1 }, neverAborted),
  );
  for (const reader of readers) await reader.next();
  expect((await database.pool.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  await removeRecord(record.id);
  for (const reader of readers) await reader.return();
  expect(database.pool.waitingCount).toBe(0);
});

it("fails, and the pool recovers, when the server ends the connection", async () => {
  const record = await storeRecord(Buffer.alloc(0), randomBytes(5 * chunkBytes));
  await using locker = await beginTransaction(empty.url, "lock table mp3_chunk in access exclusive mode");
  const reading = readRange(record, 0, 99);
  reading.catch(() => {});
  expect(await locker.untilWaiting(1)).toBe(1);
  const { rowCount } = await database.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and query like 'copy (%' and wait_event_type = 'Lock'`,
  );
  expect(rowCount).toBe(1);
  await expect(reading).rejects.toThrow(/terminat/);
  await locker.commit();
  expect((await readRange(record, 0, 99)).length).toBe(100);
});

it("refuses an id that is no UUID before it reaches SQL", async () => {
  const record = { id: "x' or true --", headBytes: 0, chunkBytes, sizeBytes: 1 };
  await expect(readRange(record, 0, 0)).rejects.toThrow(TypeError);
});
