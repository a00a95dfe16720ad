import { Migration } from "@mikro-orm/migrations";

export class NoRequestBytes extends Migration {
  override up(): void | Promise<void> {
    this.addSql(`alter table "audio_record" drop column "request_bytes";`);
  }
}
