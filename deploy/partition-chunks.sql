-- Divides the table of MP3s into 16 parts, while no upload runs: psql -v ON_ERROR_STOP=1 -f partition-chunks.sql "$DATABASE_URL"
-- on PostgreSQL itself, not through PgBouncer. docs/scale.md says when, and what it takes.
-- It can be stopped and run again at any time; what was copied stays.
set statement_timeout = 0;

select exists (select from pg_partitioned_table where partrelid = 'mp3_chunk'::regclass) as is_divided \gset
\if :is_divided
  \echo The table is divided already.
  \quit
\endif

-- The new table. It locks the table of recordings for a moment, and the trigger that of MP3s. Transactions of the service lock
-- both, so a transaction that locked both here could end in a deadlock with them.
begin;
set local lock_timeout = '5s';
create table if not exists mp3_chunk_divided (
  record_id uuid not null, "position" int not null, bytes bytea not null,
  constraint mp3_chunk_divided_pkey primary key (record_id, "position"),
  constraint mp3_chunk_divided_record_id_foreign foreign key (record_id) references audio_record (id) on delete cascade
) partition by hash (record_id);
alter table mp3_chunk_divided alter column bytes set storage external;
do $$ begin
  for part in 0..15 loop
    execute format('create table if not exists mp3_chunk_%s partition of mp3_chunk_divided
      for values with (modulus 16, remainder %s)
      with (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_vacuum_scale_factor = 0.01)', part, part);
  end loop;
end $$;
commit;

-- A trigger that repeats in the new table whatever changes from now on. Uploads wait for a moment, and never for long.
begin;
set local lock_timeout = '5s';
create or replace function mp3_chunk_repeat() returns trigger language plpgsql as $$ begin
  if tg_op = 'DELETE' then
    delete from mp3_chunk_divided where record_id = old.record_id and "position" = old."position";
  else
    insert into mp3_chunk_divided values (new.record_id, new."position", new.bytes)
      on conflict (record_id, "position") do update set bytes = excluded.bytes;
  end if;
  return null;
end $$;
create or replace trigger mp3_chunk_repeat after insert or update or delete on mp3_chunk
  for each row execute function mp3_chunk_repeat();
commit;

-- Copies one recording after the other. It locks the recording against its deletion first, and then its rows.
create or replace procedure mp3_chunk_copy() language plpgsql as $$
declare
  last uuid := '00000000-0000-0000-0000-000000000000';
  ids uuid[];
begin
  loop
    ids := array(select id from audio_record where id > last order by id limit 1000);
    exit when ids = '{}';
    foreach last in array ids loop
      perform from audio_record where id = last for key share;
      insert into mp3_chunk_divided
        select c.* from mp3_chunk c where c.record_id = last for share
        on conflict (record_id, "position") do nothing;
      commit;
    end loop;
  end loop;
end $$;
call mp3_chunk_copy();

do $$ begin
  if exists (select record_id, "position" from mp3_chunk except select record_id, "position" from mp3_chunk_divided) then
    raise 'rows are missing in the copy: run this again';
  end if;
end $$;

-- The new table takes the place of the old one, as soon as the statements that run have ended.
begin;
set local lock_timeout = '5s';
lock table mp3_chunk in access exclusive mode;
drop trigger mp3_chunk_repeat on mp3_chunk;
drop function mp3_chunk_repeat();
alter table mp3_chunk rename to mp3_chunk_whole;
alter index mp3_chunk_pkey rename to mp3_chunk_whole_pkey;
alter table mp3_chunk_whole rename constraint mp3_chunk_record_id_foreign to mp3_chunk_whole_record_id_foreign;
alter table mp3_chunk_divided rename to mp3_chunk;
alter table mp3_chunk rename constraint mp3_chunk_divided_pkey to mp3_chunk_pkey;
alter table mp3_chunk rename constraint mp3_chunk_divided_record_id_foreign to mp3_chunk_record_id_foreign;
drop procedure mp3_chunk_copy();
commit;

\echo The table is divided. When all is well: drop table mp3_chunk_whole;
