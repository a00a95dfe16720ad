#!/bin/bash
# At the first start of the primary: the role of the standby, and that a confirmed change is on both servers' disks.
set -euo pipefail

psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --set password="$REPLICATION_PASSWORD" <<'END'
create role replicator login replication password :'password';
alter system set synchronous_standby_names = 'ANY 1 (*)';
END
echo "host replication replicator samenet scram-sha-256" >>"$PGDATA/pg_hba.conf"
