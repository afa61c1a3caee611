# Snapshots of untrusted VMs: a Debian with processes, sockets, mounts and IPC worth inspecting, dumped from QEMU, with what 117
# tools printed inside it just before and just after.
#
#   make untrusted            all of it; a minute and 0.5 GB each, 686-highmem 1 GB
#   make untrusted-NAME       one of UNTRUSTED_NAMES
#   make untrusted-rootkit    one whose kernel hides a process and a module: docs/rootkits.md
#   make untrusted-clean      removes the cache
#
# UNTRUSTED is the cache, of the user as GUESTS is. A snapshot there has mem.elf, truth/before, truth/after and manifest.txt.

UNTRUSTED ?= $(EMU_CACHE)/untrusted
UNTRUSTED_NAMES := nokaslr kaslr nokaslr-smp kaslr-smp pti la57 generic-6.1 cloud-6.12 686 686-pae 686-highmem

untrusted_dir := $(dir $(lastword $(MAKEFILE_LIST)))untrusted
rootkit_dir := $(dir $(lastword $(MAKEFILE_LIST)))rootkit
untrusted_env = GUESTS='$(GUESTS)' UNTRUSTED='$(UNTRUSTED)'

.PHONY: untrusted untrusted-rootkit untrusted-clean $(UNTRUSTED_NAMES:%=untrusted-%)

untrusted: $(UNTRUSTED_NAMES:%=untrusted-%)
$(UNTRUSTED_NAMES:%=untrusted-%) untrusted-rootkit: untrusted-%: $(UNTRUSTED)/%/manifest.txt

# Kernel, words and QEMU's options of each.
untrusted_nokaslr     := cloud-6.1 nokaslr
untrusted_kaslr       := cloud-6.1 ''
untrusted_nokaslr-smp := cloud-6.1 nokaslr -smp 2
untrusted_kaslr-smp   := cloud-6.1 '' -smp 2
untrusted_pti         := cloud-6.1 '' -cpu Nehalem
untrusted_la57        := cloud-6.1 '' -cpu max
untrusted_generic-6.1 := generic-6.1 ''
# QEMU's cmpxchg16b spoils EFLAGS, which 6.12 does not survive: testdata/README.md.
untrusted_cloud-6.12  := cloud-6.12 '' -cpu qemu64,-cx16
untrusted_686         := 686 ''
untrusted_686-pae     := 686-pae ''
# More memory than a 32-bit kernel has addresses for.
untrusted_686-highmem := 686-pae '' -m 1024
untrusted_rootkit     := cloud-6.1 ''

$(foreach n,$(UNTRUSTED_NAMES) rootkit,$(eval $(UNTRUSTED)/$n/manifest.txt: | $(GUESTS)/kernels/$(firstword $(untrusted_$n))/vmlinuz))
# Snapshots of another day have other addresses but serve as well: they stay when the scripts change.
$(UNTRUSTED_NAMES:%=$(UNTRUSTED)/%/manifest.txt): $(UNTRUSTED)/%/manifest.txt: | $(untrusted_dir)/snapshot.sh
	$(untrusted_env) $(untrusted_dir)/snapshot.sh $* $(untrusted_$*)

$(UNTRUSTED)/rootkit/manifest.txt: | $(wildcard $(rootkit_dir)/*)
	$(untrusted_env) $(rootkit_dir)/build.sh $(firstword $(untrusted_rootkit))
	ADD='$(UNTRUSTED)/build/rootkit.cpio' $(untrusted_env) $(untrusted_dir)/snapshot.sh rootkit $(untrusted_rootkit)

untrusted-clean:
	rm -rf $(UNTRUSTED)
