#!/usr/bin/env bash
#
# qemu-all.sh - qemu.sh on every kernel, in the forms that emu has to boot too.

cd "$(dirname "$0")" || exit 1
# shellcheck source=SCRIPTDIR/apt.sh
. ./apt.sh
rc=0
run() { ./qemu.sh "$@" || rc=1; }

# QEMU 7.2's cmpxchg16b takes the old flags from a stale cc_op and lets rubbish into EFLAGS; 6.12's slab
# allocator uses it so that it matters (double faults, hangs).  So: no CX16 for 6.12.
cpu() { # KERNEL MODEL
  if [[ $1 == *6.12* ]]; then echo "$2,-cx16"; else echo "$2"; fi
}

rm -f "$GUESTS/qemu-logs/RESULTS"
for kernel in cloud-6.1 generic-6.1 cloud-6.12 686 686-pae; do
  run $kernel plain 'emu.modules=1' -cpu "$(cpu $kernel qemu64)"
  run $kernel nokaslr 'nokaslr emu.modules=1' -cpu "$(cpu $kernel qemu64)"
  run $kernel pti-on 'pti=on emu.modules=1' -cpu "$(cpu $kernel qemu64)"
  run $kernel pti-off 'pti=off emu.modules=1' -cpu "$(cpu $kernel qemu64)"
  run $kernel nehalem 'emu.modules=1' -cpu "$(cpu $kernel Nehalem)"
  run $kernel q35 'emu.modules=1' -M q35 -cpu "$(cpu $kernel qemu64)"
done
for kernel in cloud-6.1 generic-6.1 cloud-6.12; do
  run $kernel root 'emu.root=/dev/vda' -cpu "$(cpu $kernel qemu64)" \
    -drive "file=$GUESTS/root.ext4,format=raw,if=virtio,snapshot=on"
done
run cloud-6.1 qcow2 'emu.root=/dev/vda' -drive "file=$GUESTS/root-compressed.qcow2,format=qcow2,if=virtio,snapshot=on"
run cloud-6.1 devices 'emu.modules=1 emu.show=1' -device virtio-rng-pci -device virtio-serial-pci -device virtconsole,chardev=vc \
  -chardev "file,id=vc,path=$GUESTS/qemu-logs/virtconsole.log"
run cloud-6.1 bench 'emu.run=checks,bench'
exit $rc
