import { Migration } from "@mikro-orm/migrations";

export class ResumableUploads extends Migration {
  override up(): void | Promise<void> {
    this.addSql(
      `create table "resumable_upload" ("id" uuid not null, "owner_id" int not null, "record_id" uuid null, "secret" text not null, "token_id" uuid null, "title" text not null, "quality" text not null, "source_sha256" text null, "length_bytes" bigint null, "offset_bytes" bigint not null default '0', "epoch" int not null default 0, "holder" uuid null, "seen_at" timestamptz null, "is_asked" boolean not null default false, "checkpoint_bytes" bigint not null default '0', "state" bytea null, "row_count" int not null default 0, "rest" bytea null, "failed_tries" int not null default 0, "failure" jsonb null, "created_at" timestamptz not null default now(), "expires_at" timestamptz not null, primary key ("id"));`,
    );
    this.addSql(`create index "resumable_upload_owner_id_index" on "resumable_upload" ("owner_id");`);
    this.addSql(`create index "resumable_upload_record_id_index" on "resumable_upload" ("record_id");`);
    this.addSql(`alter table "resumable_upload" add constraint "resumable_upload_secret_unique" unique ("secret");`);
    this.addSql(`create index "resumable_upload_expires_at_index" on "resumable_upload" ("expires_at");`);
    this.addSql(
      `create table "upload_piece" ("upload_id" uuid not null, "end_bytes" bigint not null, "bytes" bytea not null, primary key ("upload_id", "end_bytes"));`,
    );
    this.addSql(
      `alter table "resumable_upload" add constraint "resumable_upload_owner_id_foreign" foreign key ("owner_id") references "app_user" ("id") on delete cascade;`,
    );
    this.addSql(
      `alter table "resumable_upload" add constraint "resumable_upload_record_id_foreign" foreign key ("record_id") references "audio_record" ("id") on delete set null;`,
    );
    this.addSql(
      `alter table "resumable_upload" add constraint "resumable_upload_quality_check" check ("quality" in ('SPEECH', 'LOW', 'STANDARD', 'HIGH'));`,
    );
    this.addSql(
      `alter table "upload_piece" add constraint "upload_piece_upload_id_foreign" foreign key ("upload_id") references "resumable_upload" ("id") on delete cascade;`,
    );
    // PCM and MP3 do not get smaller: no time is lost with trying to compress them.
    this.addSql(`alter table "upload_piece" alter column "bytes" set storage external;`);
    this.addSql(`alter table "resumable_upload" alter column "rest" set storage external;`);
  }
}
