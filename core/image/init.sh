#!/bin/busybox sh
# Init of a trusted VM: what tools look at is mounted, modules are loaded, and the agent takes over.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
# When a file was read last is nothing that a tool needs, and whether it is noted depends on the time.
$bb mount -o remount,noatime rootfs /
$bb mount -t devtmpfs devtmpfs /dev
$bb mkdir -p /dev/pts /dev/shm
$bb mount -t devpts devpts /dev/pts
$bb mount -t tmpfs tmpfs /dev/shm
$bb mount -t tmpfs tmpfs /run
$bb mount -t tmpfs tmpfs /tmp
while read -r module; do
  $bb insmod "/$module" || echo "init: $module does not load"
done </etc/trusted-modules
$bb ifconfig lo 127.0.0.1 up
$bb hostname trusted
echo 1 >/proc/sys/kernel/printk
# A terminal of the snapshot has a name for ps only if there is a device of its number here: hold some open.
for _ in 1 2 3 4; do
  $bb sleep 2147483647 </dev/null >/dev/null 2>&1 3<>/dev/ptmx 4<>/dev/ptmx 5<>/dev/ptmx 6<>/dev/ptmx 7<>/dev/ptmx \
    8<>/dev/ptmx 9<>/dev/ptmx &
done
# Tools have numbers that processes of a snapshot hardly have.
echo 4194304 >/proc/sys/kernel/pid_max
echo 4190000 >/proc/sys/kernel/ns_last_pid
exec $bb env -i HOME=/root LANG=C TERM=vt100 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  $bb sh /etc/trusted-agent
