import { Migration } from "@mikro-orm/migrations";

/** The ticket of an upload that was started with one. */
export class ResumableTickets extends Migration {
  override up(): void | Promise<void> {
    this.addSql(`alter table "resumable_upload" add column "ticket_id" uuid null;`);
  }
}
