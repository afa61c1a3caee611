# Memory dumps for the tests of snapshots/, made with QEMU and makedumpfile from the guests of guests.mk.
#
#   make snapshots            all of it, five minutes and 6 GB
#   make snapshots-min        one guest in every format, and one with KASLR
#   make snapshot-NAME        one of SNAPSHOT_NAMES
#   make snapshots-lint       shellcheck
#   make snapshots-clean      removes the cache
#
# SNAPSHOTS is the cache, of the user as GUESTS is.

SNAPSHOTS ?= $(EMU_CACHE)/snapshots
SNAPSHOT_NAMES := nokaslr kaslr nokaslr-smp kaslr-smp pti la57 split cloud-6.12 generic-6.1 686-pae 686

snapshots_dir := $(dir $(lastword $(MAKEFILE_LIST)))snapshots
snapshots_dump = GUESTS='$(GUESTS)' SNAPSHOTS='$(SNAPSHOTS)' $(snapshots_dir)/dump.sh

.PHONY: snapshots snapshots-min snapshots-lint snapshots-clean $(SNAPSHOT_NAMES:%=snapshot-%)

snapshots: $(SNAPSHOT_NAMES:%=snapshot-%)
snapshots-min: snapshot-nokaslr snapshot-kaslr
$(SNAPSHOT_NAMES:%=snapshot-%): snapshot-%: $(SNAPSHOTS)/%/manifest.txt

# Kernel, words, dumps and options of each.
snapshot_nokaslr     := cloud-6.1 nokaslr elf,paging,zlib,lzo,snappy,raw
snapshot_kaslr       := cloud-6.1 '' elf,zlib,raw
snapshot_nokaslr-smp := cloud-6.1 nokaslr elf,paging -smp 2
snapshot_kaslr-smp   := cloud-6.1 '' elf,paging -smp 2
snapshot_pti         := cloud-6.1 '' elf,paging -cpu Nehalem -smp 2
snapshot_la57        := cloud-6.1 '' elf,paging -cpu max
snapshot_split       := cloud-6.1 '' elf,block -machine pc,max-ram-below-4g=128M
snapshot_cloud-6.12  := cloud-6.12 '' elf -cpu qemu64,-cx16
snapshot_generic-6.1 := generic-6.1 '' elf
snapshot_686-pae     := 686-pae '' elf,paging,zlib
snapshot_686         := 686 '' elf,raw

$(SNAPSHOTS)/nokaslr/manifest.txt: | bin/emu
# Dumps of another day have other KASLR shifts but serve as well: they stay when the script changes.
$(SNAPSHOTS)/%/manifest.txt: | $(snapshots_dir)/dump.sh
	$(snapshots_dump) $* $(snapshot_$*)
	$(if $(filter nokaslr,$*),EMU='$(abspath bin/emu)' GUESTS='$(GUESTS)' SNAPSHOTS='$(abspath $(SNAPSHOTS))' $(snapshots_dir)/compress.sh $*)

snapshots-lint:
	shellcheck -x $(snapshots_dir)/*.sh

snapshots-clean:
	rm -rf $(SNAPSHOTS)
