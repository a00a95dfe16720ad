#!/bin/sh
# Starts PgBouncer with the recipe of ../pgbouncer.ini, to the server that PRIMARY names.
set -eu

cd /run/pgbouncer
printf '"web_user_music" "%s"\n' "$DATABASE_PASSWORD" >userlist.txt
sed -e "s/^web_user_music = host=[^ ]*/web_user_music = host=$PRIMARY/" \
  -e 's/^auth_file = .*/auth_file = \/run\/pgbouncer\/userlist.txt\nunix_socket_dir =/' /etc/pgbouncer/recipe.ini >pgbouncer.ini
exec pgbouncer pgbouncer.ini
