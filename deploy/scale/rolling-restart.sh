#!/bin/bash
# Replaces the replicas one after the other by new ones, for instance of a new image. Each new one is ready before an old one
# gets SIGTERM, and that one ends when its uploads have ended.
set -euo pipefail
cd "$(dirname "$0")/../.."
# Other files, such as one with the operator's own changes, are named by the shell or by .env.
if [ -z "${COMPOSE_FILE:-}" ] && ! grep -Eqs '^[[:space:]]*(export[[:space:]]+)?COMPOSE_FILE=' .env; then
  export COMPOSE_FILE=docker-compose.yml:compose.scale.yml
fi

old=$(docker compose ps --quiet service)
for container in $old; do
  docker compose up --detach --wait --no-deps --no-recreate --scale "service=$(($(wc -w <<<"$old") + 1))" service
  docker stop --time "${STOP_SECONDS:-60}" "$container"
  docker rm "$container"
done
