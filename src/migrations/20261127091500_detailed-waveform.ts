import { Migration } from "@mikro-orm/migrations";

export class DetailedWaveform extends Migration {
  override up(): void | Promise<void> {
    this.addSql(`alter table "audio_record" add "waveform_detail" bytea null;`);
  }
}
