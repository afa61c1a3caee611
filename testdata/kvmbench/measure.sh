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

# Where the time goes from the start of emu to the tool's first system call, of the run that took least.
printf '\n%-12s %s\n' 'first call' 'ms, by part'
for _ in 1 2 3 4; do
	inspect kvm inguest uname -a 2>&1 >/tmp/out </dev/null | grep -o '"[a-z_]*_ns":[0-9]*' | tr -d '"' | awk -F: '
		!($1 in ms) { ms[$1] = $2 / 1e6 }
		END { n = split("start identify image policy restore spawn connect first_call", part, " ")
			line = sprintf("%10.1f ", ms["first_call_ns"])
			for (i = 1; i < n; i++) line = line sprintf(" %s %.1f", part[i], ms[part[i] "_ns"])
			print line }'
done | sort -n | head -n 1
