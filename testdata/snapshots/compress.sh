#!/usr/bin/env bash
#
# compress.sh NAME - makes of $SNAPSHOTS/NAME/mem.elf what QEMU can't: kdump files by Debian's makedumpfile, with zlib,
# lzo and stored pages, and a flattened one with a dump level (zero, cache, user and free pages left out).  $EMU is
# the program, which finds the VMCOREINFO that makedumpfile asks for.

# shellcheck source=SCRIPTDIR/../guests/apt.sh
. "$(dirname "$0")/../guests/apt.sh"
need dpkg-deb
dir=${SNAPSHOTS:?}/$1
[[ -r $dir/mem.elf ]] || die "$dir lacks mem.elf; see dump.sh"

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
    --message-level 4 "$@"
}
# makedumpfile 1.7.2 does not read QEMU's ELF files; what emu makes of them it does.
rm -f "$dir"/mem.makedumpfile-*
"${EMU:?}" snapshot convert --vmcoreinfo --format elf "$dir/mem.elf" "$dir/plain.elf"
# Debian's makedumpfile is built without zstd: pages that it should compress so are stored.
for kind in c:zlib l:lzo z:stored; do
  mkdumpfile "-${kind%:*}" -d 0 "$dir/plain.elf" "$dir/mem.makedumpfile-${kind#*:}"
done
mkdumpfile -l -d 31 -F "$dir/plain.elf" >"$dir/mem.makedumpfile-flat"
rm -f "$dir/plain.elf"
chmod go+r "$dir"/mem.makedumpfile-*
