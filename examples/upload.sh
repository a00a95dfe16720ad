#!/bin/sh
# TOKEN=... sh examples/upload.sh examples/tone.wav
set -eu
endpoint=${ENDPOINT:-http://localhost:8000/graphql}
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# A retry with the same key returns the recording that an earlier attempt stored.
key=$(uuidgen 2>/dev/null || cat /proc/sys/kernel/random/uuid)
query='mutation UploadRecord($file: Upload!, $key: UUID) { uploadRecord(file: $file, idempotencyKey: $key) { record { id title url } } }'
# curl starts no retry later than 60 seconds after the first attempt, even if the service asks it to wait longer. Raise the
# limit for files that take longer to send.
curl --silent --show-error --retry 3 --retry-all-errors --retry-max-time 60 --output "$answer" "$endpoint" --header "authorization: Bearer $TOKEN" \
  --form-string "operations={\"query\":\"$query\",\"variables\":{\"file\":null,\"key\":\"$key\"}}" \
  --form-string 'map={"0":["variables.file"]}' \
  --form "0=@\"$1\""

if grep -q '"errors"' "$answer"; then
  printf '%s\n' "$(cat "$answer")" >&2
  seconds=$(sed -n 's/.*"retryAfterSeconds":\([0-9]*\).*/\1/p' "$answer")
  if [ -n "$seconds" ]; then
    echo "Not tried again: the service asks to wait for $seconds seconds." >&2
  fi
  exit 1
fi
sed 's/.*"url":"\([^"]*\)".*/\1/' "$answer"
