#!/bin/sh
# Times tools under KVM: run.sh SNAPSHOT 'TOOL;TOOL...'. See `make bench-kvm`.
set -eu
snapshot=$1 tools=$2
here=$(cd "$(dirname "$0")" && pwd)
bin=$here/../../bin
release=$("$bin/emu" snapshot info --json "$snapshot" | sed -n 's/.*"release": *"\([^"]*\)".*/\1/p' | head -n 1)
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
mkdir -p "$data/emu/images"
cp -r "${XDG_DATA_HOME:-$HOME/.local/share}/emu/images/$release" "$data/emu/images/"
# Training is not what is measured.
echo "$tools" | tr ';' '\n' | while read -r tool; do
	# shellcheck disable=SC2086 # a tool is words
	XDG_DATA_HOME=$data "$bin/emu" train --snapshot "$snapshot" -- $tool </dev/null
done
XDG_DATA_HOME=$data "$bin/emu" image run "$release" -- true >/dev/null
if "$bin/kvmlab" usable 2>/dev/null; then
	XDG_DATA_HOME=$data "$here/measure.sh" "$bin/emu" "$snapshot" "$release" "$tools"
else
	"$bin/kvmlab" run --memory 3072 --timeout 1h --env XDG_DATA_HOME=/data --dir "$bin:/emu" --dir "$data:/data" \
		--dir "$snapshot:/snapshot" --dir "$here:/bench" -- sh /bench/measure.sh /emu/emu /snapshot "$release" "$tools"
fi | awk '{ print; fflush() } /^$/ { over = 1 } NR > 1 && !over { n++; a += log($(NF-2)); b += log($(NF-1)); c += log($NF) }
	END { if (n) printf "%-36s %10s %10s %10s %10s %8.2f %8.2f %8.2f\n", "geometric mean", "", "", "", "", exp(a/n), exp(b/n), exp(c/n) }'
