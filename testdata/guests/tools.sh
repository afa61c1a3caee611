#!/usr/bin/env bash
#
# tools.sh ARCH - the user land of the initial RAM disks: $GUESTS/tools-ARCH.cpio.
# Real programs of Debian's packages, the libraries that they name, busybox, and ./init.

# shellcheck source=SCRIPTDIR/apt.sh
. "$(dirname "$0")/apt.sh"
need readelf cpio

# Everything is named: no dependency solver decides what is in the guest.
PACKAGES=(
  busybox-static dash mawk ncurses-base procps iproute2 util-linux util-linux-extra mount bsdutils coreutils
  libc6 libgcc-s1 libtinfo6 libncursesw6 libproc2-0 libsystemd0 libcap2 libgcrypt20
  libgpg-error0 liblz4-1 liblzma5 libzstd1 libselinux1 libpcre2-8-0 libtirpc3
  libgssapi-krb5-2 libkrb5-3 libk5crypto3 libcom-err2 libkrb5support0 libkeyutils1
  libssl3 libbpf1 libbsd0 libmd0 libelf1 libmnl0 libxtables12 zlib1g libblkid1
  libmount1 libsmartcols1 libuuid1 libudev1 libcap-ng0 libcrypt1 libacl1 libattr1
  libgmp10
)

PROGRAMS=(
  bin/busybox bin/dash usr/bin/mawk
  # procps
  bin/ps usr/bin/free usr/bin/uptime usr/bin/vmstat usr/bin/top usr/bin/pgrep
  usr/bin/pmap usr/bin/slabtop usr/bin/w sbin/sysctl
  # iproute2
  bin/ip bin/ss
  # util-linux
  bin/lsblk bin/mount bin/umount bin/findmnt bin/dmesg usr/bin/lscpu usr/bin/setsid
  sbin/switch_root sbin/blkid usr/bin/lsns usr/bin/lsipc usr/bin/flock usr/bin/getopt
  # coreutils
  bin/ls bin/cat bin/cp bin/mv bin/rm bin/ln bin/mkdir bin/date bin/dd bin/df bin/echo bin/uname
  bin/stty bin/sync usr/bin/sha256sum usr/bin/sha512sum usr/bin/md5sum usr/bin/b2sum
  usr/bin/sort usr/bin/wc usr/bin/head usr/bin/tail usr/bin/cut usr/bin/tr usr/bin/seq
  usr/bin/factor usr/bin/stat usr/bin/id usr/bin/env usr/bin/base64 usr/bin/od usr/bin/nproc
  usr/bin/timeout usr/bin/printf usr/bin/numfmt usr/bin/shuf usr/bin/tee usr/bin/uniq usr/bin/cksum
)

build() {
  local arch=$1 all=$GUESTS/tools-$1.all tree=$GUESTS/tools-$1.tree package deb program
  rm -rf "$all" "$tree"
  mkdir -p "$all" "$tree"/{bin,sbin,usr/bin,usr/sbin,dev,proc,sys,run,tmp,etc,mnt,root,lib/modules}
  apt_setup
  for package in "${PACKAGES[@]}"; do
    deb=$(fetch "$package" "$arch")
    dpkg-deb -x "$deb" "$all"
  done
  for program in "${PROGRAMS[@]}"; do
    [[ -x $all/$program ]] || die "no $program in the $arch packages"
    cp "$all/$program" "$tree/$program"
  done
  # What the programs name, then what those name, until nothing is new.
  local todo=("${PROGRAMS[@]}") next object soname found
  local -A have=()
  while ((${#todo[@]})); do
    next=()
    for object in "${todo[@]}"; do
      while IFS= read -r soname; do
        [[ -z ${have[$soname]:-} ]] || continue
        found=$(cd "$all" && find . -name "$soname" -printf '%P\n' | head -n 1)
        [[ -n $found ]] || die "$object ($arch) needs $soname: no package here has it"
        have[$soname]=$found
        mkdir -p "$tree/${found%/*}"
        cp -L "$all/$found" "$tree/$found"
        next+=("$found")
      done < <(readelf -dlW "$all/$object" 2>/dev/null | sed -n \
        -e 's/.*(NEEDED).*\[\(.*\)\]/\1/p' -e 's|.*program interpreter: .*/\(.*\)\]|\1|p')
    done
    todo=(${next[@]+"${next[@]}"})
  done
  if [[ $arch == amd64 ]]; then
    # The interpreter's name is fixed: /lib64/ld-linux-x86-64.so.2.
    mkdir -p "$tree/lib64"
    ln -s "/${have[ld-linux-x86-64.so.2]}" "$tree/lib64/ld-linux-x86-64.so.2"
    cp "$GUESTS/bench" "$tree/usr/bin/bench"
  else
    ln -s "/${have[ld-linux.so.2]}" "$tree/lib/ld-linux.so.2"
  fi
  ln -s dash "$tree/bin/sh"
  cp "$HERE/init" "$tree/init"
  printf 'root:x:0:0:root:/root:/bin/sh\n' >"$tree/etc/passwd"
  printf 'root:x:0:\n' >"$tree/etc/group"
  mkdir -p "$tree"/lib/terminfo/{d,v} # top in batch mode wants "dumb"
  cp -L "$all/lib/terminfo/d/dumb" "$tree/lib/terminfo/d/"
  cp -L "$all/lib/terminfo/v/vt100" "$tree/lib/terminfo/v/"
  seq 1 20000 >"$tree/etc/numbers"
  chmod -R u+w,go+rX "$tree"
  archive "$tree" >"$GUESTS/tools-$arch.cpio.new"
  made "$GUESTS/tools-$arch.cpio"
  rm -rf "$all" "$tree"
  note "tools-$arch.cpio: $(stat -c %s "$GUESTS/tools-$arch.cpio") bytes"
}

[[ $# == 1 && ($1 == amd64 || $1 == i386) ]] || die "usage: tools.sh amd64|i386"
lock_cache
inputs=("$HERE/tools.sh" "$HERE/init")
[[ $1 != amd64 ]] || inputs+=("$GUESTS/bench")
current "$GUESTS/tools-$1.cpio" "${inputs[@]}" || build "$1"
