import { expect, it } from "@jest/globals";
import { EncoderPool } from "../src/audio/encoder/encoder-pool.ts";
import { mp3Head, openConversion } from "../src/audio/wav-to-mp3.ts";
import { noCharge } from "../src/limits/write-allowance.ts";
import { beginRecord } from "../src/upload/begin-record.ts";
import { finishRecord } from "../src/upload/finish-record.ts";
import { createLogger } from "../src/telemetry/logger.ts";
import { UploadLeases } from "../src/upload/upload-leases.ts";
import { ApiClient } from "./support/api-client.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import { startService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

it("is a conflict if the recording or its user is deleted before the upload is complete", async () => {
  await using service = await startService();
  await using encoders = new EncoderPool({ ffmpeg });
  const { signal } = new AbortController();
  const conversion = await openConversion(
    (async function* () {
      yield sineWav({ seconds: 1 });
    })(),
    { encoders, quality: "LOW", maxDurationSeconds: 60, signal },
  );
  let frameBytes = 0;
  const frames = conversion.frames();
  let next = await frames.next();
  for (; !next.done; next = await frames.next()) frameBytes += next.value.length;
  const facts = next.value;
  const finished = { title: "Take", fileName: "take.wav", head: mp3Head(facts, "Take"), frameBytes, facts };
  const em = service.server.database.em.fork();
  const owner = {
    id: 1,
    name: "Ann",
    createdAt: new Date(),
    isVouchedFor: true,
    tokenId: null,
    scopes: ["WRITE" as const],
    expiresAt: null,
  };
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
  const { em, pool } = service.server.database;
  const deleting = await pool.connect();
  await deleting.query("begin");
  await deleting.query("delete from app_user where id = $1", [id]);
  const upload = {
    id: crypto.randomUUID(),
    ownerId: Number(id),
    fileName: "take.wav",
    visibility: "PUBLIC" as const,
    idempotencyKey: undefined,
  };
  const beginning = beginRecord(em, upload, { quota: { bytes: 0, seconds: 0, records: 0 }, charge: noCharge });
  const failure = beginning.catch((error: unknown) => error);
  const waiting = async () =>
    (await pool.query("select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"))
      .rowCount;
  expect(await until(waiting, (count) => count === 1)).toBe(1);
  await deleting.query("commit");
  deleting.release();
  expect(await failure).toMatchObject({ code: "UNAUTHENTICATED", message: "The user has been deleted." });
});

it("deletes what dead uploads have left, in small parts", async () => {
  await using service = await startService();
  const { id } = await new ApiClient(service.url).createUser("Ann");
  const { em, pool } = service.server.database;
  await pool.query(
    `insert into audio_record (id, owner_id, state, lease_until, title, file_name, chunk_bytes, visibility)
     select gen_random_uuid(), $1, 'receiving', now() + make_interval(secs => case when n <= 11 then -1 else 60 end), '', '', 1, 'PUBLIC'
     from generate_series(1, 13) n`,
    [id],
  );
  const leases = new UploadLeases(em, createLogger({ logLevel: "silent" }));
  await leases.sweep();
  await leases[Symbol.asyncDispose]();
  expect((await pool.query("select from audio_record")).rowCount).toBe(2);
});
