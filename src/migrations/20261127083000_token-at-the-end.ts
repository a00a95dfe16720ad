import { Migration } from "@mikro-orm/migrations";

export class TokenAtTheEnd extends Migration {
  override up(): void | Promise<void> {
    // Adds the token of the upload. If it was revoked, also while the function waited for the lock of the user, there is
    // no row. Otherwise it cannot be revoked until the end of the transaction. Replicas of the last release give none.
    this.addSql(`drop function quota_state(int, bigint, bigint, int, bigint, bigint, boolean);`);
    this.addSql(
      `create function quota_state(user_id int, default_bytes bigint, default_seconds bigint, default_records int,
         added_bytes bigint, added_microseconds bigint, locks boolean, token_id uuid default null)
       returns table (exceeded text, max_bytes bigint, max_seconds bigint, max_records int,
         used_bytes bigint, used_microseconds bigint, used_records bigint)
       language plpgsql volatile as $$
       begin
         for turn in 1 .. 2 loop
           select coalesce(quota_bytes, default_bytes), coalesce(quota_seconds, default_seconds),
             coalesce(quota_records, default_records)
           into max_bytes, max_seconds, max_records from app_user where id = user_id;
           if not found then
             return;
           end if;
           exit when turn = 2 or not locks or greatest(max_bytes, max_seconds, max_records) <= 0;
           perform from app_user where id = user_id for no key update;
         end loop;
         if token_id is not null then
           perform from access_token where id = token_id for key share;
           if not found then
             return;
           end if;
         end if;
         used_bytes := 0;
         used_microseconds := 0;
         used_records := 0;
         if greatest(max_bytes, max_seconds, max_records) > 0 then
           select coalesce(sum(size_bytes), 0), coalesce(sum(source_samples * 1000000 / source_sample_rate_hz), 0), count(*)
           into used_bytes, used_microseconds, used_records
           from audio_record where owner_id = user_id and state = 'ready';
         end if;
         exceeded := case
           when max_bytes > 0 and used_bytes + added_bytes > max_bytes then 'bytes'
           when max_seconds > 0 and used_microseconds + added_microseconds > max_seconds * 1000000 then 'seconds'
           when max_records > 0 and used_records + 1 > max_records then 'records'
         end;
         return next;
       end $$;`,
    );
  }
}
