import { Migration } from "@mikro-orm/migrations";

export class DeadUploads extends Migration {
  override up(): void | Promise<void> {
    // Replicas of the last release ignore recordings in a state that they do not know.
    this.addSql(`alter table "audio_record" drop constraint "audio_record_state_check";`);
    this.addSql(
      `alter table "audio_record" add constraint "audio_record_state_check" check ("state" in ('receiving', 'ready', 'dead')) not valid;`,
    );
    // MP3s do not become smaller. The default tries it with each row, and waits with a vacuum until a fifth is dead.
    this.addSql(
      `alter table mp3_chunk alter column bytes set storage external, set (toast.autovacuum_vacuum_scale_factor = 0.01);`,
    );
  }
}
