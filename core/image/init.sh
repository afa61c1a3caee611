#!/bin/busybox sh
# Init of a trusted VM: what tools look at is mounted, modules are loaded, and the agent takes over.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
$bb mkdir -p /dev/pts /dev/shm
# Terminals of the snapshot have names if there are such devices here; none of them can be opened.
n=0
while [ $n -lt 64 ]; do
  $bb mknod /dev/pts/$n c 136 $n
  n=$((n + 1))
done
$bb mount -t tmpfs tmpfs /dev/shm
$bb mount -t tmpfs tmpfs /run
$bb mount -t tmpfs tmpfs /tmp
while read -r module; do
  $bb insmod "/$module" || echo "init: $module does not load"
done </etc/trusted-modules
$bb ifconfig lo 127.0.0.1 up
$bb hostname trusted
echo 1 >/proc/sys/kernel/printk
exec $bb env -i HOME=/root LANG=C TERM=vt100 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  $bb sh /etc/trusted-agent
