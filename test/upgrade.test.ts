import { expect, it } from "@jest/globals";
import { execFile } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "pg";
import { hashToken } from "../src/caller/token.ts";
import { migrations } from "../src/migrations/index.ts";
import { searchTextOf, titleKeyOf } from "../src/record/search-text.ts";
import { ApiClient } from "./support/api-client.ts";
import { earlierMigrations, migrateUpTo } from "./support/older-database.ts";
import { needs } from "./support/needs.ts";
import { startService } from "./support/service.ts";
import { systemPostgresPrograms } from "./support/system-postgres.ts";
import { createEmptyDatabase } from "./support/test-database.ts";
import { beginTransaction } from "./support/transaction.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const libraryMigration = earlierMigrations.findIndex((name) => name.endsWith("_record-library"));

it.each(earlierMigrations)(
  "two replicas that start together on the tables of %s keep what is there",
  async (before) => {
    await using database = await createEmptyDatabase();
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

needs("PostgreSQL's programs", () => {
  it("operators move what migrations leave as it is: MP3s and waveforms", async () => {
    await using database = await createEmptyDatabase();
    await migrateUpTo(database.url, earlierMigrations.at(-1)!);
    const old = await fillAsBefore(database.url, true);
    await using service = await startService({ DATABASE_URL: database.url });
    const client = new ApiClient(service.url);
    const query = async (text: string): Promise<any[]> => (await service.server.database.pool.query(text)).rows;
    const countParts = async (): Promise<number> =>
      (await query("select from pg_inherits where inhparent = 'mp3_chunk'::regclass")).length;
    const psql = async (file: string): Promise<string> => {
      const args = ["-v", "ON_ERROR_STOP=1", "-f", join(import.meta.dirname, "../../deploy", file), database.url];
      return (await promisify(execFile)(join(systemPostgresPrograms()!, "psql"), args)).stdout;
    };
    const uploadOne = async (): Promise<Uploaded> => {
      const { data, errors } = await client.uploadRecord(old.ann, sineWav({ seconds: 1 }), { fields: "id url" });
      expect(errors).toBeUndefined();
      const { id, url } = data.uploadRecord.record;
      return { id, url, mp3: await bytesOf(url) };
    };
    expect(await countParts()).toBe(0);
    const url = `${service.url}/record?id=${old.recordId}&user=${old.ann.id}`;
    const kept = [{ id: old.recordId, url, mp3: old.mp3 }, await uploadOne(), await uploadOne()];
    const removed = await uploadOne();

    await client.run("mutation ($id: ID!) { deleteRecord(id: $id) { deletedId } }", { id: removed.id }, old.ann);
    // Beside a transaction that has locked the table of MP3s and then locks that of recordings, as uploads do.
    await using other = await beginTransaction(service.databaseUrl, "lock table mp3_chunk in row exclusive mode");
    // It gives up waiting after five seconds, and can be run again.
    const divided = until(
      async () => await psql("partition-chunks.sql").catch((error: unknown) => String(error)),
      (said) => !said.includes("lock timeout"),
    );
    expect(await other.untilWaiting(1)).toBeGreaterThanOrEqual(1);
    await other.query("lock table audio_record in row exclusive mode");
    await other.commit();
    expect(await divided).toContain("The table is divided.");
    expect(await countParts()).toBe(16);
    expect(await psql("partition-chunks.sql")).toContain("divided already");
    await query("drop table mp3_chunk_whole");
    kept.push(await uploadOne());
    for (const { url, mp3 } of kept) expect((await bytesOf(url)).equals(mp3)).toBe(true);
    const ownerless =
      "select from mp3_chunk where record_id not in (select id from audio_record where state = 'ready')";
    expect(await query(ownerless)).toEqual([]);
    const [{ id: gone }] = kept.splice(1, 1) as [Uploaded];
    await client.run("mutation ($id: ID!) { deleteRecord(id: $id) { deletedId } }", { id: gone }, old.ann);
    expect(await query(`select from mp3_chunk where record_id = '${gone}'`)).toEqual([]);

    const waveforms = async (): Promise<unknown> =>
      (await client.run("{ me { records { nodes { id peaks(count: 4) } } } }", {}, old.ann)).data.me.records;
    await query(
      `with own as (delete from record_waveform where record_id = '${kept[1]!.id}' returning *)
       update audio_record set waveform = overview, waveform_detail = detail from own where id = record_id`,
    );
    const before = await waveforms();
    await psql("move-waveforms.sql");
    expect(await query("select from audio_record where waveform is not null")).toEqual([]);
    expect(await query(`select from record_waveform where record_id = '${kept[1]!.id}'`)).toHaveLength(1);
    expect(await waveforms()).toEqual(before);
  });
});

interface Uploaded {
  readonly id: string;
  readonly url: string;
  readonly mp3: Buffer;
}

async function bytesOf(url: string): Promise<Buffer> {
  return Buffer.from(await (await fetch(url)).arrayBuffer());
}

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
