package virtio

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hybridbridge/emu/core/block"
	"github.com/hybridbridge/emu/core/device"
	"github.com/hybridbridge/emu/core/memory"
)

// irqs counts interrupts. With vectors it is a function that has MSI-X enabled.
type irqs struct {
	vectors int
	msix    map[uint16]int
	pin     bool
	raised  int
}

func (i *irqs) MSIX(n uint16) bool {
	if i.vectors == 0 {
		return false
	}
	if i.msix == nil {
		i.msix = map[uint16]int{}
	}
	i.msix[n]++
	return true
}

func (i *irqs) SetINTx(level bool) {
	if level && !i.pin {
		i.raised++
	}
	i.pin = level
}
func (i *irqs) Vectors() int    { return i.vectors }
func (i *irqs) BusMaster() bool { return true }

func guestRAM(t testing.TB) *memory.Memory {
	l, err := memory.Flat(4<<20, memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := memory.New(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// driver is a little virtio driver. Queue n's areas are at 1 MiB + n*64 KiB, its buffers above 2 MiB.
type driver struct {
	t        testing.TB
	d        *Device
	m        *memory.Memory
	features uint64
	size     uint16
	avail    []uint16
	used     []uint16
	next     []uint16 // descriptor to use next
	alloc    uint64
}

func (v *driver) reg(off uint64, size int) uint64      { return v.d.ReadMMIO(off, size) }
func (v *driver) set(off uint64, size int, val uint64) { v.d.WriteMMIO(off, size, val) }
func (v *driver) area(n int) (desc, driver, used uint64) {
	b := 0x100000 + uint64(n)<<16
	return b, b + 0x4000, b + 0x8000
}

func (v *driver) put(pa uint64, size int, val uint64) { v.poke(pa, le.AppendUint64(nil, val)[:size]) }
func (v *driver) get16(pa uint64) uint16              { return le.Uint16(v.peek(pa, 2)) }
func (v *driver) poke(pa uint64, b []byte) {
	if !v.m.WriteAt(b, pa) {
		v.t.Fatalf("no RAM at %#x", pa)
	}
}

func (v *driver) peek(pa uint64, n int) []byte {
	b := make([]byte, n)
	if !v.m.ReadAt(b, pa) {
		v.t.Fatalf("no RAM at %#x", pa)
	}
	return b
}

// start negotiates and enables all queues.
func start(t testing.TB, d *Device, m *memory.Memory, features uint64, size uint16) *driver {
	v := &driver{t: t, d: d, m: m, features: features, size: size, alloc: 0x200000}
	v.set(regStatus, 1, 0)
	v.set(regStatus, 1, 1)
	v.set(regStatus, 1, 3)
	for i := range uint64(2) {
		v.set(regFeatSelect, 4, i)
		offered := v.reg(regFeat, 4)
		if want := features >> (32 * i) & 0xffffffff; offered&want != want {
			t.Fatalf("features %#x not offered", want)
		}
		v.set(regDriverSelect, 4, i)
		v.set(regDriverFeat, 4, features>>(32*i))
	}
	v.set(regStatus, 1, 11)
	if v.reg(regStatus, 1) != 11 {
		t.Fatal("features refused")
	}
	for n := range int(v.reg(regNumQueues, 2)) {
		v.set(regQueueSelect, 2, uint64(n))
		v.set(regQueueSize, 2, uint64(size))
		desc, drv, used := v.area(n)
		v.set(regQueueDesc, 4, desc)
		v.set(regQueueDesc+4, 4, 0)
		v.set(regQueueDriver, 4, drv)
		v.set(regQueueUsed, 8, used)
		v.set(regQueueVector, 2, uint64(n+1))
		v.set(regQueueEnable, 2, 1)
		if v.reg(regQueueEnable, 2) != 1 {
			t.Fatal("queue not enabled")
		}
		v.avail, v.used, v.next = append(v.avail, 0), append(v.used, 0), append(v.next, 0)
	}
	v.set(regConfigVector, 2, 0)
	v.set(regStatus, 1, 15)
	return v
}

// buffer takes guest memory.
func (v *driver) buffer(n int) uint64 {
	if v.alloc+uint64(n) > 0x3f0000 {
		v.alloc = 0x200000
	}
	a := v.alloc
	v.alloc += uint64(n+15) &^ 15
	return a
}

// add makes a chain and returns where its writable buffers are.
func (v *driver) add(n int, indirect bool, out [][]byte, in ...int) (places []uint64) {
	desc, drv, _ := v.area(n)
	type d struct {
		addr  uint64
		size  int
		flags uint16
	}
	var list []d
	for _, b := range out {
		a := v.buffer(len(b))
		v.poke(a, b)
		list = append(list, d{a, len(b), 0})
	}
	for _, k := range in {
		a := v.buffer(k)
		v.poke(a, make([]byte, k))
		places = append(places, a)
		list = append(list, d{a, k, descWrite})
	}
	write := func(at uint64, e d, next uint16) {
		v.put(at, 8, e.addr)
		v.put(at+8, 4, uint64(e.size))
		v.put(at+12, 2, uint64(e.flags))
		v.put(at+14, 2, uint64(next))
	}
	head := v.next[n]
	if indirect {
		table := v.buffer(len(list) * descSize)
		for i, e := range list {
			if i+1 < len(list) {
				e.flags |= descNext
			}
			write(table+uint64(i)*descSize, e, uint16(i+1))
		}
		write(desc+uint64(head)*descSize, d{table, len(list) * descSize, descIndirect}, 0)
		v.next[n] = (head + 1) % v.size
	} else {
		for i, e := range list {
			at := v.next[n]
			v.next[n] = (at + 1) % v.size
			if i+1 < len(list) {
				e.flags |= descNext
			}
			write(desc+uint64(at)*descSize, e, v.next[n])
		}
	}
	v.put(drv+4+2*uint64(v.avail[n]%v.size), 2, uint64(head))
	v.avail[n]++
	v.put(drv+2, 2, uint64(v.avail[n]))
	return places
}

func (v *driver) kick(n int) { v.set(barNotify+uint64(n)*notifyStep, 2, uint64(n)) }

// done returns the lengths of what the device has returned since the last call.
func (v *driver) done(n int) (lengths []uint32) {
	_, _, used := v.area(n)
	for end := v.get16(used + 2); v.used[n] != end; v.used[n]++ {
		lengths = append(lengths, le.Uint32(v.peek(used+4+8*uint64(v.used[n]%v.size)+4, 4)))
	}
	return lengths
}

func blkHead(kind uint32, sector uint64) []byte {
	return le.AppendUint64(le.AppendUint32(le.AppendUint32(nil, kind), 0), sector)
}

// blkIO does one request and returns status and data.
func (v *driver) blkIO(indirect bool, kind uint32, sector uint64, data []byte, in ...int) (byte, []byte) {
	v.t.Helper()
	out := [][]byte{blkHead(kind, sector)}
	if data != nil {
		out = append(out, data[:len(data)/2], data[len(data)/2:])
	}
	places := v.add(0, indirect, out, append(in, 1)...)
	v.kick(0)
	got := v.done(0)
	if len(got) != 1 {
		v.t.Fatalf("%d requests came back, status %#x", len(got), v.reg(regStatus, 1))
	}
	var b []byte
	for i, n := range in {
		b = append(b, v.peek(places[i], n)...)
	}
	return v.peek(places[len(places)-1], 1)[0], b
}

func TestBlk(t *testing.T) {
	for _, features := range []uint64{featVersion1, featVersion1 | blkFlush | featIndirect, featVersion1 | featEventIdx | featIndirect} {
		m := guestRAM(t)
		b := NewBlk("blk0", m, block.NewMemory(1<<20), "emu-disk")
		ir := &irqs{vectors: 2}
		b.connect(ir)
		v := start(t, &b.Device, m, features, 16)
		if v.reg(barConfig, 8) != 2048 || v.reg(barConfig+20, 4) != 512 || v.reg(barConfig+200, 8) != 0 {
			t.Error("config")
		}
		indirect := features&featIndirect != 0
		model := make([]byte, 1<<20)
		r := rand.New(rand.NewPCG(1, features))
		for range 200 {
			n := 512 * (1 + r.IntN(300))
			sector := uint64(r.IntN((len(model) - n) / 512))
			if r.IntN(2) == 0 {
				p := make([]byte, n)
				for i := range p {
					p[i] = byte(r.Uint32())
				}
				if s, _ := v.blkIO(indirect, blkOut, sector, p); s != blkOK {
					t.Fatal("status", s)
				}
				copy(model[sector*512:], p)
			} else if s, p := v.blkIO(indirect, blkIn, sector, nil, 100, n-100); s != blkOK || !bytes.Equal(p, model[sector*512:][:n]) {
				t.Fatal("read differs", s)
			}
		}
		if s, id := v.blkIO(false, blkGetID, 0, nil, 20); s != blkOK || string(bytes.TrimRight(id, "\x00")) != "emu-disk" {
			t.Error(s, id)
		}
		for _, c := range []struct {
			kind   uint32
			sector uint64
			in     []int
			want   byte
		}{
			{blkFlushReq, 0, nil, blkOK},
			{77, 0, nil, blkUnsupported},
			{blkIn, 2048, []int{512}, blkIOErr},
			{blkIn, 2047, []int{1024}, blkIOErr},
			{blkIn, ^uint64(0), []int{512}, blkIOErr},
			{blkIn, 0, []int{100}, blkIOErr},
		} {
			if s, _ := v.blkIO(false, c.kind, c.sector, nil, c.in...); s != c.want {
				t.Errorf("%+v: %d", c, s)
			}
		}
		if ir.msix[1] == 0 || ir.raised != 0 || features&featEventIdx == 0 && ir.msix[1] != 207 {
			t.Errorf("%+v", ir)
		}
	}
}

func TestReadOnlyAndPin(t *testing.T) {
	m := guestRAM(t)
	b := NewBlk("blk0", m, readOnly{block.NewMemory(1 << 20)}, "")
	ir := &irqs{}
	b.connect(ir)
	v := start(t, &b.Device, m, featVersion1|blkRO, 8)
	if s, _ := v.blkIO(false, blkOut, 0, make([]byte, 512)); s != blkIOErr {
		t.Error("wrote to a read-only disk")
	}
	if !ir.pin || v.reg(barISR, 1) != 1 || ir.pin || v.reg(barISR, 1) != 0 {
		t.Error("interrupt pin")
	}
	// The driver does not want interrupts.
	_, drv, _ := v.area(0)
	v.put(drv, 2, availNoInterrupt)
	if v.blkIO(false, blkIn, 0, nil, 512); ir.pin {
		t.Error("interrupted")
	}
}

type readOnly struct{ block.Disk }

func (readOnly) ReadOnly() bool { return true }

func TestNegotiation(t *testing.T) {
	m := guestRAM(t)
	d := &NewRNG("rng0", m, 1).Device
	v := &driver{t: t, d: d, m: m}
	v.set(regStatus, 1, 3)
	v.set(regStatus, 1, 11) // without VERSION_1
	if v.reg(regStatus, 1) != 3 {
		t.Error("legacy driver accepted")
	}
	v.set(regDriverSelect, 4, 1)
	v.set(regDriverFeat, 4, 0x81)
	if v.set(regStatus, 1, 11); v.reg(regStatus, 1) != 3 {
		t.Error("unknown feature accepted")
	}
	v.set(regDriverFeat, 4, 1)
	if v.set(regStatus, 1, 11); v.reg(regStatus, 1) != 11 {
		t.Error("features refused")
	}
	v.set(regDriverFeat, 4, 0)
	if v.reg(regDriverFeat, 4) != 1 {
		t.Error("features changed after FEATURES_OK")
	}
	v.set(regConfigVector, 2, 5)
	if v.reg(regConfigVector, 2) != noVector {
		t.Error("a vector that is not there")
	}
	v.set(regQueueSelect, 2, 9)
	if v.reg(regQueueSize, 2) != 0 {
		t.Error("a queue that is not there")
	}
	v.set(regQueueSelect, 2, 0)
	v.set(regQueueSize, 2, 3)
	if v.set(regQueueEnable, 2, 1); v.reg(regStatus, 1)&statusNeedsReset == 0 || v.reg(regQueueEnable, 2) != 0 {
		t.Error("a queue of 3 was enabled")
	}
	if v.set(regStatus, 1, 0); v.reg(regStatus, 1) != 0 || v.reg(regQueueSize, 2) != rngQueue {
		t.Error("reset")
	}
}

func TestRNG(t *testing.T) {
	numbers := func(seed uint64, save bool) []byte {
		m := guestRAM(t)
		r := NewRNG("rng0", m, seed)
		r.connect(&irqs{})
		v := start(t, &r.Device, m, featVersion1, 8)
		var all []byte
		for i := range 20 {
			if save && i == 10 {
				b, err := json.Marshal(r.SaveState())
				if err != nil {
					t.Fatal(err)
				}
				r = NewRNG("rng0", m, 99)
				r.connect(&irqs{})
				if err := r.LoadState(func(x any) error { return json.Unmarshal(b, x) }); err != nil {
					t.Fatal(err)
				}
				v.d = &r.Device
			}
			p := v.add(0, false, nil, 10, 33)
			v.kick(0)
			if got := v.done(0); len(got) != 1 || got[0] != 43 {
				t.Fatal(got)
			}
			all = append(append(all, v.peek(p[0], 10)...), v.peek(p[1], 33)...)
		}
		return all
	}
	if !bytes.Equal(numbers(1, false), numbers(1, true)) || bytes.Equal(numbers(1, false), numbers(2, false)) {
		t.Error("not a function of the seed")
	}
}

func TestConsole(t *testing.T) {
	m := guestRAM(t)
	var out strings.Builder
	c := NewConsole("hvc0", m, &out)
	ir := &irqs{vectors: 3}
	c.connect(ir)
	if c.Input([]byte("early ")) != 6 {
		t.Error("early input")
	}
	v := start(t, &c.Device, m, featVersion1|featEventIdx, 8)
	p := v.add(consoleRx, false, nil, 4)
	v.kick(consoleRx)
	if got := v.done(consoleRx); len(got) != 1 || got[0] != 4 || string(v.peek(p[0], 4)) != "earl" {
		t.Error(got)
	}
	// State in between: two bytes wait.
	b, err := json.Marshal(c.SaveState())
	if err != nil {
		t.Fatal(err)
	}
	c = NewConsole("hvc0", m, &out)
	c.connect(ir)
	if err := c.LoadState(func(x any) error { return json.Unmarshal(b, x) }); err != nil {
		t.Fatal(err)
	}
	v.d = &c.Device
	p = v.add(consoleRx, false, nil, 100)
	c.Input([]byte("bird"))
	if got := v.done(consoleRx); len(got) != 1 || got[0] != 6 || string(v.peek(p[0], 6)) != "y bird" {
		t.Error(got)
	}
	v.add(consoleTx, false, [][]byte{[]byte("hello, "), []byte("world")})
	v.kick(consoleTx)
	if out.String() != "hello, world" || len(v.done(consoleTx)) != 1 || ir.msix[2] != 1 {
		t.Error(out.String(), ir)
	}
	if n := c.Input(make([]byte, 1<<20)); n > consoleInput {
		t.Error(n)
	}
}

func TestBlkState(t *testing.T) {
	m := guestRAM(t)
	b := NewBlk("blk0", m, block.NewMemory(1<<20), "")
	b.connect(&irqs{vectors: 2})
	v := start(t, &b.Device, m, featVersion1|featEventIdx|featIndirect, 8)
	data := bytes.Repeat([]byte("data"), 1024)
	v.blkIO(true, blkOut, 5, data)
	s, err := json.Marshal(b.SaveState())
	if err != nil {
		t.Fatal(err)
	}
	b = NewBlk("blk0", m, block.NewMemory(1<<20), "")
	b.connect(&irqs{vectors: 2})
	decode := func(x any) error { return json.Unmarshal(s, x) }
	if err := b.LoadState(decode); err != nil {
		t.Fatal(err)
	}
	v.d = &b.Device
	if st, got := v.blkIO(true, blkIn, 5, nil, len(data)); st != blkOK || !bytes.Equal(got, data) {
		t.Error("contents lost")
	}
	for _, other := range []device.Stateful{NewBlk("x", m, block.NewMemory(2<<20), ""), NewBlk("x", m, readOnly{block.NewMemory(1 << 20)}, ""), NewConsole("x", m, nil)} {
		if err := other.LoadState(decode); err == nil {
			t.Error("loaded into another kind of device")
		}
	}
}

// TestHostileRings has a table of what a driver must not do; each must stop the device, and a reset must revive it.
func TestHostileRings(t *testing.T) {
	const hole = 0x900000000
	for name, spoil := range map[string]func(v *driver, desc, drv, used uint64){
		"loop": func(v *driver, desc, drv, used uint64) {
			v.put(desc+12, 2, descNext)
			v.put(desc+14, 2, 0)
		},
		"next out of range":    func(v *driver, desc, drv, used uint64) { v.put(desc+14, 2, 999) },
		"head out of range":    func(v *driver, desc, drv, used uint64) { v.put(drv+4, 2, 999) },
		"too many":             func(v *driver, desc, drv, used uint64) { v.put(drv+2, 2, 999) },
		"buffer not RAM":       func(v *driver, desc, drv, used uint64) { v.put(desc, 8, hole) },
		"buffer wraps":         func(v *driver, desc, drv, used uint64) { v.put(desc, 8, ^uint64(7)) },
		"status not RAM":       func(v *driver, desc, drv, used uint64) { v.put(desc+16, 8, hole) },
		"short header":         func(v *driver, desc, drv, used uint64) { v.put(desc+8, 4, 5) },
		"no status":            func(v *driver, desc, drv, used uint64) { v.put(desc+12, 2, 0) },
		"readable at end":      func(v *driver, desc, drv, used uint64) { v.put(desc+12, 2, descNext|descWrite); v.put(desc+28, 2, 0) },
		"huge":                 func(v *driver, desc, drv, used uint64) { v.put(desc+8, 4, 0xffffffff) },
		"indirect unaligned":   func(v *driver, desc, drv, used uint64) { v.put(desc+12, 2, descIndirect); v.put(desc+8, 4, 17) },
		"indirect and next":    func(v *driver, desc, drv, used uint64) { v.put(desc+12, 2, descIndirect|descNext) },
		"indirect not RAM":     func(v *driver, desc, drv, used uint64) { v.put(desc+12, 2, descIndirect); v.put(desc, 8, hole) },
		"indirect in indirect": func(v *driver, desc, drv, used uint64) { v.put(desc+12, 2, descIndirect); v.put(desc, 8, desc) },
		"indirect loop": func(v *driver, desc, drv, used uint64) {
			v.put(desc+12, 2, descIndirect)
			v.put(desc, 8, 0x180000)
			v.put(0x180000+12, 2, descNext)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := guestRAM(t)
			b := NewBlk("blk0", m, block.NewMemory(1<<20), "")
			ir := &irqs{vectors: 2}
			b.connect(ir)
			var told error
			b.OnError(func(err error) { told = err })
			v := start(t, &b.Device, m, featVersion1|featIndirect, 8)
			v.add(0, false, [][]byte{blkHead(blkGetID, 0)}, 20)
			spoil(v, 0x100000, 0x104000, 0x108000)
			v.kick(0)
			if v.reg(regStatus, 1)&statusNeedsReset == 0 || ir.msix[0] != 1 || !errors.Is(told, errRing) {
				t.Fatalf("status %#x, %+v, %v", v.reg(regStatus, 1), ir, told)
			}
			v.kick(0)
			v.poke(0x100000, make([]byte, 0x10000))
			v = start(t, &b.Device, m, featVersion1, 8)
			if s, _ := v.blkIO(false, blkIn, 0, nil, 512); s != blkOK {
				t.Error("dead after reset")
			}
		})
	}
}

// FuzzRings lets the fuzzer write the rings and registers of all three devices.
func FuzzRings(f *testing.F) {
	m := guestRAM(f)
	f.Add([]byte{0, 0, 0, 0, 0, 16, 0, 0, 0x20, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0}, uint16(1), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, reg, val uint16) {
		m.WriteAt(make([]byte, 0x30000), 0x100000)
		var out bytes.Buffer
		blk, rng, con := NewBlk("a", m, block.NewMemory(64<<10), "s"), NewRNG("b", m, 0), NewConsole("c", m, &out)
		for _, d := range []*Device{&blk.Device, &rng.Device, &con.Device} {
			d.connect(&irqs{vectors: int(val & 3)})
			v := start(t, d, m, featVersion1|uint64(val)&1*featIndirect|uint64(val)>>1&1*featEventIdx, 8)
			m.WriteAt(b[:min(len(b), 0x100)], 0x100000)
			if len(b) > 128 {
				m.WriteAt(b[128:min(len(b), 0x100)], 0x104000)
			} else {
				m.WriteAt([]byte{0, 0, 8, 0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0}, 0x104000)
			}
			v.kick(0)
			con.Input([]byte("input"))
			v.set(uint64(reg%0x40), 1<<(reg>>12&3), uint64(val))
			v.kick(1)
			v.kick(0)
			_ = v.reg(uint64(reg), 4)
			if out.Len() > 16<<20 {
				t.Error("endless output")
			}
		}
	})
}
