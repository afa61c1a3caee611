# emu: see README.md. Targets that need something install it first (make setup).

GO       ?= go
GOFUMPT  := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.0
# apt packages that tests and benches need; the program itself needs none.
PACKAGES := qemu-system-x86 qemu-utils debootstrap e2fsprogs busybox-static cpio kmod gcc libc6-dev gdb acpica-tools \
	bochs nasm binutils gzip xz-utils shellcheck protobuf-compiler

.DEFAULT_GOAL := build
.PHONY: build setup test test-unit test-boot test-image test-inspect test-kvm test-cpu test-legacy test-crossview test-same test-same-kvm test-rootkit bench bench-kvm demo lint check fmt fuzz clean

include testdata/guests.mk
include testdata/snapshots.mk
include testdata/untrusted.mk

build: bin/emu bin/plugins/plugins.json

SOURCES := $(shell find cmd core cpu kvmaccel plugins taint snapshots \( -name '*.go' -o -name '*.bin' -o -name '*.sh' \) -not -name '*_test.go') go.mod go.sum
bin/emu: $(SOURCES)
	CGO_ENABLED=0 $(GO) build -o $@ ./cmd/emu

# The policies. Meta-Data is kept by their checksums, so the same source gives the same programs.
POLICIES := linux redirectable nonredirectable semiredirectable biredirectable neutral unknown
bin/plugins/plugins.json: $(SOURCES) | bin/emu
	rm -rf bin/plugins && mkdir -p bin/plugins
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/plugins/ $(POLICIES:%=./plugins/%)
	bin/emu policy manifest bin/plugins

# setup installs what is missing, and does nothing if nothing is.
setup:
	@missing=; for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	fi

# test is everything that CI runs: the guests first, since even fast tests look into their kernels.
test: setup guests test-unit test-boot test-image test-inspect test-kvm

test-unit:
	GUESTS=$(abspath $(GUESTS)) UNTRUSTED=$(abspath $(UNTRUSTED)) $(GO) test ./...

# test-boot boots the Debian kernels; about 10 minutes on two cores.
test-boot: setup build guests
	$(GO) test -tags boot -timeout 60m -count=1 ./core/machine/boottest -guests $(abspath $(GUESTS))

# test-image makes a trusted image of a Debian kernel and runs commands in it; about two minutes on two cores.
KERNELS ?= cloud-6.1
test-image: setup guests
	$(GO) test -tags boot -timeout 60m -count=1 ./core/image/imagetest -guests $(abspath $(GUESTS)) -kernels $(KERNELS)

# test-inspect runs tools against a snapshot that it makes, and against MUTATIONS hostile versions of it; then RUNS runs back to back, with the
# emulator's vCPU and under KVM (this machine's or the lab's), signals, endless tools, and KILLS runs that are killed. About ten minutes;
# RUNS=200 KILLS=50 is the long version.
MUTATIONS ?= 10
RUNS ?= 5
KILLS ?= 4
test-inspect: setup build bin/kvmlab guests
	CGO_ENABLED=0 $(GO) test -tags boot -timeout 90m -count=1 ./core/inspect/inspecttest -guests $(abspath $(GUESTS)) -plugins $(abspath bin/plugins) -mutations $(MUTATIONS) \
		-runs $(RUNS) -kills $(KILLS) -emu $(abspath bin/emu) -kvmlab $(abspath bin/kvmlab)

# test-kvm runs the tests with the tag kvm, of the packages KVM_TESTS, under a real KVM: this machine's, or the lab's (docs/kvm.md),
# after tests of the lab itself; about two minutes on two cores.
KVM_TESTS ?= ./cmd/kvmlab ./kvmaccel
test-kvm: setup bin/kvmlab guest-cloud-6.1
	GUESTS=$(abspath $(GUESTS)) $(GO) test -tags boot -timeout 20m -count=1 ./cmd/kvmlab -kvmlab $(abspath bin/kvmlab)
	CGO_ENABLED=0 $(GO) test -tags boot -timeout 40m -count=1 -run TestKVM ./core/machine/boottest -guests $(abspath $(GUESTS)) -kvmlab $(abspath bin/kvmlab)
	GUESTS=$(abspath $(GUESTS)) CGO_ENABLED=0 $(GO) test -tags kvm -timeout 20m -count=1 -p 1 -exec '$(abspath bin/kvmlab) exec --timeout 20m --' $(KVM_TESTS)

bin/kvmlab: $(SOURCES)
	CGO_ENABLED=0 $(GO) build -o $@ ./cmd/kvmlab

# test-cpu compares the CPU with the host's over CASES generated programs and prints coverage by opcode.
CASES ?= 20000000
test-cpu:
	$(GO) run ./cmd/cputest -cases $(CASES) -coverage

# test-legacy compares the 16- and 32-bit side of the CPU with QEMU and Bochs, in LEGACY generated cases for each of SEEDS.
LEGACY ?= 25000
SEEDS ?= 1 2 3 4 5 6 7 8 9 10
test-legacy: setup
	@for s in $(SEEDS); do $(GO) test -count=1 -run TestCases -v ./core/machine/legacytest -cases $(LEGACY) -seed $$s || exit 1; done
	$(GO) test -count=1 ./core/machine/legacytest

# test-crossview runs the tools on untrusted snapshots through emu and judges what they print against the truth. SNAPSHOT_SET
# names the snapshots, TOOLS and REQUIRED are patterns: the tools to run, and those which must be right; KEEP is a folder for the
# outputs, EMU_FLAGS are emu's flags beyond --snapshot.
SNAPSHOT_SET ?= nokaslr
TOOLS ?= .*
REQUIRED ?= .*
KEEP ?=
EMU_FLAGS ?=
crossview_test = $(GO) test -v -tags crossview -count=1 -timeout 0 ./core/crossview/crossviewtest -args -emu $(abspath bin/emu) -untrusted $(abspath $(UNTRUSTED)) -emu-flags '$(EMU_FLAGS)'
test-crossview: build $(SNAPSHOT_SET:%=untrusted-%)
	$(crossview_test) -test.run TestTools -snapshots '$(SNAPSHOT_SET)' -tools '$(TOOLS)' -required '$(REQUIRED)' -keep '$(abspath $(KEEP))'

# test-same runs the tools with SLOW-BRIDGE, judged as above, and with FAST-BRIDGE in each of MODES (inguest, exit), whose bytes must be SLOW-BRIDGE's;
# about 15 minutes a snapshot. META is Meta-Data that FAST-BRIDGE gets in place of what SLOW-BRIDGE learned on the snapshot itself: with that of
# another snapshot of the kernel, FALLBACK has the rest to do. KEEP keeps outputs and Meta-Data; SLOW is the KEEP of an earlier run, to
# compare with that. test-same-kvm does so under KVM (this machine's or the lab's, which is slow and so gets more budget) with modes kvm and kvm-exit.
#
#	make test-same SNAPSHOT_SET='kaslr nokaslr' KEEP=out
#	make test-same SLOW=out META=out/kaslr/metadata.db
#	make test-same-kvm SLOW=out MODES='kvm kvm-exit'
MODES ?=
META ?=
SLOW ?=
same_flags = -test.run TestSame -tools '$(TOOLS)' -required '$(REQUIRED)' -slow '$(abspath $(SLOW))'
test-same: build $(SNAPSHOT_SET:%=untrusted-%)
	$(crossview_test) $(same_flags) -snapshots '$(SNAPSHOT_SET)' -modes '$(or $(MODES),inguest exit)' -meta '$(abspath $(META))' -keep '$(abspath $(KEEP))'

data := $(or $(XDG_DATA_HOME),$(HOME)/.local/share)
test-same-kvm: build bin/kvmlab $(SNAPSHOT_SET:%=untrusted-%)
	@[ -n '$(SLOW)' ] || { echo 'test-same-kvm: SLOW= must be a folder that make test-same KEEP= has filled'; exit 2; }
	@for s in $(SNAPSHOT_SET); do \
		release=$$(bin/emu snapshot info --json $(UNTRUSTED)/$$s/mem.elf | sed -n 's/.*"release": *"\([^"]*\)".*/\1/p' | head -n 1) && \
		lab="$(abspath bin/kvmlab) exec --memory 3000 --timeout 3h --env XDG_DATA_HOME=$(data) --dir $(data)/emu/images/$$release" && \
		lab="$$lab --dir $(abspath bin) --dir $(abspath $(UNTRUSTED))/$$s --dir $(abspath $(SLOW))/$$s --" && \
		CGO_ENABLED=0 $(GO) test -v -tags crossview -count=1 -timeout 0 -exec "$$lab" \
			./core/crossview/crossviewtest -args -emu $(abspath bin/emu) -untrusted $(abspath $(UNTRUSTED)) -emu-flags '--budget 600000000000 $(EMU_FLAGS)' $(same_flags) \
			-snapshots $$s -modes '$(or $(MODES),kvm)' -meta $(abspath $(SLOW))/$$s/metadata.db || exit 1; \
	done

# test-rootkit looks for what a rootkit hides inside its VM: docs/rootkits.md.
test-rootkit: build untrusted-rootkit
	$(crossview_test) -test.run TestRootkit

# bench compares with QEMU's software emulation in the same run and prints the ratios.
bench: setup build guests-min
	$(GO) run ./cmd/emubench -guests $(abspath $(GUESTS))

# bench-kvm times BENCH_TOOLS on BENCH_SNAPSHOT under KVM (this machine's or the lab's): natively in the trusted VM, in FAST-BRIDGE with both
# ways of switching, and in SLOW-BRIDGE, in one run, and prints ratios. The image of the snapshot's kernel must be there. About ten minutes in the lab.
BENCH_SNAPSHOT ?= $(UNTRUSTED)/nokaslr/mem.elf
BENCH_TOOLS ?= uname -a;lsmod;cat /proc/meminfo /proc/stat;ps aux;netstat -an
bench-kvm: setup build bin/kvmlab guest-cloud-6.1
	GUESTS=$(abspath $(GUESTS)) testdata/kvmbench/run.sh '$(BENCH_SNAPSHOT)' '$(BENCH_TOOLS)'

# demo makes a trusted image, an untrusted VM with a snapshot of it, and runs tools against the snapshot.
DEMO := .cache/demo
cloud = $(GUESTS)/kernels/cloud-6.1
inspect = @echo; echo '$$ emu --snapshot web.snapshot -- $(1)'; bin/emu --snapshot $(DEMO)/web.snapshot -- $(1)
demo: setup build guests-min
	mkdir -p $(DEMO)
	bin/emu image info "$$(cat $(cloud)/version)" >/dev/null 2>&1 || bin/emu image build --kernel $(GUESTS)/debs/"$$(cat $(cloud)/package)"
	@echo; echo "== an untrusted VM:"
	bin/emu run --kernel $(cloud)/vmlinuz --initrd $(cloud)/initrd.cpio --append 'console=ttyS0 quiet emu.run=shell' \
		--save $(DEMO)/web.snapshot --save-when 'the web server is up' <testdata/demo.txt
	@echo; echo "== its snapshot:"; bin/emu snapshot info $(DEMO)/web.snapshot
	$(call inspect,uname -a)
	$(call inspect,ps -eo pid$(comma)tty$(comma)stat$(comma)args)
	$(call inspect,lsmod)
	$(call inspect,netstat -tlnp)
comma := ,

lint: setup
	@out=$$($(GO) run $(GOFUMPT) -l . $$(git ls-files '*/testdata/*.go')); [ -z "$$out" ] || { echo "gofumpt would change:"; echo "$$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@.ci/rules
	shellcheck -x testdata/guests/*.sh testdata/guests/init testdata/guests/emu-root testdata/untrusted/*.sh testdata/untrusted/init \
		testdata/rootkit/*.sh testdata/rootkit/start testdata/kvmbench/*.sh .ci/run .ci/rules

fmt:
	$(GO) run $(GOFUMPT) -w . $$(git ls-files '*/testdata/*.go')

# check is what must hold before a commit: formatted, tidy, generated files up to date, and nothing left over.
check: lint
	$(GO) generate ./...
	$(GO) mod tidy
	@[ -z "$$(git status --porcelain)" ] || { echo "the tree is dirty:"; git status --short; exit 1; }

# fuzz runs every fuzzer for FUZZTIME.
FUZZTIME ?= 20s
fuzz:
	@for t in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -hoE '^func Fuzz\w+' $$t/*_test.go | sed 's/func //'); do \
			echo "$$t $$f"; $(GO) test -run='^$$' -fuzz="^$$f$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=1x $$t || exit 1; \
		done; \
	done

clean:
	rm -rf bin
