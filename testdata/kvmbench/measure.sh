#!/bin/sh
# The part of run.sh that needs KVM: measure.sh EMU SNAPSHOT RELEASE 'TOOL;TOOL...'. Times are of the run alone, from the restored VM on,
# the least of three.
emu=$1 snapshot=$2 release=$3 tools=$4
export LC_ALL=C

# least runs a command three times and prints the least of the times that it says, in ms.
least() {
	for _ in 1 2 3; do
		"$@" 2>&1 >/tmp/out </dev/null | sed -n 's/.*"run_ns": *\([0-9]*\).*/\1 ns/p; s/^run \([0-9.]*\)\(m\{0,1\}s\)$/\1 \2/p'
	done | awk '{ t = $1; if ($2 == "ns") t /= 1e6; if ($2 == "s") t *= 1000; if (!n++ || t < m) m = t } END { printf "%.1f", m }'
}
inspect() { accel=$1 way=$2; shift 2; "$emu" --accel="$accel" --switch="$way" --budget 600000000000 --stats=json --snapshot "$snapshot" -- "$@"; }

printf '%-36s %10s %10s %10s %10s %8s %8s %8s\n' "tool (ms)" native in-guest exits slow guest/nat exit/gst slow/gst
echo "$tools" | tr ';' '\n' | while read -r tool; do
	# shellcheck disable=SC2086 # a tool is words
	{
		native=$(least "$emu" image run --accel=kvm --stats "$release" -- $tool)
		guest=$(least inspect kvm inguest $tool)
		exits=$(least inspect kvm exit $tool)
		slow=$(least inspect soft inguest $tool)
	}
	echo "$native $guest $exits $slow" | awk -v tool="$tool" '{
		printf "%-36s %10.1f %10.1f %10.1f %10.1f %8.2f %8.2f %8.2f\n", tool, $1, $2, $3, $4, $2/$1, $3/$2, $4/$2 }'
done
