#!/usr/bin/env bash
#
# root.sh - $GUESTS/root.ext4 and root.qcow2: a Debian made by debootstrap (minbase), with
# /sbin/emu-root to go on where ./init leaves off.  debootstrap needs root.

# shellcheck source=SCRIPTDIR/apt.sh
. "$(dirname "$0")/apt.sh"
need debootstrap mke2fs qemu-img
[[ $(id -u) == 0 ]] || die "debootstrap needs root"

SIZE=400M

build() {
  local tree=$GUESTS/root.tree tar=$GUESTS/debootstrap.tar
  apt_setup
  rm -rf "$tree"
  mkdir -p "$tree"
  if [[ ! -r $tar ]]; then
    note "debootstrap: fetching $RELEASE"
    debootstrap --variant=minbase --make-tarball="$tar.new" "$RELEASE" "$tree.tmp" "$(mirror)" >"$GUESTS/root.log" 2>&1 ||
      die "debootstrap: see $GUESTS/root.log"
    mv "$tar.new" "$tar"
    rm -rf "$tree.tmp"
  fi
  note "debootstrap: installing"
  debootstrap --variant=minbase --unpack-tarball="$tar" "$RELEASE" "$tree" "$(mirror)" >>"$GUESTS/root.log" 2>&1 ||
    die "debootstrap: see $GUESTS/root.log"
  rm -rf "$tree"/var/cache/apt/* "$tree"/var/lib/apt/lists/* "$tree"/var/log/* \
    "$tree"/usr/share/{doc,man,info,locale,lintian} "$tree"/etc/apt/sources.list "$tree"/var/lib/dpkg/*-old
  : >"$tree/etc/resolv.conf"
  echo emu-guest >"$tree/etc/hostname"
  : >"$tree/etc/machine-id"
  cp "$(command -v busybox)" "$tree/usr/local/bin/busybox"
  install -m 755 "$HERE/emu-root" "$tree/usr/sbin/emu-root"
  # What the guest compares the disk's bytes with; files that a boot may change are not in it.
  (cd "$tree" && find usr/bin usr/lib -xdev -type f | sort | xargs -d '\n' sha256sum >etc/emu.sha256)
  find "$tree" -xdev -exec touch -h -d @1700000000 {} +
  rm -f "$GUESTS/root.ext4.new"
  mke2fs -q -t ext4 -L emu-root -U 656d7500-0000-4000-8000-000000000001 \
    -E hash_seed=656d7500-0000-4000-8000-000000000002,root_owner=0:0 -d "$tree" "$GUESTS/root.ext4.new" "$SIZE"
  qemu-img convert -f raw -O qcow2 "$GUESTS/root.ext4.new" "$GUESTS/root.qcow2.new"
  qemu-img convert -c -f raw -O qcow2 "$GUESTS/root.ext4.new" "$GUESTS/root-compressed.qcow2.new"
  mv "$GUESTS/root.qcow2.new" "$GUESTS/root.qcow2"
  mv "$GUESTS/root-compressed.qcow2.new" "$GUESTS/root-compressed.qcow2"
  made "$GUESTS/root.ext4"
  rm -rf "$tree"
  note "root.ext4: $(du -k "$GUESTS/root.ext4" | cut -f 1) KiB on disk"
}

lock_cache
current "$GUESTS/root.ext4" "$HERE/root.sh" "$HERE/emu-root" || build
