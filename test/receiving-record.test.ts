import { expect, it } from "@jest/globals";
import { EncoderPool } from "../src/audio/encoder-pool.ts";
import { openConversion } from "../src/audio/wav-to-mp3.ts";
import { finishRecord, finishWithinQuota } from "../src/record/receiving-record.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import { startService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

it("is a conflict when the record or its user is removed before the upload is complete", async () => {
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
  for await (const bytes of conversion.frames()) frameBytes += bytes.length;
  const head = conversion.head("Take");
  const finished = { title: "Take", fileName: "take.wav", head, frameBytes, facts: conversion.facts() };
  const { pool, em } = service.server.database;
  const database = { pool, em: em.fork() };
  const owner = { id: 1, name: "Ann", createdAt: new Date(), scopes: ["WRITE" as const], expiresAt: null };
  const quota = { bytes: 0, seconds: 0, records: 1 };
  const conflict = { code: "CONFLICT", message: expect.stringContaining("removed") };
  await expect(finishRecord(database, crypto.randomUUID(), owner, finished)).rejects.toMatchObject(conflict);
  await expect(finishWithinQuota(database, crypto.randomUUID(), owner, finished, quota)).rejects.toMatchObject(
    conflict,
  );
});
