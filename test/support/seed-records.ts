import { Pool } from "pg";

/** Recordings without bytes, which the database itself creates. */
export interface SeededRecords {
  readonly ownerId: string;
  readonly count: number;
  /** Seconds between two records; 0 gives them all the same time. */
  readonly secondsApart?: number;
}

/**
 * Fills a library: record `n` is called `<Word> take <n>`, lasts `n % 600` seconds, and is younger than those before
 * it. Then the table is vacuumed and analysed, as the server does by itself after a while.
 */
export async function seedRecords(pool: Pool, { ownerId, count, secondsApart = 60 }: SeededRecords): Promise<void> {
  await pool.query(
    `insert into audio_record (id, owner_id, state, title, file_name, created_at, chunk_bytes, size_bytes, bitrate_kbps,
       sample_rate_hz, channels, source_samples, source_codec, source_bits_per_sample, source_sample_rate_hz,
       source_channels, source_bytes, source_sha256, tags, integrated_lufs, sample_peak_dbfs, waveform,
       title_key, search_text)
     select gen_random_uuid(), $1, 'ready', title, file_name,
       timestamptz '2026-01-01' + n * $3 * interval '1 second', 1048576, 24000 * (n % 600), 192,
       44100, 2, 44100 * (n % 600)::bigint, 'pcm', 16, 44100,
       2, 176400 * (n % 600)::bigint, encode(sha256(title::bytea), 'hex'),
       jsonb_build_array(jsonb_build_object('name', 'artist', 'value', artist)), -14.5, -1,
       decode('02000000' || '01000000' || '44ac0000' || '00010000' || '02000000' || '01000000' || 'ff01fe02', 'hex'),
       lower(title), lower(concat_ws(e'\\n', title, file_name, artist))
     from generate_series(1, $2::int) n, lateral (select
       (array['Morning', 'Evening', 'Rehearsal', 'Blues', 'Waltz', 'Gig'])[1 + n % 6] || ' take ' || n as title,
       'rec_' || n || '.wav' as file_name, 'Artist ' || n % 500 as artist) texts`,
    [ownerId, count, secondsApart],
  );
  await pool.query("vacuum analyze audio_record");
}

/** Fills one page of a user's library with as many links and tokens, and texts as long, as there may be. */
export async function fillLibrary(databaseUrl: string, ownerId: string): Promise<void> {
  const pool = new Pool({ connectionString: databaseUrl });
  await seedRecords(pool, { ownerId, count: 100 });
  await pool.query(
    `update audio_record set title = repeat('漢', 1000), file_name = repeat('漢', 255),
       warnings = '["CUT_SHORT","DAMAGED","CLIPPED","SILENT","MIXED_DOWN","RESAMPLED","RESCALED","SOUND_LEFT_OUT","TRAILING_JUNK"]',
       waveform = decode('02000000' || '01000000' || '44ac0000' || '00010000' || '00080000' || '01000000', 'hex')
         || decode(repeat('817f', 2048), 'hex'),
       tags = (select jsonb_agg(jsonb_build_object('name', 'date', 'value', repeat('漢', 1000)))
               from generate_series(1, 16))`,
  );
  await pool.query(
    `insert into share_link (record_id, secret, note, expires_at)
     select id, left(md5(random()::text) || md5(random()::text), 32), repeat('漢', 200), now() + interval '1 day'
     from audio_record, generate_series(1, 100)`,
  );
  await pool.query(
    `insert into access_token (owner_id, sha256, name, scopes, expires_at)
     select $1, sha256(random()::text::bytea), repeat('漢', 100), '{READ,WRITE,UPLOAD,MANAGE}', now() + interval '1 day'
     from generate_series(1, 99)`,
    [ownerId],
  );
  await pool.query("vacuum analyze audio_record, share_link, access_token");
  await pool.end();
}
