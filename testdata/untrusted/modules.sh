#!/usr/bin/env bash
#
# modules.sh NAME - $UNTRUSTED/build/modules-NAME.cpio: what /etc/modules of the untrusted VM names, of the kernel NAME of
# testdata/guests, with what it depends on, as an archive.

# shellcheck source=SCRIPTDIR/../guests/apt.sh
. "$(dirname "$0")/../guests/apt.sh"
need depmod modprobe cpio
OURS=$(cd "$(dirname "$0")" && pwd)

build() {
  local out=$1 stage version path
  local -a names
  stage=$(mktemp -d)
  # shellcheck disable=SC2064  # now, not then
  trap "rm -rf '$stage'" EXIT
  mkdir -p "$stage/all" "$stage/tree"
  dpkg-deb --fsys-tarfile "$GUESTS/debs/$(cat "$kernel/package")" | tar -x -C "$stage/all" --exclude=./usr --exclude=./boot
  version=$(cat "$kernel/version")
  mapfile -t names <"$OURS/modules"
  depmod -b "$stage/all" "$version"
  modprobe -d "$stage/all" -S "$version" --show-depends -a "${names[@]}" | awk '$1 == "insmod" { print $2 }' | sort -u |
    while IFS= read -r path; do
      path=${path#"$stage/all/"}
      mkdir -p "$stage/tree/${path%/*}"
      cp "$stage/all/$path" "$stage/tree/$path"
    done
  cp "$stage/all/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$stage/tree/lib/modules/$version/"
  depmod -b "$stage/tree" "$version"
  chmod -R u+rwX,go+rX "$stage/tree"
  archive "$stage/tree" >"$out.new"
  made "$out"
  note "modules-${kernel##*/}.cpio: $(stat -c %s "$out") bytes"
}

kernel=$GUESTS/kernels/${1:-none}
[[ $# == 1 && -r $kernel/package ]] || die "usage: modules.sh NAME, after make guest-NAME"
mkdir -p "${UNTRUSTED:?}/build"
lock_cache
out=$UNTRUSTED/build/modules-$1.cpio
current "$out" "$OURS"/{modules.sh,modules} "$kernel/package" || build "$out"
