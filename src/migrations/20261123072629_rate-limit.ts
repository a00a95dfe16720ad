import { Migration } from "@mikro-orm/migrations";

export class RateLimit extends Migration {
  override up(): void | Promise<void> {
    this.addSql(
      `create table "rate_limit" ("key" text not null, "points" int not null default 0, "expire" bigint null, primary key ("key"));`,
    );
  }
}
