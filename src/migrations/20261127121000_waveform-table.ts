import { Migration } from "@mikro-orm/migrations";

/** A table of its own for waveforms. Old recordings keep theirs in their rows until a later release. */
export class WaveformTable extends Migration {
  override up(): void | Promise<void> {
    this.addSql(
      `create table "record_waveform" ("record_id" uuid not null, "overview" bytea not null, "detail" bytea null, primary key ("record_id"));`,
    );
    this.addSql(
      `alter table "record_waveform" add constraint "record_waveform_record_id_foreign" foreign key ("record_id") references "audio_record" ("id") on update cascade on delete cascade;`,
    );
  }
}
