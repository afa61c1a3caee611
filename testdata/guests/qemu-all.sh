#!/usr/bin/env bash
#
# qemu-all.sh - qemu.sh on every kernel, in the forms that emu has to boot too.

cd "$(dirname "$0")" || exit 1
. ./apt.sh
rc=0
run() { ./qemu.sh "$@" || rc=1; }

rm -f "$GUESTS/qemu-logs/RESULTS"
for kernel in cloud-6.1 generic-6.1 cloud-6.12 686 686-pae; do
  run $kernel plain 'emu.modules=1'
  run $kernel nokaslr 'nokaslr emu.modules=1'
  run $kernel pti-on 'pti=on emu.modules=1'
  run $kernel pti-off 'pti=off emu.modules=1'
  run $kernel nehalem 'emu.modules=1' -cpu Nehalem
  run $kernel q35 'emu.modules=1' -M q35
done
for kernel in cloud-6.1 generic-6.1 cloud-6.12; do
  run $kernel root 'emu.root=/dev/vda' -drive "file=$GUESTS/root.ext4,format=raw,if=virtio,snapshot=on"
done
run cloud-6.1 qcow2 'emu.root=/dev/vda' -drive "file=$GUESTS/root-compressed.qcow2,format=qcow2,if=virtio,snapshot=on"
run cloud-6.1 devices 'emu.modules=1 emu.show=1' -device virtio-rng-pci -device virtio-serial-pci -device virtconsole,chardev=vc \
  -chardev "file,id=vc,path=$GUESTS/qemu-logs/virtconsole.log"
run cloud-6.1 bench 'emu.run=checks,bench'
exit $rc
