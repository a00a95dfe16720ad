import { Migration } from "@mikro-orm/migrations";

export class RecordLibrary extends Migration {
  override up(): void | Promise<void> {
    this.addSql(`drop index "audio_record_owner_created";`);
    this.addSql(
      `alter table "audio_record" add "title_key" text collate "C" not null default '', add "search_text" text collate "C" not null default '', add "duration_seconds" double precision generated always as (COALESCE(((source_samples)::double precision / (NULLIF(source_sample_rate_hz, 0))::double precision), (0)::double precision)) stored not null;`,
    );

    // What the service writes from now on, as nearly as SQL can say it, for the recordings that are there already.
    this.addSql(
      `update audio_record set
         title_key = left(lower(regexp_replace(normalize(title, nfkd), '[\u0300-\u036f]', '', 'g')), 50),
         search_text = left(lower(regexp_replace(normalize(concat_ws(e'\\n', title, file_name,
           (select string_agg(tag ->> 'value', e'\\n') from jsonb_array_elements(tags) tag)), nfkd),
           '[\u0300-\u036f]', '', 'g')), 500)
       where state = 'ready';`,
    );

    this.addSql(
      `create index audio_record_library on audio_record (owner_id, state, created_at, id) include (title_key, duration_seconds, size_bytes, search_text);`,
    );
    this.addSql(`create index audio_record_title on audio_record (owner_id, title_key, id) where state = 'ready';`);
    this.addSql(
      `create index audio_record_duration on audio_record (owner_id, duration_seconds, id) where state = 'ready';`,
    );
    this.addSql(`create index audio_record_size on audio_record (owner_id, size_bytes, id) where state = 'ready';`);
    // Reading an index alone needs a table that was vacuumed after it grew; the default waits for a fifth more rows.
    this.addSql(
      `alter table audio_record set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);`,
    );
  }
}
