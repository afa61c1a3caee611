#!/usr/bin/env bash
#
# icount.sh NAME WORDS [QEMU OPTION...] - how many guest instructions QEMU has executed when each
# landmark of the boot is on the console; also in $GUESTS/qemu-logs/NAME.icount.  INITRD names
# another initial RAM disk than the kernel's own.

# shellcheck source=SCRIPTDIR/apt.sh
. "$(dirname "$0")/apt.sh"
need qemu-system-x86_64 gcc od

[[ $# -ge 2 && -r $GUESTS/kernels/$1/initrd.cpio ]] || die "usage: icount.sh NAME WORDS [QEMU OPTION...]"
name=$1 words=$2 kernel=$GUESTS/kernels/$1
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$GUESTS/qemu-logs"
gcc -O2 -Wall -Wextra -shared -fPIC -o "$work/icount.so" "$HERE/icount.c"

landmarks() {
  local line
  while IFS= read -r line; do
    case $line in
      *EMU-* | *'BENCH '* | *'Linux version'* | *'Unpacking initramfs'* | *'Freeing initrd'* | *'Run /init'* | *'Power down'* | *panic*)
        printf '%14d %s\n' "$(od -An -tu8 "$work/count")" "${line%$'\r'}" ;;
    esac
  done
}

timeout "${TIMEOUT:-300}" qemu-system-x86_64 -accel tcg -m 512 -nodefaults -display none -no-reboot -serial stdio \
  -kernel "$kernel/vmlinuz" -initrd "${INITRD:-$kernel/initrd.cpio}" -append "console=ttyS0 panic=-1${words:+ $words}" \
  -plugin "$work/icount.so,count=$work/count" "$@" </dev/null | landmarks | tee "$GUESTS/qemu-logs/$name.icount"
