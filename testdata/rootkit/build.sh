#!/usr/bin/env bash
#
# build.sh KERNEL - $UNTRUSTED/build/rootkit.cpio: hide.ko, built with Debian's headers of that kernel of testdata/guests, and
# what the untrusted VM's init does with it.

# shellcheck source=SCRIPTDIR/../guests/apt.sh
. "$(dirname "$0")/../guests/apt.sh"
need gcc make cpio
OURS=$(cd "$(dirname "$0")" && pwd)

build() {
  local out=$1 stage version common package headers
  stage=$(mktemp -d)
  # shellcheck disable=SC2064  # now, not then
  trap "rm -rf '$stage'" EXIT
  version=$(cat "$kernel/version")
  common=linux-headers-${version%-cloud-amd64}-common
  apt_setup
  for package in "linux-headers-$version" "$common" "linux-kbuild-${version%%.0-*}"; do
    dpkg-deb -x "$(fetch "$package" amd64)" "$stage/root"
  done
  headers=$stage/root/usr/src/linux-headers-$version
  # The packages' makefiles name each other by where they would be installed.
  sed -i "s|/usr/src/|$stage/root/usr/src/|g" "$headers/Makefile"
  mkdir -p "$stage/source" "$stage/tree/lib" "$stage/tree/etc"
  cp "$OURS/hide.c" "$OURS/Kbuild" "$stage/source/"
  make -s -C "$headers" M="$stage/source" CC=gcc modules >&2
  strip --strip-debug "$stage/source/hide.ko"
  cp "$stage/source/hide.ko" "$stage/tree/lib/"
  cp "$OURS/start" "$stage/tree/etc/start"
  archive "$stage/tree" >"$out.new"
  made "$out"
}

kernel=$GUESTS/kernels/${1:-none}
[[ $# == 1 && -r $kernel/version ]] || die "usage: build.sh KERNEL, after make guest-KERNEL"
mkdir -p "${UNTRUSTED:?}/build"
UNTRUSTED=$(cd "$UNTRUSTED" && pwd)
lock_cache
out=$UNTRUSTED/build/rootkit.cpio
current "$out" "$OURS"/{build.sh,hide.c,Kbuild,start} "$kernel/version" || build "$out"
