#!/usr/bin/env bash
#
# dump.sh NAME KERNEL WORDS DUMPS [QEMU OPTION...] - boots a guest of testdata/guests under QEMU's software CPU with
# WORDS on its command line, asks it for the truth, holds it, and dumps its memory into $SNAPSHOTS/NAME:
#
#   mem.elf            QMP dump-guest-memory, paging=false
#   mem.paging.elf     the same with paging=true
#   mem.kdump-zlib     and -lzo, -snappy: kdump-compressed, in the flattened form that QEMU writes
#   mem.raw            QMP pmemsave of guest-physical [0, RAM)
#   mem.block          the RAM block's own file: what lies above the hole follows what lies below it
#   truth              lines "KEY VALUE": what the guest itself said
#   registers.txt, memory-map.txt, gva2gpa.txt   what QEMU said
#   manifest.txt       settings and checksums
#
# DUMPS is a list, commas between, of elf, paging, zlib, lzo, snappy, raw, block. $MEM is the memory in MiB (256).

set -euo pipefail
export LC_ALL=C

die() { echo "${0##*/}: $*" >&2; exit 1; }
[[ $# -ge 4 ]] || die "usage: dump.sh NAME KERNEL WORDS DUMPS [QEMU OPTION...]"
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/emu
GUESTS=${GUESTS:-$CACHE/guests} SNAPSHOTS=${SNAPSHOTS:-$CACHE/snapshots}
MEM=${MEM:-256} TIMEOUT=${TIMEOUT:-300}
name=$1 kernel=$GUESTS/kernels/$2 words=$3 dumps=$4
shift 4
command -v qemu-system-x86_64 >/dev/null || die "qemu-system-x86_64 not found; run: make setup"
[[ -r $kernel/initrd.cpio ]] || die "$kernel has no kernel and initial RAM disk; run: make guests"
mkdir -p "$SNAPSHOTS"
SNAPSHOTS=$(cd "$SNAPSHOTS" && pwd)
out=$SNAPSHOTS/$name.new
rm -rf "$out"
mkdir -p "$out"
work=$(mktemp -d)
QEMU='' CAT=''
cleanup() {
  [[ -z $QEMU ]] || kill "$QEMU" 2>/dev/null || true
  [[ -z $CAT ]] || kill "$CAT" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

mkfifo "$work/tty.in" "$work/tty.out" "$work/qmp.in" "$work/qmp.out"
exec 3<>"$work/tty.in" 4<>"$work/qmp.in" 5<>"$work/qmp.out"
cat "$work/tty.out" >"$out/serial.log" &
CAT=$!
options=(-accel tcg -m "$MEM" -nodefaults -display none -no-reboot
  -kernel "$kernel/vmlinuz" -initrd "$kernel/initrd.cpio"
  -append "console=ttyS0 panic=-1 emu.run=shell,hold${words:+ $words}")
if [[ ,$dumps, == *,block,* ]]; then
  options+=(-object "memory-backend-file,id=ram,size=${MEM}M,mem-path=$out/mem.block,share=on" -machine memory-backend=ram)
fi
qemu-system-x86_64 "${options[@]}" "$@" -chardev "pipe,id=tty,path=$work/tty" -serial chardev:tty \
  -chardev "pipe,id=qmp,path=$work/qmp" -qmp chardev:qmp >"$out/qemu.log" 2>&1 &
QEMU=$!

wait_serial() {
  local end=$((SECONDS + TIMEOUT))
  until grep -aqF "$1" "$out/serial.log"; do
    kill -0 "$QEMU" 2>/dev/null || die "$name: QEMU ended early; see $out/qemu.log and serial.log"
    ((SECONDS < end)) || die "$name: no '$1' on the console after $TIMEOUT s; see $out/serial.log"
    sleep 0.3
  done
}

qmp() { # command [JSON arguments]: prints what follows "return"
  local line
  printf '{"execute":"%s"%s}\n' "$1" "${2:+,\"arguments\":$2}" >&4
  while IFS= read -r -t "$TIMEOUT" line <&5; do
    line=${line%$'\r'}
    case $line in
      '{"return": '*) line=${line#'{"return": '}; printf '%s\n' "${line%\}}"; return ;;
      '{"error": '*) die "$name: QMP $1: $line" ;;
    esac # anything else is an event
  done
  die "$name: QMP $1: no answer"
}

hmp() { # monitor command line: prints its text
  local text
  text=$(qmp human-monitor-command "{\"command-line\":\"$1\"}")
  text=${text#\"}
  text=${text%\"}
  printf '%b\n' "${text//'\"'/\"}" | tr -d '\r'
}

# The guest's own word, a line each. The markers are split so that the echo of what is typed does not match them.
symbols='_text|_stext|_etext|_end|init_task|linux_banner|init_top_pgt|swapper_pg_dir|entry_SYSCALL_64|init_pid_ns|modules|init_uts_ns|__start_BTF|__stop_BTF|page_offset_base|vmalloc_base|vmemmap_base|phys_base|nr_cpu_ids|__per_cpu_offset|divide_error|asm_exc_divide_error'
wait_serial EMU-SHELL
sleep 2
echo 'stty -echo; echo EMU-""QUIET' >&3
wait_serial EMU-QUIET
sleep 1
cat >&3 <<TYPED
t() { echo "TRU""TH \$*"; }
t version \$(cat /proc/version)
t cmdline \$(cat /proc/cmdline)
t symbols \$(grep -vc '\\[' /proc/kallsyms)
t btf \$(sha256sum </sys/kernel/btf/vmlinux | cut -c 1-64)
t btfsize \$(wc -c </sys/kernel/btf/vmlinux)
t notes \$(od -An -v -tx1 /sys/kernel/notes | tr -d ' \\n')
t vmcoreinfo \$(cat /sys/kernel/vmcoreinfo)
t memtotal \$(sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo)
t cpus \$(grep -c ^processor /proc/cpuinfo)
t pti \$(cat /sys/devices/system/cpu/vulnerabilities/meltdown)
t kernelcode \$(grep 'Kernel code' /proc/iomem)
grep -E ' [A-Za-z] ($symbols)\$' /proc/kallsyms | while read a k n; do t sym \$n \$a \$k; done
t end
exit
TYPED
wait_serial EMU-HOLD
sleep 1
tr -d '\r' <"$out/serial.log" | sed -n 's/^.*TRUTH //p' >"$out/truth"
grep -qx end "$out/truth" || die "$name: the guest did not say everything; see $out/serial.log"

IFS= read -r -t 30 _ <&5 || die "$name: no greeting from QMP"
qmp qmp_capabilities >/dev/null
qmp stop >/dev/null
hmp 'info registers -a' >"$out/registers.txt"
hmp 'info mtree -f' >"$out/memory-map.txt"
hmp 'info cpus' >"$out/cpus.txt"
# QEMU's own page walk, for comparison.
awk '$1 == "sym" && $3 !~ /^0+$/ { print $3 }' "$out/truth" | sort -u | while read -r a; do
  printf '%s %s\n' "$a" "$(hmp "gva2gpa 0x$a")"
done >"$out/gva2gpa.txt"

dump() { # file options
  qmp dump-guest-memory "{\"protocol\":\"file:$out/$1\",$2}" >/dev/null
}
can=$(qmp query-dump-guest-memory-capability)
for d in ${dumps//,/ }; do
  case $d in
    elf) dump mem.elf '"paging":false' ;;
    paging) dump mem.paging.elf '"paging":true' ;;
    zlib | lzo | snappy)
      if [[ $can == *"\"kdump-$d\""* ]]; then
        dump "mem.kdump-$d" "\"paging\":false,\"format\":\"kdump-$d\""
      else
        echo "${0##*/}: $name: this QEMU writes no kdump-$d" >&2
      fi ;;
    raw) qmp pmemsave "{\"val\":0,\"size\":$((MEM << 20)),\"filename\":\"$out/mem.raw\"}" >/dev/null ;;
    block) ;; # it is there all the time
    *) die "no such dump: $d" ;;
  esac
done
qmp quit >/dev/null
wait "$QEMU" || true
QEMU=''
chmod u+rw,go+r "$out"/mem.*
fallocate -d "$out"/mem.raw "$out"/mem.block 2>/dev/null || true
{
  echo "kernel $(basename "$kernel") $(cat "$kernel/version" 2>/dev/null)"
  echo "words $words"
  echo "memory_mib $MEM"
  echo "qemu $(qemu-system-x86_64 --version | head -n 1)"
  printf 'options'
  printf ' %q' "$@"
  echo
  (cd "$out" && sha256sum mem.* | sed 's/^/sha256 /')
} >"$out/manifest.txt"
rm -rf "${SNAPSHOTS:?}/$name"
mv "$out" "$SNAPSHOTS/$name"
echo "${0##*/}: $SNAPSHOTS/$name"
