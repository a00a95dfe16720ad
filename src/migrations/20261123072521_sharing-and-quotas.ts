import { Migration } from "@mikro-orm/migrations";

export class SharingAndQuotas extends Migration {
  override up(): void | Promise<void> {
    this.addSql(
      `create table "share_link" ("id" uuid not null default gen_random_uuid(), "record_id" uuid not null, "secret" text not null, "note" text null, "created_at" timestamptz not null default now(), "expires_at" timestamptz null, "downloads" bigint not null default '0', primary key ("id"));`,
    );
    this.addSql(`create index "share_link_record_id_index" on "share_link" ("record_id");`);
    this.addSql(`alter table "share_link" add constraint "share_link_secret_unique" unique ("secret");`);

    this.addSql(
      `alter table "app_user" add "quota_bytes" bigint null, add "quota_seconds" bigint null, add "quota_records" int null;`,
    );
    this.addSql(
      `alter table "app_user" add constraint "app_user_quotas" check (least(quota_bytes, quota_seconds, quota_records) >= 0);`,
    );

    this.addSql(
      `alter table "audio_record" add "visibility" text not null default 'PUBLIC', add "idempotency_key" uuid null, add "request_bytes" bigint null;`,
    );
    this.addSql(
      `create unique index audio_record_idempotency_key on audio_record (owner_id, idempotency_key) where idempotency_key is not null;`,
    );
    this.addSql(
      `create index audio_record_usage on audio_record (owner_id) include (size_bytes, source_samples, source_sample_rate_hz) where state = 'ready';`,
    );
    this.addSql(
      `alter table "audio_record" add constraint "audio_record_visibility_check" check ("visibility" in ('PUBLIC', 'PRIVATE'));`,
    );

    this.addSql(
      `alter table "share_link" add constraint "share_link_record_id_foreign" foreign key ("record_id") references "audio_record" ("id") on delete cascade;`,
    );
  }
}
