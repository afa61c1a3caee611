package lapic

import (
	"github.com/hybridbridge/emu/core/clock"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/device/apic"
)

// Size is the size of the register page.
const Size = 0x1000

// DefaultBase is where the register page is after reset.
const DefaultBase uint64 = 0xfee00000

// Hz is the rate of the timer before its divider, and of the TSC: one tick per nanosecond of guest time.
const Hz = 1_000_000_000

// Config is what a local APIC is connected to. Nil functions are not called.
type Config struct {
	Clock *clock.Queue
	// Bus is where the register page is mapped and moved when IA32_APIC_BASE changes. It may be nil.
	Bus device.Bus
	ID  uint8 // initial APIC ID
	// PhysBits is MAXPHYADDR, which bounds IA32_APIC_BASE; 0 means 40.
	PhysBits int
	// TSCDeadline offers the timer's TSC-deadline mode; CPUID.1:ECX[24] must say the same.
	TSCDeadline bool
	// TSC returns what RDTSC would (with IA32_TSC_ADJUST), in ticks of 1 ns. It is needed if TSCDeadline is set.
	TSC func() uint64
	// INTR drives the processor's INTR input.
	INTR func(level bool)
	// NMI and SMI signal these to the processor.
	NMI func()
	SMI func()
	// INIT is called for an INIT that is sent to this processor, StartUp for the SIPI after it.
	INIT    func()
	StartUp func(vector uint8)
	// ExtINT is the INTA cycle to the PIC. It returns the vector.
	ExtINT func() uint8
	// EOI is told the vector at the end of each level-triggered interrupt: the broadcast to the I/O APIC.
	EOI func(vector uint8)
}

// Entries of the local vector table, in the order of their registers.
const (
	lvtTimer = iota
	lvtThermal
	lvtPerf
	lvtLINT0
	lvtLINT1
	lvtError
	lvtCount
)

// Bits of LVT entries (SDM vol. 3A, figure 11-8).
const (
	lvtMode      = 7 << 8
	lvtRemoteIRR = 1 << 14
	lvtLevel     = 1 << 15
	lvtMask      = 1 << 16
	lvtTimerMode = 3 << 17

	timerOneShot     = 0 << 17
	timerPeriodic    = 1 << 17
	timerTSCDeadline = 2 << 17
)

// lvtWritable has the bits of each entry that software can write.
var lvtWritable = [lvtCount]uint32{
	lvtTimer:   0xff | lvtMask | lvtTimerMode,
	lvtThermal: 0xff | lvtMode | lvtMask,
	lvtPerf:    0xff | lvtMode | lvtMask,
	lvtLINT0:   0xff | lvtMode | 1<<13 | lvtLevel | lvtMask,
	lvtLINT1:   0xff | lvtMode | 1<<13 | lvtLevel | lvtMask,
	lvtError:   0xff | lvtMask,
}

// Error status bits (SDM vol. 3A, figure 11-9).
const (
	errSendIllegal    = 1 << 5
	errReceiveIllegal = 1 << 6
	errRegister       = 1 << 7
)

const svrEnable = 1 << 8

// IA32_APIC_BASE bits (SDM vol. 3A, figure 11-5).
const (
	baseBSP    = 1 << 8
	baseEnable = 1 << 11
)

// APIC is a local APIC. It implements device.MMIO, device.Stateful and apic.Target.
type APIC struct {
	c     Config
	timer *clock.Timer
	intr  bool

	base  uint64 // IA32_APIC_BASE
	id    uint32
	tpr   uint8
	ldr   uint32
	dfr   uint32
	svr   uint32
	esr   uint32 // what software reads
	errs  uint32 // errors since ESR was last written
	icr   uint64
	lvt   [lvtCount]uint32
	irr   set
	isr   set
	tmr   set
	lint  [2]bool // levels of LINT0 and LINT1
	extra bool    // an ExtINT message waits
	t     countdown
}

// New returns a local APIC in power-up state: enabled in IA32_APIC_BASE, disabled by software.
func New(c Config) *APIC {
	if c.PhysBits == 0 {
		c.PhysBits = 40
	}
	a := &APIC{c: c}
	a.timer = c.Clock.NewTimer(a.timerFires)
	a.Reset()
	return a
}

// Reset is the state after power-up or RESET (SDM vol. 3A, 11.4.7.1).
func (a *APIC) Reset() {
	a.reset()
	a.id = uint32(a.c.ID) << 24
	a.setBase(DefaultBase | baseBSP | baseEnable)
	a.update()
}

// reset resets the registers, but not the APIC ID and IA32_APIC_BASE, as INIT does.
func (a *APIC) reset() {
	a.timer.Stop()
	lint, base, id, intr := a.lint, a.base, a.id, a.intr
	*a = APIC{c: a.c, timer: a.timer, intr: intr, base: base, id: id, lint: lint, dfr: 0xffffffff, svr: 0xff}
	for i := range a.lvt {
		a.lvt[i] = lvtMask
	}
}

// VirtualWire does what firmware does before it starts a system: it enables the APIC, lets LINT0 pass the PIC's
// interrupts and LINT1 NMIs (MultiProcessor Specification 1.4, 3.6.2.2).
func (a *APIC) VirtualWire() {
	a.writeReg(0xf0, 0xff|svrEnable)
	a.writeReg(0x350, uint32(apic.ExtINT)<<8|lvtLevel)
	a.writeReg(0x360, uint32(apic.NMI)<<8)
}

func (a *APIC) enabled() bool { return a.base&baseEnable != 0 }

// APICBase returns IA32_APIC_BASE.
func (a *APIC) APICBase() uint64 { return a.base }

// SetAPICBase writes IA32_APIC_BASE. It reports false if a reserved bit is set, x2APIC mode included (#GP).
func (a *APIC) SetAPICBase(v uint64) bool {
	addr := uint64(1)<<a.c.PhysBits - Size
	if v&^(addr|baseBSP|baseEnable) != 0 {
		return false
	}
	if a.enabled() && v&baseEnable == 0 {
		a.reset() // enabled again, it is as after power-up (SDM vol. 3A, 11.4.3)
	}
	a.setBase(v)
	a.update()
	return true
}

func (a *APIC) setBase(v uint64) {
	old := a.base
	a.base = v
	if a.c.Bus == nil || old&^baseBSP == v&^baseBSP {
		return
	}
	if old&baseEnable != 0 {
		a.c.Bus.MapMMIO(old&^(Size-1), Size, nil)
	}
	if a.enabled() {
		a.c.Bus.MapMMIO(v&^(Size-1), Size, a)
	}
}

// TaskPriority returns CR8.
func (a *APIC) TaskPriority() uint8 { return a.tpr >> 4 }

// SetTaskPriority writes CR8, of which only the low four bits exist.
func (a *APIC) SetTaskPriority(cr8 uint8) {
	a.tpr = cr8 << 4
	a.update()
}

// ppr is the processor priority (SDM vol. 3A, 11.8.3.1).
func (a *APIC) ppr() uint8 {
	v, _ := a.isr.highest()
	if a.tpr>>4 >= v>>4 {
		return a.tpr
	}
	return v & 0xf0
}

// fixed returns the vector that can be delivered now.
func (a *APIC) fixed() (uint8, bool) {
	v, ok := a.irr.highest()
	return v, ok && v>>4 > a.ppr()>>4
}

// extINT reports whether the PIC's interrupt can be delivered now.
func (a *APIC) extINT() bool {
	if !a.enabled() {
		return a.lint[0] // LINT0 is the INTR pin then
	}
	l := a.lvt[lvtLINT0]
	return a.extra || a.lint[0] && l&lvtMask == 0 && apic.Mode(l&lvtMode>>8) == apic.ExtINT
}

// Pending reports whether INTR is raised: an interrupt, ExtINT included, can be delivered at the present priority.
func (a *APIC) Pending() bool {
	_, ok := a.fixed()
	return ok || a.extINT()
}

// Ack takes the interrupt that INTR announces: it moves it into service and returns its vector. If there is none any
// more, that is the spurious vector (SDM vol. 3A, 11.9).
func (a *APIC) Ack() uint8 {
	v, ok := a.fixed()
	switch {
	case ok:
		a.irr.remove(v)
		a.isr.add(v)
	case a.extINT():
		a.extra = false
		if a.c.ExtINT != nil {
			v = a.c.ExtINT()
		} else {
			v = uint8(a.svr)
		}
	default:
		v = uint8(a.svr)
	}
	a.update()
	return v
}

func (a *APIC) update() {
	if p := a.Pending(); p != a.intr {
		a.intr = p
		if a.c.INTR != nil {
			a.c.INTR(p)
		}
	}
}

// accept puts a fixed interrupt into IRR.
func (a *APIC) accept(v uint8, level bool) bool {
	if !a.enabled() || a.svr&svrEnable == 0 {
		return false
	}
	if v < 16 {
		a.fail(errReceiveIllegal)
		return true
	}
	a.irr.add(v)
	if level {
		a.tmr.add(v)
	} else {
		a.tmr.remove(v)
	}
	a.update()
	return true
}

// fail records an error and signals it.
func (a *APIC) fail(e uint32) {
	if a.errs&e != 0 {
		return
	}
	a.errs |= e
	if a.lvt[lvtError]&lvtMask == 0 {
		if v := uint8(a.lvt[lvtError]); v >= 16 {
			a.accept(v, false)
		}
	}
}

// Deliver implements apic.Target.
func (a *APIC) Deliver(m apic.Message) bool {
	if !a.enabled() || !a.addressed(m.Dest, m.Logical) {
		return false
	}
	return a.receive(m)
}

func (a *APIC) receive(m apic.Message) bool {
	switch m.Mode {
	case apic.Fixed, apic.LowestPriority:
		return a.accept(m.Vector, m.Level)
	case apic.SMI:
		call(a.c.SMI)
	case apic.NMI:
		call(a.c.NMI)
	case apic.INIT:
		a.reset()
		a.update()
		call(a.c.INIT)
	case apic.StartUp:
		if a.c.StartUp != nil {
			a.c.StartUp(m.Vector)
		}
	case apic.ExtINT:
		a.extra = true
		a.update()
	}
	return true
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// addressed matches a message's destination (SDM vol. 3A, 11.6.2).
func (a *APIC) addressed(dest uint8, logical bool) bool {
	if dest == 0xff {
		return true
	}
	if !logical {
		return dest == uint8(a.id>>24)
	}
	ldr := uint8(a.ldr >> 24)
	if a.dfr>>28 == 0xf { // flat
		return ldr&dest != 0
	}
	return ldr>>4 == dest>>4 && ldr&dest&0xf != 0 // cluster
}

// LINT0 is the input to which the PIC's output is wired.
func (a *APIC) LINT0() device.Line { return device.LineFunc(func(l bool) { a.setLINT(0, l) }) }

// LINT1 is the input to which the NMI signal is wired.
func (a *APIC) LINT1() device.Line { return device.LineFunc(func(l bool) { a.setLINT(1, l) }) }

func (a *APIC) setLINT(n int, level bool) {
	rise := level && !a.lint[n]
	a.lint[n] = level
	if !a.enabled() {
		if rise && n == 1 {
			call(a.c.NMI)
		}
		a.update()
		return
	}
	a.local(lvtLINT0+n, rise)
}

// local delivers LVT entry n, whose source has just risen or is a level to look at again.
func (a *APIC) local(n int, rise bool) {
	l := &a.lvt[n]
	level := (n == lvtLINT0 || n == lvtLINT1) && a.lint[n-lvtLINT0]
	if *l&lvtMask == 0 {
		switch apic.Mode(*l & lvtMode >> 8) {
		case apic.Fixed:
			if *l&lvtLevel == 0 || n == lvtLINT1 { // LINT1 is always edge triggered (11.5.1)
				if rise {
					a.acceptLocal(uint8(*l), false)
				}
			} else if level && *l&lvtRemoteIRR == 0 && a.acceptLocal(uint8(*l), true) {
				*l |= lvtRemoteIRR
			}
		case apic.NMI:
			if rise {
				call(a.c.NMI)
			}
		case apic.SMI:
			if rise {
				call(a.c.SMI)
			}
		case apic.INIT:
			if rise {
				a.receive(apic.Message{Mode: apic.INIT})
			}
		}
	}
	a.update()
}

// acceptLocal accepts an interrupt of the local vector table; an illegal vector is an error that is received.
func (a *APIC) acceptLocal(v uint8, level bool) bool { return a.accept(v, level) && v >= 16 }

func (a *APIC) eoi() {
	v, ok := a.isr.highest()
	if !ok {
		return
	}
	a.isr.remove(v)
	if a.tmr.has(v) {
		if l := &a.lvt[lvtLINT0]; *l&lvtRemoteIRR != 0 && uint8(*l) == v {
			*l &^= lvtRemoteIRR
			a.local(lvtLINT0, false)
		}
		if a.c.EOI != nil {
			a.c.EOI(v)
		}
	}
	a.update()
}

// sendIPI carries out the interrupt command register (SDM vol. 3A, 11.6.1). Only messages to this processor arrive.
func (a *APIC) sendIPI() {
	m := apic.Message{
		Dest:    uint8(a.icr >> 56),
		Logical: a.icr&(1<<11) != 0,
		Mode:    apic.Mode(a.icr >> 8 & 7),
		Vector:  uint8(a.icr),
	}
	if m.Mode == apic.INIT && a.icr&(1<<15) != 0 && a.icr&(1<<14) == 0 {
		return // INIT level de-assert: no effect
	}
	if m.Vector < 16 && (m.Mode == apic.Fixed || m.Mode == apic.LowestPriority) {
		a.fail(errSendIllegal)
		return
	}
	switch a.icr >> 18 & 3 {
	case 0:
		if !a.addressed(m.Dest, m.Logical) {
			return
		}
	case 3: // all but self
		return
	}
	if m.Mode == apic.ExtINT {
		return // reserved in the ICR
	}
	a.receive(m)
}
