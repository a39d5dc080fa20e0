#!/bin/sh
# Boots a systemd of its own: the first process of a process namespace, with its own mounts, host name, network and cgroups.
# $1: the folder with usr-local-bin, run, var-lib, var-backups and units, which stand in the places of the machine's. Nothing
# else of the machine can be written.
set -e
mount --make-rprivate /
for place in usr/local/bin run var/lib var/backups; do
    mount --bind "$1/$(echo "$place" | tr / -)" "/$place"
done
mkdir /run/units
mount --bind "$1/units" /run/units
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd || {
    umount /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
}
mount -o remount,bind,ro /
ip link set lo up
export container=strongroom-test SYSTEMD_UNIT_PATH=/run/units
exec /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no \
    --default-standard-output=null --default-standard-error=null
