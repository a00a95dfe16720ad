import { Migration } from "@mikro-orm/migrations";

export class PlayKeys extends Migration {
  override up(): void | Promise<void> {
    // In two steps, so that the rows are not rewritten. Users without a key get one with their first play link.
    this.addSql(`alter table "app_user" add "play_key" uuid null;`);
    this.addSql(`alter table "app_user" alter "play_key" set default gen_random_uuid();`);
  }
}
