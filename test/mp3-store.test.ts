import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { S3 } from "@aws-sdk/client-s3";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { v4 as uuidv4 } from "uuid";
import { openDatabase, type Database } from "../src/database/database.ts";
import { noCharge, type Charge } from "../src/limits/write-allowance.ts";
import { MemoryBlocks } from "../src/memory/memory-blocks.ts";
import { tables } from "../src/orm-options.ts";
import { chunkBytes } from "../src/record/mp3-chunks.ts";
import { Mp3Store, type PlacedMp3 } from "../src/record/mp3-store.ts";
import { ObjectSweeper } from "../src/record/object-sweeper.ts";
import { headRoomBytes, openS3Mp3Store, partBytes, type S3Mp3Store } from "../src/record/s3-mp3-store.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { createUser } from "../src/user/create-user.ts";
import { startCephRgw, type CephRgw } from "./support/ceph-rgw.ts";
import { needs } from "./support/needs.ts";
import { answerTo, probes, type ProbedBucket } from "./support/s3-probes.ts";
import { startStrictS3, type S3Keys, type StrictS3 } from "./support/strict-s3.ts";
import { startTcpProxy, type TcpProxy } from "./support/tcp-proxy.ts";
import { createTestDatabase, type TestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";

const bucket = "music";
const logger = createLogger({ logLevel: "silent" });
const rowMemory = new MemoryBlocks(chunkBytes, 4);
const roomInFirstPart = partBytes - headRoomBytes;
const never = new AbortController().signal;
const noDelays = { deleteSeconds: 0, uploadSeconds: 0 };

let empty: TestDatabase;
let database: Database;
let ownerId: number;

beforeAll(async () => {
  empty = await createTestDatabase();
  database = await openDatabase(empty.url, { poolSize: 10, timeoutSeconds: 10, tables }, logger);
  ({
    user: { id: ownerId },
  } = await createUser(database.em, "Ann"));
});

afterAll(async () => {
  await database[Symbol.asyncDispose]();
  await empty[Symbol.asyncDispose]();
});

/** Settings for a bucket, with little patience. */
const settingsOf = (url: string, { accessKey, secretKey }: S3Keys, timeoutSeconds = 20) => ({
  s3Endpoint: url,
  s3Region: "us-east-1",
  s3Bucket: bucket,
  s3AccessKey: accessKey,
  s3SecretKey: secretKey,
  s3TimeoutSeconds: timeoutSeconds,
});

/** A client of AWS that tries once. */
const openClient = (url: string, { accessKey, secretKey }: S3Keys): ProbedBucket => ({
  bucket,
  open: ({ keys: [id, secret] = [accessKey, secretKey] as const, ...settings } = {}) =>
    new S3({
      endpoint: url,
      region: "us-east-1",
      credentials: { accessKeyId: id, secretAccessKey: secret },
      forcePathStyle: true,
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      maxAttempts: 1,
      ...settings,
    }),
});

async function beginRecord(store: Mp3Store): Promise<string> {
  const id = uuidv4();
  await database.pool.query(
    "insert into audio_record (id, owner_id, state, title, file_name, chunk_bytes, store) values ($1, $2, 'receiving', '', '', $3, $4)",
    [id, ownerId, chunkBytes, store.newIn],
  );
  return id;
}

async function deleteRecord(id: string): Promise<void> {
  await database.pool.query("delete from audio_record where id = $1", [id]);
}

async function* inPieces(bytes: Buffer, pieceBytes = 65_536): AsyncGenerator<Buffer> {
  for (let start = 0; start < bytes.length; start += pieceBytes) yield bytes.subarray(start, start + pieceBytes);
}

/** Makes a head that is padded in front, with these bytes at its end. */
const headOf =
  (bytes: Buffer) =>
  (minBytes = 0): Buffer =>
    Buffer.concat([Buffer.alloc(Math.max(0, minBytes - bytes.length)), bytes]);

/** Stores an MP3 as an upload does. Returns it with its bytes. */
async function storeMp3(store: Mp3Store, head: Buffer, frames: Buffer): Promise<{ record: PlacedMp3; bytes: Buffer }> {
  const recordId = await beginRecord(store);
  const arriving = { recordId, frames: inPieces(frames), charge: noCharge, signal: never };
  const { byteLength, unstored, complete } = await store.write(database.em, arriving);
  expect(byteLength).toBe(frames.length);
  const stored = await complete(headOf(head));
  if (store.newIn === "postgres")
    await database.pool.query("insert into mp3_chunk values ($1, 0, $2)", [recordId, stored]);
  if (unstored) await database.pool.query("insert into mp3_chunk values ($1, 1, $2)", [recordId, unstored]);
  const sizeBytes = stored.length + frames.length;
  await database.pool.query(
    "update audio_record set state = 'ready', head_bytes = $2, size_bytes = $3, lease_until = null where id = $1",
    [recordId, stored.length, sizeBytes],
  );
  const record = { id: recordId, store: store.newIn, headBytes: stored.length, chunkBytes, sizeBytes };
  return { record, bytes: Buffer.concat([stored, frames]) };
}

async function readRange(store: Mp3Store, record: PlacedMp3, start: number, end: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of store.read(record, { start, end }, never)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

async function readWhole(store: Mp3Store, record: PlacedMp3): Promise<Buffer> {
  return await readRange(store, record, 0, record.sizeBytes - 1);
}

/** What every store does. */
function declareContract(storeOf: () => Mp3Store): void {
  it.each([
    ["no frame", 0],
    ["one byte", 1],
    ["a voice note", 360_000],
    ["a byte less than fits beside the head of one part", roomInFirstPart - 1],
    ["as much as fits", roomInFirstPart],
    ["a byte more", roomInFirstPart + 1],
    ["a part and a byte", partBytes + 1],
    ["two parts", 2 * partBytes - headRoomBytes],
    ["three parts and a few bytes", 3 * partBytes + 17],
  ])("stores %s and reads the same bytes", async (_what, frameBytes) => {
    const head = randomBytes(700);
    const frames = randomBytes(frameBytes);
    const { record, bytes } = await storeMp3(storeOf(), head, frames);
    expect((await readWhole(storeOf(), record)).equals(bytes)).toBe(true);
    expect(bytes.subarray(0, record.headBytes).subarray(-700).equals(head)).toBe(true);
  });

  it("stores a head that is as long as it happens to be", async () => {
    for (const headBytes of [headRoomBytes, headRoomBytes + 1, 700_000]) {
      for (const frameBytes of [10_000, partBytes + 10_000]) {
        const head = randomBytes(headBytes);
        const { record, bytes } = await storeMp3(storeOf(), head, randomBytes(frameBytes));
        expect(record.headBytes).toBe(headBytes);
        expect((await readWhole(storeOf(), record)).equals(bytes)).toBe(true);
      }
    }
  });

  it("reads any range, from and to the edges of what it stores", async () => {
    const { record, bytes } = await storeMp3(storeOf(), randomBytes(500), randomBytes(2 * partBytes));
    const edges = [0, record.headBytes, record.headBytes + chunkBytes, 4 * 1024 ** 2, partBytes, bytes.length - 1];
    const offsets = edges.flatMap((edge) => [edge - 1, edge]).filter((offset) => offset >= 0);
    for (const start of offsets) {
      for (const end of [start, start + 100, 2 * start].filter((end) => end < bytes.length)) {
        const range = await readRange(storeOf(), record, start, end);
        expect({ start, end, same: range.equals(bytes.subarray(start, end + 1)) }).toEqual({ start, end, same: true });
      }
    }
  });

  it("mixes nothing up when many are written and read at the same time", async () => {
    const stored = await Promise.all(
      Array.from(
        { length: 6 },
        async (_, i) => await storeMp3(storeOf(), randomBytes(300), randomBytes(1_000_000 * i)),
      ),
    );
    const rounds = Array.from({ length: 3 }, () => stored).flat();
    const read = rounds.map(async ({ record, bytes }, i) => {
      if (i % 3 !== 0) return (await readWhole(storeOf(), record)).equals(bytes);
      const reader = storeOf().read(record, { start: 0, end: record.sizeBytes - 1 }, never);
      const first = (await reader.next()).value ?? Buffer.alloc(0);
      const isRight = first.equals(bytes.subarray(0, first.length));
      await reader.return();
      return isRight;
    });
    expect(await Promise.all(read)).toEqual(rounds.map(() => true));
  });

  it("ends an upload whose recording is deleted, without taking more than a part of it", async () => {
    const recordId = await beginRecord(storeOf());
    let bytes = 0;
    async function* endless(): AsyncGenerator<Buffer> {
      for (;;) {
        bytes += 65_536;
        if (bytes === 65_536 * 100) await deleteRecord(recordId);
        yield Buffer.alloc(65_536);
      }
    }
    const writing = storeOf().write(database.em, { recordId, frames: endless(), charge: noCharge, signal: never });
    await expect(writing).rejects.toMatchObject({ code: "CONFLICT" });
    expect(bytes).toBeLessThan(65_536 * 100 + 2 * partBytes);
  });

  it("refuses bytes that no allowance pays for", async () => {
    for (const frameBytes of [1000, 2 * partBytes]) {
      const recordId = await beginRecord(storeOf());
      const charge: Charge = { keys: [`user:${recordId}`], bytesPerDay: [100] };
      const arriving = { recordId, frames: inPieces(randomBytes(frameBytes)), charge, signal: never };
      const storing = (async () =>
        await (await storeOf().write(database.em, arriving)).complete(headOf(randomBytes(9))))();
      await expect(storing).rejects.toMatchObject({ code: "RATE_LIMITED" });
    }
  });

  it("passes on the error of its source", async () => {
    for (const before of [100, 2 * partBytes]) {
      const recordId = await beginRecord(storeOf());
      async function* failing(): AsyncGenerator<Buffer> {
        yield* inPieces(randomBytes(before));
        throw new Error("the encoder died");
      }
      const arriving = { recordId, frames: failing(), charge: noCharge, signal: never };
      await expect(storeOf().write(database.em, arriving)).rejects.toThrow("the encoder died");
    }
    expect(database.pool.idleCount).toBe(database.pool.totalCount);
  });

  it("ends with an error, not with wrong bytes, when the recording is deleted in the middle", async () => {
    const { record, bytes } = await storeMp3(storeOf(), randomBytes(50), randomBytes(20 * 1024 ** 2));
    const reader = storeOf().read(record, { start: 0, end: record.sizeBytes - 1 }, never);
    const received = [Buffer.from((await reader.next()).value ?? [])];
    await deleteRecord(record.id);
    await sweepObjects();
    const reading = (async () => {
      for await (const piece of reader) received.push(Buffer.from(piece));
    })();
    await expect(reading).rejects.toMatchObject({ code: "NOT_FOUND" });
    const read = Buffer.concat(received);
    expect(read.length).toBeLessThanOrEqual(8 * 1024 ** 2);
    expect(read.equals(bytes.subarray(0, read.length))).toBe(true);
  });

  it("does not say that a recording was deleted if only its bytes are missing", async () => {
    const { record } = await storeMp3(storeOf(), randomBytes(50), randomBytes(2 * chunkBytes));
    await loseBytes(record.id);
    await expect(readWhole(storeOf(), record)).rejects.toMatchObject({ code: "STORAGE_UNAVAILABLE", status: 503 });
    await deleteRecord(record.id);
    await sweepObjects();
    await expect(readWhole(storeOf(), record)).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  it("stops at once when it is aborted", async () => {
    const { record } = await storeMp3(storeOf(), randomBytes(50), randomBytes(5 * chunkBytes));
    const abort = new AbortController();
    const reader = storeOf().read(record, { start: 0, end: record.sizeBytes - 1 }, abort.signal);
    const first = reader.next();
    abort.abort(new Error("the client went away"));
    await expect(first).rejects.toThrow("the client went away");
    expect((await readRange(storeOf(), record, 0, 9)).length).toBe(10);
  });

  it("holds no connection while 50 consumers are slow", async () => {
    const { record, bytes } = await storeMp3(storeOf(), randomBytes(50), randomBytes(5 * chunkBytes));
    const range = { start: 0, end: record.sizeBytes - 1 };
    const readers = Array.from({ length: 50 }, () => storeOf().read(record, range, never, 16_384));
    for (const reader of readers) await reader.next();
    expect((await readWhole(storeOf(), record)).equals(bytes)).toBe(true);
    for (const reader of readers) await reader.return();
    expect(database.pool.waitingCount).toBe(0);
  });
}

const loseRows = async (id: string): Promise<void> => {
  await database.pool.query("delete from mp3_chunk where record_id = $1 and position = 1", [id]);
};

/** Replaced by the tests of a store with objects. */
let sweepObjects = async (): Promise<void> => {};
let loseBytes = loseRows;

describe("rows of PostgreSQL", () => {
  let store: Mp3Store;
  beforeAll(() => {
    store = new Mp3Store({
      em: database.em,
      pool: database.pool,
      rowMemory,
      s3: undefined,
      newIn: "postgres",
      failoverSeconds: 0,
    });
  });
  declareContract(() => store);

  it("says that a recording in a bucket cannot be read without the bucket", async () => {
    const record = { id: uuidv4(), store: "s3", headBytes: 0, chunkBytes, sizeBytes: 10 } as const;
    await expect(readWhole(store, record)).rejects.toMatchObject({ code: "STORAGE_UNAVAILABLE", status: 503 });
  });
});

interface S3Service {
  readonly url: string;
  readonly keys: S3Keys;
  /** A client whose bucket is full, or has room for less than 1 MiB. */
  fullStore(): Promise<S3Mp3Store>;
}

/** What a store in S3 does besides. */
function declareS3(serviceOf: () => S3Service): void {
  let proxy: TcpProxy;
  let objects: S3Mp3Store;
  let store: Mp3Store;
  /** A sweeper of its own each time: one that went on would sweep by itself, in the middle of any test. */
  const sweep = async (): Promise<void> => {
    await using sweeper = new ObjectSweeper(database.em, objects, noDelays, logger);
    await sweeper.sweep();
  };
  const open = (s3: S3Mp3Store): Mp3Store =>
    new Mp3Store({ em: database.em, pool: database.pool, rowMemory, s3, newIn: "s3", failoverSeconds: 0 });
  const impatient = async (): Promise<Mp3Store> =>
    open(await openS3Mp3Store(settingsOf(proxy.url, serviceOf().keys, 2), rowMemory, logger));

  beforeAll(async () => {
    const { url, keys } = serviceOf();
    proxy = await startTcpProxy(url);
    objects = await openS3Mp3Store(settingsOf(proxy.url, keys), rowMemory, logger);
    store = open(objects);
    sweepObjects = sweep;
    loseBytes = async (id) => await objects.remove(id, { mayBeWritten: false });
  });

  afterAll(async () => {
    sweepObjects = async () => {};
    loseBytes = loseRows;
    objects[Symbol.dispose]();
    await proxy[Symbol.asyncDispose]();
  });

  declareContract(() => store);

  const hasObject = async (id: string): Promise<boolean> => {
    for await (const { recordId } of objects.objects()) if (recordId === id) return true;
    return false;
  };
  const openUploadsOf = async (id: string): Promise<number> => {
    let count = 0;
    for await (const _ of objects.openUploads(id)) count += 1;
    return count;
  };
  const pending = async (): Promise<{ record_id: string; may_be_written: boolean }[]> =>
    (await database.pool.query("select record_id, may_be_written from deleted_object")).rows;

  it("makes the head exact for a short MP3, and 16 KiB for a long one", async () => {
    expect((await storeMp3(store, randomBytes(700), randomBytes(roomInFirstPart))).record.headBytes).toBe(700);
    expect((await storeMp3(store, randomBytes(700), randomBytes(roomInFirstPart + 1))).record.headBytes).toBe(
      headRoomBytes,
    );
  });

  it("lists its objects in the order of their ids, also from the middle", async () => {
    for (let i = 0; i < 5; i++) await storeMp3(store, randomBytes(5), randomBytes(5));
    const listed: string[] = [];
    for await (const { recordId } of objects.objects()) listed.push(recordId);
    expect(listed).toEqual(listed.toSorted());
    expect(listed.length).toBeGreaterThan(4);
    const rest: string[] = [];
    for await (const { recordId } of objects.objects(listed[2])) rest.push(recordId);
    expect(rest).toEqual(listed.slice(3));
  });

  it("deletes the object after its recording, however that was deleted", async () => {
    const { record } = await storeMp3(store, randomBytes(5), randomBytes(5));
    expect(await hasObject(record.id)).toBe(true);
    await deleteRecord(record.id);
    expect(await pending()).toContainEqual({ record_id: record.id, may_be_written: false });
    await sweep();
    expect([await hasObject(record.id), await pending()]).toEqual([false, []]);
    await objects.remove(record.id, { mayBeWritten: true });
  });

  it("keeps the object of a deleted recording for the delay, and deletes what an upload left at once", async () => {
    const patient = new ObjectSweeper(database.em, objects, { deleteSeconds: 3600, uploadSeconds: 3600 }, logger);
    const { record } = await storeMp3(store, randomBytes(5), randomBytes(5));
    await deleteRecord(record.id);
    const recordId = await beginRecord(store);
    const arriving = { recordId, frames: inPieces(randomBytes(3 * partBytes)), charge: noCharge, signal: never };
    await store.write(database.em, arriving);
    expect(await openUploadsOf(recordId)).toBe(1);
    await deleteRecord(recordId);
    await patient.sweep();
    await patient[Symbol.asyncDispose]();
    expect([await hasObject(record.id), await openUploadsOf(recordId)]).toEqual([true, 0]);
    expect(await pending()).toHaveLength(2); // the upload is looked for once more, when it must have ended
    await database.pool.query("update deleted_object set not_before = now()");
    await sweep();
    expect([await hasObject(record.id), await pending()]).toEqual([false, []]);
  });

  it("deletes an object that its upload wrote after the recording was deleted", async () => {
    const recordId = await beginRecord(store);
    const arriving = { recordId, frames: inPieces(randomBytes(1000)), charge: noCharge, signal: never };
    const { complete } = await store.write(database.em, arriving);
    await deleteRecord(recordId);
    const careful = new ObjectSweeper(database.em, objects, { deleteSeconds: 0, uploadSeconds: 3600 }, logger);
    await careful.sweep();
    await careful[Symbol.asyncDispose]();
    await complete(headOf(randomBytes(9)));
    expect(await hasObject(recordId)).toBe(true);
    await database.pool.query("update deleted_object set not_before = now()");
    await sweep();
    expect([await hasObject(recordId), await pending()]).toEqual([false, []]);
  });

  it("cannot complete an upload whose parts were removed with its recording", async () => {
    const recordId = await beginRecord(store);
    const arriving = { recordId, frames: inPieces(randomBytes(3 * partBytes)), charge: noCharge, signal: never };
    const { complete } = await store.write(database.em, arriving);
    await deleteRecord(recordId);
    await sweep();
    await expect(complete(headOf(randomBytes(9)))).rejects.toMatchObject({ code: "CONFLICT" });
    await sweep();
    expect([await hasObject(recordId), await openUploadsOf(recordId), await pending()]).toEqual([false, 0, []]);
  });

  it("forgets no object while S3 is away", async () => {
    const stores = await Promise.all(
      Array.from({ length: 3 }, async () => await storeMp3(store, randomBytes(5), randomBytes(5))),
    );
    const away = new ObjectSweeper(
      database.em,
      await openS3Mp3Store(settingsOf(proxy.url, serviceOf().keys, 1), rowMemory, logger),
      noDelays,
      logger,
    );
    for (const { record } of stores) await deleteRecord(record.id);
    proxy.cut();
    await away.sweep();
    await away[Symbol.asyncDispose]();
    expect(await pending()).toHaveLength(3);
    proxy.restore();
    await database.pool.query("update deleted_object set not_before = now()"); // when a replica that took them has died
    await sweep();
    expect([await pending(), await hasObject(stores[0]!.record.id)]).toEqual([[], false]);
  });

  it("stops deleting objects at once when the service stops, although S3 says nothing", async () => {
    const { record } = await storeMp3(store, randomBytes(5), randomBytes(5));
    const answers: string[] = [];
    const settings = settingsOf(proxy.url, serviceOf().keys, 3600);
    using opened = await openS3Mp3Store(settings, rowMemory, logger, (operation) => answers.push(operation));
    await deleteRecord(record.id);
    proxy.cut();
    const stopped = new ObjectSweeper(database.em, opened, noDelays, logger);
    const sweeping = stopped.sweep();
    await until(
      () => answers,
      (found) => found.includes("DeleteObject"),
    );
    await stopped[Symbol.asyncDispose]();
    await sweeping;
    expect(await pending()).toContainEqual({ record_id: record.id, may_be_written: false });
    proxy.restore();
    expect(await hasObject(record.id)).toBe(true);
    await database.pool.query("update deleted_object set not_before = now()");
    await sweep();
    expect(await hasObject(record.id)).toBe(false);
  });

  it("goes on with uploads and downloads when S3 was away for two seconds", async () => {
    const { record, bytes } = await storeMp3(store, randomBytes(50), randomBytes(3 * partBytes));
    const frames = randomBytes(3 * partBytes);
    async function* arriving(): AsyncGenerator<Buffer> {
      for await (const piece of inPieces(frames, partBytes / 2)) {
        yield piece;
        await delay(200);
      }
    }
    const writing = Promise.all(
      Array.from({ length: 4 }, async () => {
        const recordId = await beginRecord(store);
        const written = await store.write(database.em, {
          recordId,
          frames: arriving(),
          charge: noCharge,
          signal: never,
        });
        const head = await written.complete(headOf(randomBytes(50)));
        const sizeBytes = head.length + frames.length;
        const stored = { id: recordId, store: "s3", headBytes: head.length, chunkBytes, sizeBytes } as const;
        return (await readWhole(store, stored)).subarray(head.length).equals(frames);
      }),
    );
    const reader = store.read(record, { start: 0, end: record.sizeBytes - 1 }, never);
    const received = [Buffer.from((await reader.next()).value ?? [])];
    const before = proxy.sentBytes;
    await until(
      () => proxy.sentBytes,
      (bytes) => bytes > before + 3 * partBytes,
    );
    proxy.cut();
    await delay(2000);
    proxy.restore();
    for await (const piece of reader) received.push(Buffer.from(piece));
    expect(Buffer.concat(received).equals(bytes)).toBe(true);
    expect(await writing).toEqual(Array.from({ length: 4 }, () => true));
  });

  it.each(["cut", "silence"] as const)(
    "says that it cannot be used, and is usable again by itself (%s)",
    async (how) => {
      const { record, bytes } = await storeMp3(store, randomBytes(50), randomBytes(3 * partBytes));
      const hasty = await impatient();
      const reader = hasty.read(record, { start: 0, end: record.sizeBytes - 1 }, never);
      await reader.next();
      await delay(300); // the next piece has been read ahead
      proxy[how]();
      const unavailable = { code: "STORAGE_UNAVAILABLE", status: 503, details: { retryAfterSeconds: 5 } };
      const reading = (async () => {
        for await (const _ of reader);
      })();
      await expect(reading).rejects.toMatchObject(unavailable);
      for (const frameBytes of [1000, 2 * partBytes]) {
        const recordId = await beginRecord(store);
        const arriving = { recordId, frames: inPieces(randomBytes(frameBytes)), charge: noCharge, signal: never };
        const storing = (async () =>
          await (await hasty.write(database.em, arriving)).complete(headOf(randomBytes(9))))();
        const failure = await storing.catch((error: unknown) => error);
        expect(failure).toMatchObject(unavailable);
        expect(String(failure)).not.toMatch(/S3|connect|127\.0\.0\.1|bucket|key/i);
        await deleteRecord(recordId);
      }
      proxy.restore();
      expect((await readWhole(hasty, record)).equals(bytes)).toBe(true);
      await sweep();
    },
  );

  it("asks once for an object that is shorter than its recording", async () => {
    const { record } = await storeMp3(store, randomBytes(50), randomBytes(1000));
    const answers: string[] = [];
    const { url, keys } = serviceOf();
    using counting = await openS3Mp3Store(settingsOf(url, keys, 2), rowMemory, logger, (operation) =>
      answers.push(operation),
    );
    const longer = { ...record, sizeBytes: record.sizeBytes + 1 };
    await expect(readWhole(open(counting), longer)).rejects.toMatchObject({ code: "STORAGE_UNAVAILABLE", status: 503 });
    expect(answers.filter((operation) => operation === "GetObject")).toHaveLength(1);
  });

  it("is not opened with wrong keys or without its bucket, and says why without the keys", async () => {
    const { url, keys } = serviceOf();
    const right = settingsOf(url, keys);
    for (const [settings, reason] of [
      [{ ...right, s3SecretKey: "wrong-secret" }, "SignatureDoesNotMatch"],
      [{ ...right, s3AccessKey: "nobody", s3SecretKey: "wrong-secret" }, "InvalidAccessKeyId"],
      [{ ...right, s3Bucket: "no-such-bucket" }, "NoSuchBucket"],
    ] as const) {
      const failure = await openS3Mp3Store(settings, rowMemory, logger).catch((error: unknown) => error);
      expect(String(failure)).toContain(reason);
      expect(String(failure)).toContain("S3_");
      expect(String(failure)).not.toContain(settings.s3SecretKey);
    }
  });

  it("opens while S3 is away, and warns", async () => {
    const warnings: unknown[] = [];
    proxy.cut();
    const opened = await openS3Mp3Store(settingsOf(proxy.url, serviceOf().keys, 1), rowMemory, {
      warn: (...warning: unknown[]) => void warnings.push(warning),
    });
    expect(warnings).toHaveLength(1);
    proxy.restore();
    await opened.check();
    opened[Symbol.dispose]();
  });

  it.each([
    ["429 TooManyRequests", 429, "TooManyRequests"],
    ["400 RequestTimeout", 400, "RequestTimeout"],
    ["409 OperationAborted", 409, "OperationAborted"],
  ])("opens while S3 is too busy to answer (%s), and warns", async (_what, status, code) => {
    await using busy = createServer((_request, response) => {
      response.writeHead(status, { "content-type": "application/xml" });
      response.end(`<?xml version="1.0"?><Error><Code>${code}</Code></Error>`);
    });
    await once(busy.listen(0, "127.0.0.1"), "listening");
    const url = `http://127.0.0.1:${(busy.address() as AddressInfo).port}`;
    const warnings: unknown[] = [];
    using _opened = await openS3Mp3Store(settingsOf(url, serviceOf().keys, 1), rowMemory, {
      warn: (...warning: unknown[]) => void warnings.push(warning),
    });
    expect(warnings).toHaveLength(1);
    busy.closeAllConnections();
  });

  it("says that it is full", async () => {
    const full = open(await serviceOf().fullStore());
    for (const frameBytes of [2_000_000, 3 * partBytes]) {
      const recordId = await beginRecord(full);
      const arriving = { recordId, frames: inPieces(randomBytes(frameBytes)), charge: noCharge, signal: never };
      const storing = (async () => await (await full.write(database.em, arriving)).complete(headOf(randomBytes(9))))();
      await expect(storing).rejects.toMatchObject({ code: "STORAGE_FULL", status: 507 });
      await deleteRecord(recordId);
    }
  });
}

describe("a strict S3 of our own", () => {
  const keys = { accessKey: "musickey", secretKey: "musicsecret" };
  let s3: StrictS3;
  let tiny: StrictS3;

  beforeAll(async () => {
    s3 = await startStrictS3(keys, [bucket]);
    tiny = await startStrictS3(keys, [bucket]);
    tiny.maxBytes = 1024 ** 2;
  });

  afterAll(async () => {
    await s3[Symbol.asyncDispose]();
    await tiny[Symbol.asyncDispose]();
  });

  declareS3(() => ({
    url: s3.url,
    keys,
    fullStore: async () => await openS3Mp3Store(settingsOf(tiny.url, keys), rowMemory, logger),
  }));

  it("deletes the other objects if S3 refuses to delete one, and keeps its note", async () => {
    using objects = await openS3Mp3Store(settingsOf(s3.url, keys), rowMemory, logger);
    const places = { em: database.em, pool: database.pool, rowMemory, s3: objects, failoverSeconds: 0 };
    const store = new Mp3Store({ ...places, newIn: "s3" });
    const ids: string[] = [];
    for (let i = 0; i < 4; i++) ids.push((await storeMp3(store, randomBytes(5), randomBytes(5))).record.id);
    const locked = ids.slice(0, 2).toSorted();
    for (const id of locked) s3.lockedKeys.add(`mp3/${id.slice(0, 2)}/${id}`);
    for (const id of ids) await deleteRecord(id);
    const sweepAndList = async (): Promise<string[]> => {
      await database.pool.query("update deleted_object set not_before = now()");
      await using sweeper = new ObjectSweeper(database.em, objects, noDelays, logger);
      await sweeper.sweep();
      const noted = "select record_id from deleted_object where record_id = any($1) order by record_id";
      const { rows } = await database.pool.query(noted, [ids]);
      return rows.map(({ record_id: id }) => id);
    };
    expect(await sweepAndList()).toEqual(locked);
    expect(await Promise.all(ids.map(async (id) => (await objects.sizeOf(id)) !== undefined))).toEqual(
      ids.map((id) => locked.includes(id)),
    );
    s3.lockedKeys.clear();
    expect(await sweepAndList()).toEqual([]);
  });

  it.each(probes)("gives the answer that S3 gives to $what", async (probe) => {
    expect(await answerTo(probe, openClient(s3.url, keys))).toBe(probe.answer);
  });
});

needs("Ceph RGW", () => {
  describe("Ceph RGW", () => {
    let ceph: CephRgw;

    beforeAll(async () => {
      ceph = await startCephRgw();
      await openClient(ceph.url, ceph.keys).open().createBucket({ Bucket: bucket });
      await openClient(ceph.url, ceph.smallKeys).open().createBucket({ Bucket: "small" });
    });

    afterAll(async () => await ceph[Symbol.asyncDispose]());

    declareS3(() => ({
      url: ceph.url,
      keys: ceph.keys,
      fullStore: async () =>
        await openS3Mp3Store({ ...settingsOf(ceph.url, ceph.smallKeys), s3Bucket: "small" }, rowMemory, logger),
    }));

    it("refuses nothing that the strict one allows", () => {
      const allowed = probes.filter(({ answer }) => answer === "ok");
      expect(allowed.length).toBeGreaterThan(3);
      expect(allowed.filter(({ cephAnswer = "ok" }) => cephAnswer !== "ok")).toEqual([]);
    });

    it.each(probes)("gives the answer that is known to $what", async (probe) => {
      const answer = await answerTo(probe, openClient(ceph.url, ceph.keys));
      expect(answer).toBe(probe.cephAnswer ?? probe.answer);
    });
  });
});
