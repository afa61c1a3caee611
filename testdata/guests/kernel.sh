#!/usr/bin/env bash
#
# kernel.sh NAME - one of Debian's kernels into $GUESTS/kernels/NAME: vmlinuz, config,
# package (what it came from), version, and modules/, the few drivers that the guests
# load, with modules/load naming them in order.

# shellcheck source=SCRIPTDIR/apt.sh
. "$(dirname "$0")/apt.sh"
need depmod modprobe xz tar

# Loaded by the guest in this order, each after what it depends on.
MODULES=(virtio_pci virtio_blk virtio_rng virtio_console crc32c_generic ext4)

build() {
  local name=$1 meta arch release='' package deb version stage
  case $name in
    cloud-6.1) meta=linux-image-cloud-amd64 arch=amd64 ;;
    generic-6.1) meta=linux-image-amd64 arch=amd64 ;;
    cloud-6.12) meta=linux-image-cloud-amd64 arch=amd64 release=${RELEASE}-backports ;;
    686) meta=linux-image-686 arch=i386 ;;
    686-pae) meta=linux-image-686-pae arch=i386 ;;
    *) die "no such kernel: $name" ;;
  esac
  apt_setup
  package=$(kernel_package "$meta" "$arch" ${release:+"$release"})
  [[ -n $package ]] || die "$meta:$arch stands for no package"
  deb=$(fetch "$package" "$arch" ${release:+"$release"})
  stage=$out.new
  rm -rf "$stage"
  mkdir -p "$stage/all" "$stage/modules"

  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$stage/all" --exclude=./usr \
    --exclude='*/kernel/drivers/'{gpu,media,net,infiniband,staging,iio,usb,scsi,hwmon} \
    --exclude='*/kernel/'{sound,net}
  version=$(cd "$stage/all/lib/modules" && echo *)
  cp "$stage/all/boot/vmlinuz-$version" "$stage/vmlinuz"
  cp "$stage/all/boot/config-$version" "$stage/config"
  echo "$version" >"$stage/version"
  echo "${deb##*/}" >"$stage/package"

  depmod -b "$stage/all" "$version"
  local module path file
  for module in "${MODULES[@]}"; do
    modprobe -d "$stage/all" -S "$version" --show-depends "$module" ||
      die "$name has no module $module"
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while IFS= read -r path; do
    file=${path##*/}
    case $file in
      *.xz) file=${file%.xz}; xz -dc "$path" >"$stage/modules/$file" ;;
      *) cp "$path" "$stage/modules/$file" ;;
    esac
    echo "$file" >>"$stage/modules/load"
  done
  rm -rf "$stage/all" "$out"
  mv "$stage" "$out"
  note "$name: $version, $(stat -c %s "$out/vmlinuz") bytes, modules: $(tr '\n' ' ' <"$out/modules/load")"
}

[[ $# == 1 ]] || die "usage: kernel.sh NAME"
lock_cache
out=$GUESTS/kernels/$1
if current "$out/made" "$HERE/kernel.sh" && [[ -e $out/vmlinuz ]]; then
  touch "$out/vmlinuz"
else
  build "$1"
  echo "$1" >"$out/made.new"
  made "$out/made"
fi
