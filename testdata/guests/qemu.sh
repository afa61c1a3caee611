#!/usr/bin/env bash
#
# qemu.sh NAME LABEL WORDS [QEMU OPTION...] - the reference: boots kernel NAME under QEMU's
# software CPU with WORDS on its command line, until it powers off.  In $GUESTS/qemu-logs,
# NAME.LABEL.log is the console as it came, NAME.LABEL.times has the host's seconds
# since the start before each line, and RESULTS gets one line.

# shellcheck source=SCRIPTDIR/apt.sh
. "$(dirname "$0")/apt.sh"
need qemu-system-x86_64 timeout

[[ $# -ge 3 && -r $GUESTS/kernels/$1/initrd.cpio ]] || die "usage: qemu.sh NAME LABEL WORDS [QEMU OPTION...]"
name=$1 label=$2 words=$3 kernel=$GUESTS/kernels/$1
shift 3
mkdir -p "$GUESTS/qemu-logs"
out=$GUESTS/qemu-logs/$name.$label rc=0 start=$EPOCHREALTIME

# microseconds since the start
since() { echo $((${EPOCHREALTIME/./} - ${start/./})); }
stamp() {
  local line t
  while IFS= read -r line; do
    t=$((${EPOCHREALTIME/./} - ${start/./}))
    printf '%4d.%06d %s\n' $((t / 1000000)) $((t % 1000000)) "${line%$'\r'}"
  done
}

timeout "${TIMEOUT:-300}" qemu-system-x86_64 -accel tcg -m 512 -nodefaults -display none -no-reboot \
  -serial stdio -kernel "$kernel/vmlinuz" -initrd "$kernel/initrd.cpio" \
  -append "console=ttyS0 panic=-1${words:+ $words}" "$@" </dev/null 2>"$out.err" | stamp >"$out.times" || rc=$?
t=$(since)
cut -c 13- "$out.times" >"$out.log"

at() { awk -v m="$1" 'index($0, m) { print $1; exit }' "$out.times"; }
ok=$(grep -ac '^CHECK .* ok$' "$out.log" || :)
bad=$(grep -ac '^CHECK .* FAIL' "$out.log" || :)
verdict=good
[[ $rc == 0 && $bad == 0 && $ok -gt 0 ]] && grep -aq 'reboot: Power down' "$out.log" || verdict=BAD
printf '%-12s %-14s %s rc=%d ok=%d fail=%d init=%s done=%s total=%d.%03d\n' "$name" "$label" "$verdict" "$rc" \
  "$ok" "$bad" "$(at EMU-INIT-START)" "$(at EMU-INIT-DONE)" $((t / 1000000)) $((t / 1000 % 1000)) |
  tee -a "$GUESTS/qemu-logs/RESULTS"
[[ $verdict == good ]]
