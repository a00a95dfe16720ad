import { Migration } from "@mikro-orm/migrations";

export class LeftOutBytes extends Migration {
  override up(): void | Promise<void> {
    this.addSql(`alter table "audio_record" add "source_left_out_bytes" bigint not null default '0';`);
  }
}
