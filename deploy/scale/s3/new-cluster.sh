#!/bin/bash
# A new Ceph with one monitor and one disk, which both run when this ends; the gateway comes next. As root, with Debian's packages
# ceph-mon, ceph-osd, ceph-common and radosgw. $1: a folder for its data and its ceph.conf. $2: the port of the monitor, on
# loopback. Standard input: more lines for ceph.conf.
set -euo pipefail
D=$1
MON="[v2:127.0.0.1:$2]"
export CEPH_CONF=$D/ceph.conf
FSID=$(cat /proc/sys/kernel/random/uuid)
mkdir -p "$D"/{mon,osd,mgr}
more=$(cat)
cat >"$CEPH_CONF" <<C
[global]
fsid = $FSID
mon_host = $MON
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
keyring = $D/keyring
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_crush_chooseleaf_type = 0
mon_data = $D/mon
osd_data = $D/osd
ms_bind_ipv6 = false
ms_bind_msgr1 = false
$more
C
monmaptool --create --addv a "$MON" --fsid "$FSID" "$D/monmap"
ceph-authtool -C "$D/keyring" --gen-key -n mon. --cap mon 'allow *'
ceph-authtool "$D/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
ceph-authtool "$D/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
ceph-authtool "$D/keyring" --gen-key -n client.rgw --cap mon 'allow rwx' --cap osd 'allow rwx'
ceph-mon --mkfs -i a --monmap "$D/monmap" --keyring "$D/keyring"
ceph-mon -i a --setuser root --setgroup root
OSD=$(cat /proc/sys/kernel/random/uuid)
ceph osd new "$OSD" 0
ceph-osd -i 0 --mkfs --osd-uuid "$OSD"
ceph-osd -i 0 --setuser root --setgroup root
ceph osd crush add osd.0 1.0 root=default host=here
