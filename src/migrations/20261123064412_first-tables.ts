import { Migration } from "@mikro-orm/migrations";

export class FirstTables extends Migration {
  override up(): void | Promise<void> {
    this.addSql(
      `create table "app_user" ("id" serial primary key, "name" text not null, "created_at" timestamptz not null default now());`,
    );
    this.addSql(
      `alter table "app_user" add constraint "app_user_name_length" check ((length(name) >= 1) and (length(name) <= 100));`,
    );

    this.addSql(
      `create table "audio_record" ("id" uuid not null, "owner_id" int not null, "state" text not null, "lease_until" timestamptz null, "title" text not null, "file_name" text not null, "created_at" timestamptz not null default now(), "head_bytes" int not null default 0, "chunk_bytes" int not null, "size_bytes" bigint not null default '0', "bitrate_kbps" int not null default 0, "sample_rate_hz" int not null default 0, "channels" int not null default 0, "source_samples" bigint not null default '0', "source_codec" text not null default '', "source_bits_per_sample" int not null default 0, "source_sample_rate_hz" int not null default 0, "source_channels" int not null default 0, "source_bytes" bigint not null default '0', "source_sha256" text not null default '', "tags" jsonb not null default '[]', "warnings" jsonb not null default '[]', "integrated_lufs" double precision null, "sample_peak_dbfs" double precision null, "waveform" bytea null, primary key ("id"));`,
    );
    this.addSql(`create index "audio_record_owner_created" on "audio_record" ("owner_id", "created_at", "id");`);
    this.addSql(`create index audio_record_lease on audio_record (lease_until) where state = 'receiving';`);
    this.addSql(
      `alter table "audio_record" add constraint "audio_record_state_check" check ("state" in ('receiving', 'ready'));`,
    );

    this.addSql(
      `create table "mp3_chunk" ("record_id" uuid not null, "position" int not null, "bytes" bytea not null, primary key ("record_id", "position"));`,
    );

    this.addSql(
      `create table "access_token" ("id" uuid not null default gen_random_uuid(), "owner_id" int not null, "sha256" bytea not null, "name" text not null, "created_at" timestamptz not null default now(), primary key ("id"));`,
    );
    this.addSql(`create index "access_token_owner_id_index" on "access_token" ("owner_id");`);
    this.addSql(`alter table "access_token" add constraint "access_token_sha256_unique" unique ("sha256");`);

    this.addSql(
      `alter table "audio_record" add constraint "audio_record_owner_id_foreign" foreign key ("owner_id") references "app_user" ("id") on delete cascade;`,
    );

    this.addSql(
      `alter table "mp3_chunk" add constraint "mp3_chunk_record_id_foreign" foreign key ("record_id") references "audio_record" ("id") on delete cascade;`,
    );

    this.addSql(
      `alter table "access_token" add constraint "access_token_owner_id_foreign" foreign key ("owner_id") references "app_user" ("id") on delete cascade;`,
    );
  }
}
