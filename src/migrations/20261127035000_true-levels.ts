import { Migration } from "@mikro-orm/migrations";

export class TrueLevels extends Migration {
  override up(): void | Promise<void> {
    this.addSql(
      `alter table "audio_record" add "true_peak_dbtp" double precision null, add "loudness_range_lu" double precision null, add "gain_steps" int not null default 0;`,
    );
  }
}
