import { Migration } from "@mikro-orm/migrations";

export class RenewedTokens extends Migration {
  override up(): void | Promise<void> {
    this.addSql(`alter table "access_token" add "next_sha256" bytea null;`);
    this.addSql(`alter table "access_token" add constraint "access_token_next_sha256_unique" unique ("next_sha256");`);
  }
}
