package kvmaccel

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/hybridbridge/emu/cpu/vcpu"
)

// Model answers what a guest asks about its processor, and holds the state that KVM does not.
type Model interface {
	// CPUIDLeaves is what CPUID reports, and Lacking the names of features that a host cannot report.
	CPUIDLeaves() []vcpu.CPUIDLeaf
	Lacking(host []vcpu.CPUIDLeaf) []string
	// ReadMSR and WriteMSR are RDMSR and WRMSR of registers that KVM does not keep; ok is false for #GP.
	ReadMSR(n uint32) (v uint64, ok bool)
	WriteMSR(n uint32, v uint64) (ok bool)
	// TSC is what the guest's time-stamp counter is to read now.
	TSC() uint64
	State() vcpu.State
	// SetState says what is wrong with a state.
	SetState(vcpu.State) error
}

// Config is what a vCPU is connected to.
type Config struct {
	Model    Model
	Platform vcpu.Platform
	Log      hclog.Logger
}

// VCPU is a virtual machine of KVM's with one processor. It implements vcpu.Accelerated.
//
// Its Instructions are nanoseconds, or, on a host that cannot scale the time-stamp counter, ticks of the guest's counter,
// which then runs at the host's rate. The count goes on while the vCPU does not run; SetState sets it.
//
// KVM wants all calls for a vCPU from one thread. So that thread is the VCPU's own, and calls of the Platform come from it.
type VCPU struct {
	cfg   Config
	vm    int
	fd    int
	slots map[uint64]uint32 // by guest-physical address
	run   *runPage
	page  []byte // run and what follows it
	kick  *kicker
	calls chan func()
	done  chan struct{}
	// inside says that the thread works for a caller: calls by the Platform are made on it.
	inside bool
	sregs2 bool
	xcrs   bool

	clock    clock
	deadline uint64
	armed    uint64 // the kick that the timer gives, at this count
	stop     atomic.Bool

	intr, nmi bool
	halted    bool
	// unfinished says that the instruction that made the last exit is not over.
	unfinished bool
	retune     bool      // the guest's time-stamp counter is to be set
	tuned      time.Time // when it was set or compared last
	exits      map[uint32]uint64
}

// Addresses for KVM's own pages on Intel's processors: where firmware would be, below 4 GiB, and no slot.
const (
	identityMapAddr = 0xfffbc000
	tssAddr         = 0xfffbd000
)

// New makes a virtual machine without memory. Close it when done. The error wraps ErrUnusable if KVM cannot be used.
func New(cfg Config) (*VCPU, error) {
	kvm, err := openDevice()
	if err != nil {
		return nil, err
	}
	defer unix.Close(kvm)
	if cfg.Log == nil {
		cfg.Log = hclog.NewNullLogger()
	}
	v := &VCPU{
		cfg: cfg, vm: -1, fd: -1, slots: map[uint64]uint32{}, calls: make(chan func()), done: make(chan struct{}),
		deadline: ^uint64(0), exits: map[uint32]uint64{},
	}
	go v.serve()
	v.on(func() { err = v.create(kvm) })
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// serve is the vCPU's thread. It ends with the vCPU.
func (v *VCPU) serve() {
	runtime.LockOSThread()
	for f := range v.calls {
		f()
		v.done <- struct{}{}
	}
}

// on calls f on the vCPU's thread.
func (v *VCPU) on(f func()) {
	if v.inside {
		f()
		return
	}
	v.inside = true
	v.calls <- f
	<-v.done
	v.inside = false
}

func (v *VCPU) create(kvm int) error {
	host, err := supportedCPUID(kvm)
	if err != nil {
		return err
	}
	if v.vm, err = createVM(kvm); err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	if err := errors.Join(setIdentityMapAddr(v.vm, identityMapAddr), setTSSAddr(v.vm, tssAddr)); err != nil {
		return err
	}
	if err := enableCap(v.vm, &kvmCap{Cap: capUserSpaceMSR, Args: [4]uint64{msrInvalid | msrUnknown | msrFiltered}}); err != nil {
		return err
	}
	if err := setMSRFilter(v.vm, msrFilter()); err != nil {
		return err
	}
	if v.fd, err = createVCPU(v.vm, 0); err != nil {
		return err
	}
	size, err := getVCPUMmapSize(kvm)
	if err != nil {
		return err
	}
	if v.run, v.page, err = mapRun(v.fd, size); err != nil {
		return err
	}
	if v.kick, err = newKicker(v.fd); err != nil {
		return err
	}
	for capability, has := range map[int]*bool{capSregs2: &v.sregs2, capXCRs: &v.xcrs} {
		n, err := checkExtension(kvm, capability)
		if err != nil {
			return err
		}
		*has = n > 0
	}
	if err := errors.Join(v.describe(host), v.startClock()); err != nil {
		return err
	}
	s := v.cfg.Model.State()
	return v.setState(&s)
}

// describe makes CPUID report what the model reports.
func (v *VCPU) describe(host []vcpu.CPUIDLeaf) error {
	if names := v.cfg.Model.Lacking(host); names != nil {
		return fmt.Errorf("%w for this model of processor: the host lacks %s", ErrUnusable, strings.Join(names, ", "))
	}
	c := new(kvmCPUID)
	for _, l := range v.cfg.Model.CPUIDLeaves() {
		e := kvmCPUIDEntry{Leaf: l.Leaf, Sub: l.Sub, EAX: l.EAX, EBX: l.EBX, ECX: l.ECX, EDX: l.EDX}
		if l.EAX|l.EBX|l.ECX|l.EDX == 0 {
			continue // what is not there reads so; to some that are there, KVM adds
		}
		if c.N == maxCPUID {
			return fmt.Errorf("the model has more than %d CPUID leaves", maxCPUID)
		}
		if l.Indexed {
			e.Flags = cpuidSignificantIndex
		}
		c.Entry[c.N] = e
		c.N++
	}
	return setCPUID(v.fd, c)
}

// startClock starts guest time at 0.
func (v *VCPU) startClock() error {
	const gigahertz = 1_000_000
	kHz, err := getTSCKHz(v.fd)
	if err != nil {
		return err
	}
	if setTSCKHz(v.fd, gigahertz) == nil {
		kHz = gigahertz
	} else {
		// KVM has noted the rate that it refused.
		if err := setTSCKHz(v.fd, uintptr(kHz)); err != nil {
			return err
		}
		v.cfg.Log.Info("the host's processor cannot scale the time-stamp counter (KVM_CAP_TSC_CONTROL): guest time passes at its rate", "times", float64(kHz)/gigahertz)
	}
	v.clock.start(uint64(kHz))
	return nil
}

// Close implements vcpu.Accelerated.
func (v *VCPU) Close() error {
	if v.calls == nil {
		return nil
	}
	if v.kick != nil {
		v.kick.close()
	}
	close(v.calls)
	v.calls = nil
	var err error
	if v.page != nil {
		err = unix.Munmap(v.page)
	}
	for _, fd := range []int{v.fd, v.vm} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}

// AddSlot implements vcpu.Accelerated.
func (v *VCPU) AddSlot(pa uint64, mem []byte, readOnly bool) error {
	r := kvmMemoryRegion{Guest: pa, Size: uint64(len(mem)), Host: hostAddress(mem)}
	if readOnly {
		r.Flags = memoryReadonly
	}
	if _, ok := v.slots[pa]; ok || len(mem) == 0 {
		return fmt.Errorf("memory slot of %d bytes at %#x: empty, or there is one", len(mem), pa)
	}
	used := make(map[uint32]bool, len(v.slots))
	for _, n := range v.slots {
		used[n] = true
	}
	for used[r.Slot] {
		r.Slot++
	}
	if err := setUserMemory(v.vm, &r); err != nil {
		return fmt.Errorf("memory slot %d of %d bytes at %#x: %w", r.Slot, len(mem), pa, err)
	}
	v.slots[pa] = r.Slot
	return nil
}

// RemoveSlot implements vcpu.Accelerated.
func (v *VCPU) RemoveSlot(pa uint64) error {
	n, ok := v.slots[pa]
	if !ok {
		return fmt.Errorf("there is no memory slot at %#x", pa)
	}
	delete(v.slots, pa)
	return setUserMemory(v.vm, &kvmMemoryRegion{Slot: n, Guest: pa})
}

// Instructions implements vcpu.VCPU.
func (v *VCPU) Instructions() uint64 { return v.clock.now() }

// Until implements vcpu.Accelerated.
func (v *VCPU) Until(n uint64) time.Duration { return v.clock.until(n) }

// InterruptsEnabled implements vcpu.VCPU.
func (v *VCPU) InterruptsEnabled() bool { return v.run.ifFlag != 0 }

// SetDeadline implements vcpu.VCPU.
func (v *VCPU) SetDeadline(deadline uint64) { v.deadline = deadline }

// SetINTR implements vcpu.VCPU.
func (v *VCPU) SetINTR(level bool) { v.intr = level }

// SetNMI implements vcpu.VCPU.
func (v *VCPU) SetNMI() { v.nmi = true }

// Stop implements vcpu.VCPU.
func (v *VCPU) Stop() {
	v.stop.Store(true)
	v.kick.kick()
}

// Exits returns how often the guest was left, by cause.
func (v *VCPU) Exits() map[string]uint64 {
	m := make(map[string]uint64, len(v.exits))
	for reason, n := range v.exits {
		m[exitName(reason)] += n
	}
	return m
}

// clock is the count of Instructions: it follows the guest's time-stamp counter.
type clock struct {
	kHz   uint64
	base  int64 // the count at begin
	begin time.Time
	last  uint64 // the count never goes back but by set
}

func (c *clock) start(kHz uint64) { *c = clock{kHz: kHz, begin: time.Now()} }

func (c *clock) set(n uint64) { c.base, c.begin, c.last = int64(n), time.Now(), n }

const million = 1_000_000

func (c *clock) now() uint64 {
	d := uint64(time.Since(c.begin))
	n := c.base + int64(d/million*c.kHz+d%million*c.kHz/million)
	c.last = max(c.last, uint64(max(n, 0)))
	return c.last
}

// adjust moves the clock by d; a clock that is ahead waits.
func (c *clock) adjust(d int64) { c.base += d }

// until returns the host's time until the count is n, at least 1 ns.
func (c *clock) until(n uint64) time.Duration {
	now := c.now()
	if n <= now {
		return 1
	}
	const most = 1 << 43 // two hours; who asks asks again
	return time.Duration(min(n-now, most)*million/c.kHz + 1)
}
