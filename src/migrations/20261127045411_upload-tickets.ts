import { Migration } from "@mikro-orm/migrations";

export class UploadTickets extends Migration {
  override up(): void | Promise<void> {
    this.addSql(
      `create table "upload_ticket" ("id" uuid not null default gen_random_uuid(), "owner_id" int not null, "maker_id" uuid null, "sha256" bytea not null, "title" text null, "quality" text null, "visibility" text null, "max_bytes" bigint null, "created_at" timestamptz not null default now(), "expires_at" timestamptz not null, "used_at" timestamptz null, primary key ("id"));`,
    );
    this.addSql(`create index "upload_ticket_owner_id_index" on "upload_ticket" ("owner_id");`);
    this.addSql(`create index "upload_ticket_maker_id_index" on "upload_ticket" ("maker_id");`);
    this.addSql(`alter table "upload_ticket" add constraint "upload_ticket_sha256_unique" unique ("sha256");`);
    this.addSql(
      `alter table "upload_ticket" add constraint "upload_ticket_owner_id_foreign" foreign key ("owner_id") references "app_user" ("id") on delete cascade;`,
    );
    this.addSql(
      `alter table "upload_ticket" add constraint "upload_ticket_maker_id_foreign" foreign key ("maker_id") references "access_token" ("id") on delete cascade;`,
    );
    this.addSql(
      `alter table "upload_ticket" add constraint "upload_ticket_quality_check" check ("quality" in ('SPEECH', 'LOW', 'STANDARD', 'HIGH'));`,
    );
    this.addSql(
      `alter table "upload_ticket" add constraint "upload_ticket_visibility_check" check ("visibility" in ('PUBLIC', 'PRIVATE'));`,
    );
  }
}
