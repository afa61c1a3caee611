#!/usr/bin/env bash
#
# snapshot.sh NAME KERNEL WORDS [QEMU OPTION...] - $UNTRUSTED/NAME: a memory snapshot of an untrusted VM that runs the KERNEL of
# testdata/guests, with the truth beside it. $ADD is one more archive for the VM's file system.

# shellcheck source=SCRIPTDIR/../guests/apt.sh
. "$(dirname "$0")/../guests/apt.sh"
need qemu-system-x86_64 go
OURS=$(cd "$(dirname "$0")" && pwd)

[[ $# -ge 3 ]] || die "usage: snapshot.sh NAME KERNEL WORDS [QEMU OPTION...]"
name=$1 kernel=$2 words=$3 arch=amd64
shift 3
[[ $kernel != 686* ]] || arch=i386
mkdir -p "${UNTRUSTED:?}"
UNTRUSTED=$(cd "$UNTRUSTED" && pwd)
export GUESTS UNTRUSTED
"$OURS/root.sh" "$arch"
"$OURS/modules.sh" "$kernel"
build=$UNTRUSTED/build
cd "$OURS"
go run ../../cmd/untrustedvm -out "$UNTRUSTED/$name" -kernel "$GUESTS/kernels/$kernel/vmlinuz" \
  -initrd "$build/root-$arch.cpio,$build/modules-$kernel.cpio${ADD:+,$ADD}" -append "$words" -- "$@"
