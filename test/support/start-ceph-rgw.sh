#!/bin/bash
# A real S3 for tests: Ceph RGW, with its data in memory and its files in $D, on 127.0.0.1:$PORT. To stop it: kill $(cat $D/*.pid)
# The monitor decides at once, instead of once a second. Usage: D=folder PORT=... MON_PORT=... start-ceph-rgw.sh
set -e
mkdir -p $D/log
"$(dirname "$0")/../../deploy/scale/s3/new-cluster.sh" $D $MON_PORT <<C
run_dir = $D
pid_file = $D/\$name.pid
admin_socket = $D/\$name.asok
log_file = $D/log/\$name.log
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
osd_objectstore = memstore
memstore_device_bytes = 2147483648
rgw_frontends = beast endpoint=127.0.0.1:$PORT
rgw_enable_usage_log = false
rgw_dns_name = localhost
C
export CEPH_CONF=$D/ceph.conf
radosgw -n client.rgw --setuser root --setgroup root
for _ in $(seq 600); do curl -s -o /dev/null http://127.0.0.1:$PORT && break; sleep 0.1; done
admin="radosgw-admin -n client.rgw"
$admin user create --uid=music --display-name=music --access-key=musickey --secret-key=musicsecret
$admin user create --uid=small --display-name=small --access-key=smallkey --secret-key=smallsecret
$admin quota set --uid=small --quota-scope=user --max-size=1048576
$admin quota enable --uid=small --quota-scope=user
