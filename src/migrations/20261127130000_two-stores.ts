import { Migration } from "@mikro-orm/migrations";

/** Every statement takes a moment, however many recordings there are: a constant default is not written into the rows. */
export class TwoStores extends Migration {
  override up(): void | Promise<void> {
    this.addSql(
      `create table "deleted_object" ("record_id" uuid not null, "may_be_written" boolean not null, "deleted_at" timestamptz not null default now(), "not_before" timestamptz not null default now(), primary key ("record_id"));`,
    );
    this.addSql(`create index deleted_object_not_before on deleted_object (not_before);`);
    this.addSql(`alter table "audio_record" add "store" text not null default 'postgres';`);
    this.addSql(
      `create or replace function "audio_record_note_deleted_object_fn"() returns trigger as $$ begin insert into deleted_object (record_id, may_be_written) values (old.id, old.state <> 'ready') on conflict (record_id) do nothing; return null; end; $$ language plpgsql;`,
    );
    this.addSql(`create trigger "note_deleted_object" AFTER DELETE on "audio_record" for each ROW
  when (old.store = 's3'::text) execute function "audio_record_note_deleted_object_fn"();`);
  }
}
