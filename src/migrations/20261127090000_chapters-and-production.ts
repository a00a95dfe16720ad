import { Migration } from "@mikro-orm/migrations";

export class ChaptersAndProduction extends Migration {
  override up(): void | Promise<void> {
    this.addSql(`alter table "audio_record" add "chapters" jsonb null, add "production" jsonb null;`);
  }
}
