# Guests for the tests: kernels, initial RAM disks, a root disk, made from Debian's packages.
#
#   make guests              all of it, about 250 MB of downloads at first
#   make guests-min          the amd64 cloud kernel and its initial RAM disk only
#   make guest-NAME          one kernel of GUEST_KERNELS with its initial RAM disk
#   make guests-root         the ext4 root disk (raw, qcow2, compressed qcow2); needs root
#   make guests-qemu         boots every kernel in QEMU, the reference; see qemu-logs/RESULTS
#   make guests-sums         rewrites testdata/guests/packages.sum from what is in the cache
#   make guests-lint         shellcheck
#   make guests-clean        removes the cache
#
# GUESTS is the cache. It belongs to the user, not to the checkout, so that a fresh clone fetches nothing again.

EMU_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/emu
GUESTS ?= $(EMU_CACHE)/guests
GUEST_KERNELS := cloud-6.1 generic-6.1 cloud-6.12 686 686-pae

guests_dir := $(dir $(lastword $(MAKEFILE_LIST)))guests
guests_run := GUESTS='$(GUESTS)' $(guests_dir)
guests_fetch := $(guests_dir)/apt.sh $(guests_dir)/packages.sum
guests_bench := $(wildcard $(guests_dir)/../bench/*.c $(guests_dir)/../bench/*.h)

.PHONY: guests guests-min guests-root guests-qemu guests-sums guests-lint guests-clean $(GUEST_KERNELS:%=guest-%)

guests: $(GUEST_KERNELS:%=guest-%) guests-root
guests-min: guest-cloud-6.1
guests-root: $(GUESTS)/root.ext4

$(GUEST_KERNELS:%=guest-%): guest-%: $(GUESTS)/kernels/%/initrd.cpio

# The package lists change under us: what is in the cache stays until guests-clean.
$(GUESTS)/kernels/%/vmlinuz: $(guests_dir)/kernel.sh | $(guests_fetch)
	$(guests_run)/kernel.sh $*

$(GUESTS)/bench: $(guests_bench)
	mkdir -p $(@D)
	gcc -std=gnu11 -Wall -Wextra -O2 -static -s -o $@.new $(filter %.c,$^) -lm
	if cmp -s $@.new $@; then rm $@.new; touch $@; else mv $@.new $@; fi

$(GUESTS)/tools-amd64.cpio: $(GUESTS)/bench
$(GUESTS)/tools-%.cpio: $(guests_dir)/tools.sh $(guests_dir)/init | $(guests_fetch)
	$(guests_run)/tools.sh $*

$(foreach k,$(filter-out 686%,$(GUEST_KERNELS)),$(GUESTS)/kernels/$k/initrd.cpio): $(GUESTS)/tools-amd64.cpio
$(foreach k,$(filter 686%,$(GUEST_KERNELS)),$(GUESTS)/kernels/$k/initrd.cpio): $(GUESTS)/tools-i386.cpio
$(GUESTS)/kernels/%/initrd.cpio: $(GUESTS)/kernels/%/vmlinuz $(guests_dir)/initrd.sh
	$(guests_run)/initrd.sh $*
.PRECIOUS: $(GUESTS)/kernels/%/vmlinuz $(GUESTS)/tools-%.cpio

$(GUESTS)/root.ext4: $(guests_dir)/root.sh $(guests_dir)/emu-root | $(guests_fetch)
	$(guests_run)/root.sh

guests-qemu: guests
	GUESTS='$(GUESTS)' $(guests_dir)/qemu-all.sh

guests-sums:
	cd $(GUESTS)/debs && sha256sum *.deb | LC_ALL=C sort -k 2 >$(abspath $(guests_dir))/packages.sum

guests-lint:
	shellcheck -x $(guests_dir)/*.sh $(guests_dir)/init $(guests_dir)/emu-root

guests-clean:
	rm -rf $(GUESTS)
