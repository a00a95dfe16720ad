#!/bin/bash
# One of the two PostgreSQL servers. PRIMARY names the one that leads, NODE this one. With an empty volume, the other one copies
# the primary, and from then on follows it.
set -euo pipefail

if [ "$NODE" != "$PRIMARY" ]; then
  if [ ! -s "$PGDATA/PG_VERSION" ]; then
    copy=$PGDATA/copy
    tries=0
    chown postgres:postgres "$PGDATA"
    until rm -rf "$copy" && gosu postgres pg_basebackup --pgdata "$copy" --write-recovery-conf --checkpoint fast \
      --dbname "host=$PRIMARY user=replicator password=$REPLICATION_PASSWORD application_name=$NODE"; do
      tries=$((tries + 1))
      echo "$PRIMARY cannot be copied yet"
      if [ $((tries % 10)) = 0 ]; then
        echo "That was try $tries. If $PRIMARY had data before it got a standby, it has no role \"replicator\":" \
          "docs/scale.md says under \"A database that has data already\" how to create it."
      fi
      sleep 2
    done
    # Last comes the file that says that it is complete.
    find "$copy" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv --target-directory "$PGDATA" {} +
    mv "$copy/PG_VERSION" "$PGDATA"
    rmdir "$copy"
  elif [ ! -e "$PGDATA/standby.signal" ]; then
    echo "This server has led before, and $PRIMARY leads now: its data may differ. Delete its volume to make it a standby."
    exit 1
  fi
fi
# A standby that was away catches up from the last gigabyte of the log. Longer away, it needs an empty volume.
exec docker-entrypoint.sh postgres -c wal_keep_size=1GB
