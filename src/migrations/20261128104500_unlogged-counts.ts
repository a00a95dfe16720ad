import { Migration } from "@mikro-orm/migrations";

/**
 * Counts of an hour need not survive a crash. Without a log of them, the commit of each count does not wait for the disk. A standby
 * that becomes the primary begins with none.
 */
export class UnloggedCounts extends Migration {
  override up(): void | Promise<void> {
    this.addSql(`alter table "rate_limit" set unlogged;`);
  }
}
