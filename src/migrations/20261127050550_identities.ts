import { Migration } from "@mikro-orm/migrations";

export class Identities extends Migration {
  override up(): void | Promise<void> {
    this.addSql(`alter table "app_user" add "issuer" text null, add "subject" text null;`);
    this.addSql(`alter table "app_user" add constraint "app_user_identity" unique ("issuer", "subject");`);
  }
}
