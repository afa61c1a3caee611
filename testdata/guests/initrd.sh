#!/usr/bin/env bash
#
# initrd.sh NAME - $GUESTS/kernels/NAME/initrd.cpio: the tools of the kernel's architecture,
# then its modules, two archives end to end.  Uncompressed, because unpacking is
# emulated; initrd.cpio.gz is the same for who wants less on disk.

# shellcheck source=SCRIPTDIR/apt.sh
. "$(dirname "$0")/apt.sh"
need cpio gzip

[[ $# == 1 && -r $GUESTS/kernels/$1/vmlinuz ]] || die "usage: initrd.sh NAME, after kernel.sh NAME"
out=$GUESTS/kernels/$1 arch=amd64
[[ $1 != 686* ]] || arch=i386
[[ -r $GUESTS/tools-$arch.cpio ]] || die "run tools.sh $arch first"
lock_cache
! current "$out/initrd.cpio" "$HERE/initrd.sh" "$GUESTS/tools-$arch.cpio" "$out"/modules/* || exit 0
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/lib"
cp -r "$out/modules" "$tree/lib/modules"
chmod -R u+w,go+rX "$tree/lib"
{
  cat "$GUESTS/tools-$arch.cpio"
  archive "$tree"
} >"$out/initrd.cpio.new"
gzip -1nc "$out/initrd.cpio.new" >"$out/initrd.cpio.gz.new"
mv "$out/initrd.cpio.gz.new" "$out/initrd.cpio.gz"
made "$out/initrd.cpio"
note "$1: initrd.cpio $(stat -c %s "$out/initrd.cpio") bytes, .gz $(stat -c %s "$out/initrd.cpio.gz")"
