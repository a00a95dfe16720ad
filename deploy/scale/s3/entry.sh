#!/bin/bash
# Ceph RGW on one disk of one machine: a real S3 for trials. Its data survives a restart, and nothing else: for work, use an S3
# that somebody operates.
set -euo pipefail
D=/var/lib/rgw
export CEPH_CONF=$D/ceph.conf
as_root="--setuser root --setgroup root"

if [ ! -e $D/ready ]; then
  rm -rf ${D:?}/*
  new-cluster $D 13300 <<'C'
run_dir = /run
pid_file = /run/$name.pid
admin_socket = /run/$name.asok
log_file = /dev/null
osd_objectstore = bluestore
bluestore_block_size = 8589934592
rgw_frontends = beast endpoint=0.0.0.0:8080
rgw_dns_name = s3
C
  radosgw-admin -n client.rgw user create --uid=music --display-name=music --access-key="$S3_ACCESS_KEY" --secret-key="$S3_SECRET_KEY"
  touch $D/ready
else
  ceph-mon -i a $as_root
  ceph-osd -i 0 $as_root
fi

# The bucket, as soon as the gateway answers. curl 7.88 signs neither the port nor the empty body by itself.
rm -f /run/bucket
empty=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
(until curl --silent --fail --output /dev/null --request PUT --user "$S3_ACCESS_KEY:$S3_SECRET_KEY" --aws-sigv4 aws:amz:us-east-1:s3 \
  --header "host: 127.0.0.1:8080" --header "x-amz-content-sha256: $empty" "http://127.0.0.1:8080/$S3_BUCKET"; do sleep 1; done
touch /run/bucket) &
exec radosgw -n client.rgw $as_root -f
