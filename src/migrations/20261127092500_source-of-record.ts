import { Migration } from "@mikro-orm/migrations";

/** An index for the question whether a library has a recording of a file. */
export class SourceOfRecord extends Migration {
  override up(): void | Promise<void> {
    // It locks the table while it is built, which no release before this one has.
    this.addSql(`create index audio_record_source on audio_record (owner_id, source_sha256) where state = 'ready';`);
  }
}
