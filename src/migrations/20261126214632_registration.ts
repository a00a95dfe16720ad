import { Migration } from "@mikro-orm/migrations";

export class Registration extends Migration {
  override up(): void | Promise<void> {
    this.addSql(
      `create table "invitation" ("sha256" bytea not null, "created_at" timestamptz not null default now(), "expires_at" timestamptz not null, primary key ("sha256"));`,
    );
    this.addSql(
      `create table "write_allowance" ("key" text not null, "used_bytes" double precision not null, "at" timestamptz not null, primary key ("key"));`,
    );
    this.addSql(
      `alter table "app_user" add "is_vouched_for" boolean not null default false, add "disabled_at" timestamptz null;`,
    );

    // Takes bytes from several allowances, or from none of them. Each comes back evenly, per_day in a day, and holds at
    // most saved_days of that. Null: taken; else the number of the one that is used up, and the seconds until it is not.
    // A function, so that the statement that writes the bytes asks for them: a round trip less, and no way round it.
    this.addSql(
      `create function charge_allowance(keys text[], per_day double precision[], saved_days int, amount double precision)
       returns double precision[] language plpgsql as $$
       declare
         used double precision;
         most double precision;
       begin
         for i in 1 .. cardinality(keys) loop
           most := per_day[i] * saved_days;
           insert into write_allowance as held (key, used_bytes, at) values (keys[i], amount, clock_timestamp())
           on conflict (key) do update set
             used_bytes = amount + greatest(0, held.used_bytes
               - per_day[i] * extract(epoch from clock_timestamp() - held.at) / 86400),
             at = clock_timestamp()
           returning used_bytes into used;
           if used > most then
             update write_allowance set used_bytes = used_bytes - amount where key = any(keys[1:i]);
             return array[i, ceil((used - most) * 86400 / per_day[i])];
           end if;
         end loop;
         return null;
       end $$;`,
    );

    // Room of deleted recordings is used again soon; by default a fifth of the table has to be dead first.
    this.addSql(
      `alter table mp3_chunk set (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.05);`,
    );
  }
}
