-- Moves the waveforms of recordings from before the table record_waveform into it, a thousand at a time, while the service runs:
-- psql -v ON_ERROR_STOP=1 -f move-waveforms.sql "$DATABASE_URL", on PostgreSQL itself, not through PgBouncer. Replicas of releases
-- without that table would show no waveform of them, so update these first. It can be stopped and run again at any time.
set statement_timeout = 0;

create or replace procedure move_waveforms() language plpgsql as $$
declare
  last uuid := '00000000-0000-0000-0000-000000000000';
  ids uuid[];
begin
  loop
    ids := array(select id from audio_record where id > last and waveform is not null order by id limit 1000 for no key update);
    exit when ids = '{}';
    insert into record_waveform (record_id, overview, detail)
      select id, waveform, waveform_detail from audio_record where id = any (ids)
      on conflict do nothing;
    update audio_record set waveform = null, waveform_detail = null where id = any (ids);
    last := ids[cardinality(ids)];
    commit;
  end loop;
end $$;
call move_waveforms();
drop procedure move_waveforms();
vacuum analyze audio_record;
