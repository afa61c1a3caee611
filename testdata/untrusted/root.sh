#!/usr/bin/env bash
#
# root.sh ARCH - $UNTRUSTED/build/root-ARCH.cpio: the untrusted VM's file system, of Debian's packages, as an archive.

# shellcheck source=SCRIPTDIR/../guests/apt.sh
. "$(dirname "$0")/../guests/apt.sh"
need readelf cpio
OURS=$(cd "$(dirname "$0")" && pwd)

# Everything is named: no dependency solver decides what is in the guest, and check_libraries says what lacks.
PACKAGES=(
  bash busybox-static coreutils hostname iproute2 kmod lsof mount ncurses-base net-tools netcat-openbsd nscd procps psmisc
  sysstat util-linux util-linux-extra bsdutils grep
  libc6 libgcc-s1 libtinfo6 libncursesw6 libproc2-0 libsystemd0 libcap2 libgcrypt20 libgpg-error0 liblz4-1 liblzma5
  libzstd1 libselinux1 libpcre2-8-0 libtirpc3 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libcom-err2 libkrb5support0
  libkeyutils1 libssl3 libkmod2 libbpf1 libbsd0 libmd0 libdb5.3 libelf1 libmnl0 libxtables12 zlib1g libsensors5 libblkid1
  libmount1 libsmartcols1 libuuid1 libudev1 libcap-ng0 libcrypt1 libpam0g libaudit1 libacl1 libattr1 libgmp10
)
APPLETS=(awk clear id ping poweroff sed tar vi which) # what no package above has

check_libraries() { # tree: every soname that a program or library names must be in it
  local tree=$1 soname bad=0
  while IFS= read -r soname; do
    [[ -n $(find "$tree" -name "$soname" -print -quit) ]] || { note "no package here has $soname"; bad=1; }
  done < <(find "$tree"/{bin,sbin,lib,usr/bin,usr/sbin,usr/lib} -type f \( -perm -100 -o -name '*.so*' \) -print0 |
    xargs -0 readelf -dW 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u)
  ((bad == 0)) || die "add the packages of these libraries to PACKAGES"
}

build() {
  local arch=$1 out=$2 tree package
  tree=$(mktemp -d)
  # shellcheck disable=SC2064  # now, not then
  trap "rm -rf '$tree'" EXIT
  apt_setup
  for package in "${PACKAGES[@]}"; do dpkg-deb -x "$(fetch "$package" "$arch")" "$tree"; done
  mkdir -p "$tree"/{proc,sys,dev,run,tmp,root,opt,srv,mnt,var/cache/nscd,var/run/nscd,var/log}
  rm -rf "${tree:?}"/{usr/share,var/lib} "$tree"/{,usr/}lib/{systemd,udev,debug,locale} "$tree"/etc/{cron,init}.d \
    "$tree"/usr/lib/*/{gconv,security,audit,tc} "$tree"/lib/*/security
  local applet
  for applet in "${APPLETS[@]}"; do ln -sf /bin/busybox "$tree/usr/bin/$applet"; done
  ln -sf bash "$tree/bin/sh"
  ln -sf nc.openbsd "$tree/bin/nc"
  printf '%s\n' root:x:0:0:root:/root:/bin/bash alice:x:1000:1001::/:/bin/bash nobody:x:65534:65534::/:/bin/false >"$tree/etc/passwd"
  printf '%s\n' root:x:0: alice:x:1001: staff7:x:1002: nogroup:x:65534: >"$tree/etc/group"
  printf '%s\n' '127.0.0.1 localhost' '10.0.2.15 untrusted-vm' >"$tree/etc/hosts"
  printf '%s\n' 'passwd: files' 'group: files' 'hosts: files' >"$tree/etc/nsswitch.conf"
  printf '%s\n' 'enable-cache passwd yes' 'threads 6' >"$tree/etc/nscd.conf"
  : >"$tree/etc/fstab"
  cp "$OURS/commands" "$OURS/modules" "$tree/etc/"
  cp "$OURS/init" "$tree/init"
  chmod -R u+rwX,go+rX "$tree"
  check_libraries "$tree"
  archive "$tree" >"$out.new"
  made "$out"
  note "root-$arch.cpio: $(stat -c %s "$out") bytes"
}

[[ $# == 1 && ($1 == amd64 || $1 == i386) ]] || die "usage: root.sh amd64|i386"
mkdir -p "${UNTRUSTED:?}/build"
lock_cache
out=$UNTRUSTED/build/root-$1.cpio
current "$out" "$OURS"/{root.sh,init,commands,modules} || build "$1" "$out"
