#!/usr/bin/env bash
#
# compress.sh NAME - makes of $SNAPSHOTS/NAME/mem.elf what QEMU can't: kdump files by Debian's makedumpfile, with zlib,
# lzo, snappy and zstd, one with a dump level (free and zero pages left out), one flattened.  The VMCOREINFO that
# makedumpfile asks for comes from mem.raw, at the address that the guest's /sys/kernel/vmcoreinfo named.

# shellcheck source=SCRIPTDIR/../guests/apt.sh
. "$(dirname "$0")/../guests/apt.sh"
need dpkg-deb
dir=${SNAPSHOTS:?}/$1
[[ -r $dir/mem.elf && -r $dir/mem.raw && -r $dir/truth ]] || die "$dir lacks mem.elf, mem.raw or truth; see dump.sh"

root=$SNAPSHOTS/makedumpfile
if [[ ! -x $root/usr/bin/makedumpfile ]]; then
  lock_cache
  apt_setup
  for p in makedumpfile liblzo2-2 libsnappy1v5 libdw1 libelf1 libzstd1 libbz2-1.0 liblzma5 zlib1g; do
    dpkg-deb -x "$(fetch "$p" amd64)" "$root"
  done
  exec 9>&-
fi
mkdumpfile() {
  LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu "$root/usr/bin/makedumpfile" \
    --message-level 4 -i "$dir/vmcoreinfo" "$@"
}
read -r _ at size < <(grep '^vmcoreinfo ' "$dir/truth")
dd if="$dir/mem.raw" bs=1 skip=$((at + 24)) count=$((16#$size - 24)) status=none | tr -d '\0' >"$dir/vmcoreinfo"
for kind in c:zlib l:lzo p:snappy z:zstd; do
  rm -f "$dir/mem.makedumpfile-${kind#*:}"
  mkdumpfile "-${kind%:*}" -d 0 "$dir/mem.elf" "$dir/mem.makedumpfile-${kind#*:}" ||
    note "this makedumpfile writes no ${kind#*:}"
done
mkdumpfile -l -d 31 -F "$dir/mem.elf" >"$dir/mem.makedumpfile-flat"
