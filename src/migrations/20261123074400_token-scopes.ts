import { Migration } from "@mikro-orm/migrations";

export class TokenScopes extends Migration {
  override up(): void | Promise<void> {
    this.addSql(
      `alter table "access_token" add "scopes" text[] not null default '{READ,WRITE}', add "expires_at" timestamptz null, add "last_used_at" timestamptz null;`,
    );
    this.addSql(
      `alter table "access_token" add constraint "access_token_scopes_check" check ("scopes" <@ array['READ'::text, 'WRITE'::text]);`,
    );
  }
}
