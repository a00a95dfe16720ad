import { Migration } from "@mikro-orm/migrations";

export class LeastPrivilege extends Migration {
  override up(): void | Promise<void> {
    this.addSql(`alter table "access_token" drop constraint "access_token_scopes_check";`);
    this.addSql(
      `alter table "access_token" add "parent_id" uuid null, alter column "scopes" set default '{READ,WRITE,MANAGE}';`,
    );
    this.addSql(
      `alter table "access_token" add constraint "access_token_scopes_check" check ("scopes" <@ array['READ'::text, 'WRITE'::text, 'UPLOAD'::text, 'MANAGE'::text]);`,
    );
    this.addSql(
      `alter table "access_token" add constraint "access_token_parent_id_foreign" foreign key ("parent_id") references "access_token" ("id") on delete cascade;`,
    );
    this.addSql(`create index "access_token_parent_id_index" on "access_token" ("parent_id");`);
    // Before, WRITE allowed what takes MANAGE now: nobody loses a right.
    this.addSql(`update "access_token" set "scopes" = array_append("scopes", 'MANAGE') where 'WRITE' = any("scopes");`);
    this.addSql(`alter table "audio_record" add "made_by" uuid null;`);
  }
}
