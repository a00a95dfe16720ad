import { Migration } from "@mikro-orm/migrations";

export class QuotaState extends Migration {
  override up(): void | Promise<void> {
    // The quota of a user, what is used of it, and the limit that an addition would exceed, if any; no row for an
    // unknown user. Nothing is summed for a user without limits. If asked to, it first locks a user who has limits until
    // the end of the transaction. A function, because only a statement that begins after it got the lock sees what the
    // upload before has stored, and each statement of a volatile function sees what is committed when it begins.
    this.addSql(
      `create function quota_state(user_id int, default_bytes bigint, default_seconds bigint, default_records int,
         added_bytes bigint, added_microseconds bigint, locks boolean)
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
