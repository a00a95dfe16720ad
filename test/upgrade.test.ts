import { expect, it } from "@jest/globals";
import { randomBytes, randomUUID } from "node:crypto";
import { Client } from "pg";
import { hashToken } from "../src/caller/token.ts";
import { migrations } from "../src/migrations/index.ts";
import { searchTextOf, titleKeyOf } from "../src/record/search-text.ts";
import { ApiClient } from "./support/api-client.ts";
import { earlierMigrations, migrateUpTo } from "./support/older-database.ts";
import { startService } from "./support/service.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { sineWav } from "./support/wav-maker.ts";

const libraryMigration = earlierMigrations.findIndex((name) => name.endsWith("_record-library"));

it.each(earlierMigrations)(
  "two replicas that start together on the tables of %s keep what is there",
  async (before) => {
    await using database = await createTestDatabase();
    await migrateUpTo(database.url, before);
    const old = await fillAsBefore(database.url, earlierMigrations.indexOf(before) >= libraryMigration);

    await using stack = new AsyncDisposableStack();
    const replicas = await Promise.all(
      Array.from({ length: 2 }, async () => stack.use(await startService({ DATABASE_URL: database.url }))),
    );
    const [first, second] = replicas.map(({ url }) => new ApiClient(url));

    const { data, errors } = await first!.run(
      `{ me { name usage { bytes records } records(filter: { text: "cafe reinhardt" }) {
      totalCount nodes { id url title durationSeconds visibility tags { name value } source { leftOutBytes } } } } }`,
      {},
      old.ann,
    );
    expect(errors).toBeUndefined();
    expect(data.me).toEqual({
      name: "Ann",
      usage: { bytes: old.mp3.length, records: 1 },
      records: {
        totalCount: 1,
        nodes: [
          {
            id: old.recordId,
            url: expect.stringContaining(old.recordId),
            title: "Café Minor",
            durationSeconds: 90,
            visibility: "PUBLIC",
            tags: [{ name: "artist", value: "Reinhardt" }],
            source: { leftOutBytes: 0 },
          },
        ],
      },
    });
    const link = new URL(data.me.records.nodes[0].url);
    for (const { url } of replicas) {
      const answer = await fetch(new URL(link.pathname + link.search, url));
      expect(Buffer.from(await answer.arrayBuffer()).equals(old.mp3)).toBe(true);
    }

    // Features of later tables work with the old data, and new data can be added.
    const shared = await second!.run(
      "mutation ($recordId: ID!) { createLink(recordId: $recordId) { link { url } } }",
      { recordId: old.recordId },
      old.ann,
    );
    expect((await fetch(shared.data.createLink.link.url)).status).toBe(200);
    expect((await second!.uploadRecord(old.ann, sineWav({ seconds: 1 }))).errors).toBeUndefined();
    const { data: later } = await first!.run("{ me { records { totalCount } tokens { name } } }", {}, old.ann);
    expect(later.me).toEqual({ records: { totalCount: 2 }, tokens: [{ name: "first" }] });
    expect(await appliedMigrations(database.url)).toEqual(migrations.map(({ name }) => name));
  },
);

/** Stores a user, a token, a recording of three rows and a dead upload, as the release with those tables did. */
async function fillAsBefore(url: string, hasLibrary: boolean) {
  const [recordId, token] = [randomUUID(), randomUUID()];
  const chunks = [randomBytes(200), randomBytes(1024 * 1024), randomBytes(1000)];
  const mp3 = Buffer.concat(chunks);
  const texts = { title: "Café Minor", fileName: "take.wav", tags: [{ name: "artist", value: "Reinhardt" }] };
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query("insert into app_user (name) values ('Ann') returning id");
    const ownerId: number = rows[0].id;
    await client.query("insert into access_token (owner_id, sha256, name) values ($1, $2, 'first')", [
      ownerId,
      hashToken(token),
    ]);
    await client.query(
      `insert into audio_record (id, owner_id, state, title, file_name, head_bytes, chunk_bytes, size_bytes,
         bitrate_kbps, sample_rate_hz, channels, source_samples, source_codec, source_bits_per_sample,
         source_sample_rate_hz, source_channels, source_bytes, source_sha256, tags)
       values ($1, $2, 'ready', $3, $4, 200, 1048576, $5, 128, 44100, 2, 3969000, 'pcm', 16, 44100, 2, 15876044,
         repeat('0', 64), $6)`,
      [recordId, ownerId, texts.title, texts.fileName, mp3.length, JSON.stringify(texts.tags)],
    );
    if (hasLibrary) {
      await client.query("update audio_record set title_key = $1, search_text = $2", [
        titleKeyOf(texts.title),
        searchTextOf(texts),
      ]);
    }
    for (const [position, bytes] of chunks.entries()) {
      await client.query("insert into mp3_chunk values ($1, $2, $3)", [recordId, position, bytes]);
    }
    await client.query(
      `insert into audio_record (id, owner_id, state, lease_until, title, file_name, chunk_bytes)
       values ($1, $2, 'receiving', now() - interval '1 day', '', 'dead.wav', 1048576)`,
      [randomUUID(), ownerId],
    );
    return { ann: { id: String(ownerId), token }, recordId, mp3 };
  } finally {
    await client.end();
  }
}

async function appliedMigrations(url: string): Promise<string[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query("select name from schema_migration order by id");
    return rows.map(({ name }) => name);
  } finally {
    await client.end();
  }
}
