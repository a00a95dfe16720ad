import { Migration } from "@mikro-orm/migrations";

/** Indexes that are built while the tables are in use. One that was left half built is replaced. */
export class ExpiryIndexes extends Migration {
  override isTransactional(): boolean {
    return false;
  }

  override up(): void | Promise<void> {
    this.addSql(`drop index concurrently if exists audio_record_expiry;`);
    this.addSql(
      `create index concurrently audio_record_expiry on audio_record (lease_until) where lease_until is not null;`,
    );
    this.addSql(`drop index concurrently if exists audio_record_lease;`);
    this.addSql(`drop index concurrently if exists rate_limit_expire_index;`);
    this.addSql(`create index concurrently "rate_limit_expire_index" on "rate_limit" ("expire");`);
  }
}
