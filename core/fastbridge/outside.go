package fastbridge

import (
	"bytes"
	"encoding/binary"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/cpu"
)

// What a system call has left to do later, as RCU does, runs in no scope: functions that the policy elides for what is the snapshot's are
// elided there too, as in SLOW-BRIDGE. Their first instruction, which the tracer left free, becomes a jump to a test of the argument. Nothing of the
// trusted VM is where the snapshot has its memory, so that the test is exact; of addresses that do not tell it knows nothing.

// The instruction at the entry of functions for the tracer (arch/x86/include/asm/nops.h), and the one before it where branches are tracked.
var (
	tracerNop = []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}
	endbr64   = []byte{0xf3, 0x0f, 0x1e, 0xfa}
	endbrGone = []byte{0x66, 0x0f, 0x1f, 0x00} // what a kernel that does not track branches puts in its place
)

// elideOutside patches the functions in the kernel's own text and in the copy, for local functions. What the views are made of stays as it was.
func (b *Bridge) elideOutside() error {
	kept := map[uint64]bool{}
	for entry, h := range b.hooks {
		if h.Kind != cpu.HookElide || h.Always || h.Once || h.Argument > 1 || h.Return >= 1<<31 || entry < b.text.Lo || entry >= b.text.Hi {
			continue
		}
		at := entry
		if code := b.original(at, len(endbr64)); bytes.Equal(code, endbr64) || bytes.Equal(code, endbrGone) {
			at += uint64(len(endbr64))
		}
		if !bytes.Equal(b.original(at, len(tracerNop)), tracerNop) {
			continue
		}
		for _, page := range []uint64{at &^ 0xfff, (at + uint64(len(tracerNop)) - 1) &^ 0xfff} {
			if !kept[page] {
				before := *b.texts[page]
				b.texts[page], kept[page] = &before, true
			}
		}
		jump, err := b.elisionAt(at, h)
		if err != nil {
			return err
		}
		b.write(at, jump)
		if b.copy.delta == 0 {
			continue
		}
		if jump, err = b.elisionAt(at+b.copy.delta, h); err == nil {
			err = b.putCopy(at, jump)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// elisionAt makes the test for a function whose first instruction, at an address, it takes the place of, and returns the jump to it.
func (b *Bridge) elisionAt(at uint64, h cpu.Hook) ([]byte, error) {
	to, err := b.place(func(to uint64) ([]byte, error) {
		a := &assembler{at: to}
		a.elideIfSnapshot(h.Argument, uint32(h.Return), routines)
		a.jump(at + uint64(len(tracerNop)))
		return a.code, nil
	})
	a := &assembler{at: at}
	a.jump(to)
	return a.code, err
}

// elideIfSnapshot returns a value to the caller of a function if its argument is an address of the snapshot's part of the direct map or of vmemmap.
func (a *assembler) elideIfSnapshot(argument int, value uint32, to entries) {
	load := []byte{0x48, 0x89, 0xf8} // mov rax, rdi
	if argument == 1 {
		load[1], load[2] = 0x89, 0xf0 // mov rax, rsi
	}
	memory := func(op byte, variable uint64) {
		a.bytes(0x48, op, 0x05) // op rax, [variable]
		a.relative(variable)
	}
	const sub, cmp = 0x2b, 0x3b
	a.bytes(load...)
	memory(sub, to.data+monitor.PageOffset)
	memory(cmp, to.data+monitor.Boundary)
	above := a.jumpIf(ifNotCarry)
	a.bytes(0x48, 0x3d, 0, 0, 0x10, 0) // cmp rax, 1 MiB
	direct := a.jumpIf(ifNotCarry)
	a.land(above)
	a.bytes(load...)
	memory(sub, to.data+monitor.Vmemmap)
	memory(cmp, to.data+monitor.VmemmapBoundary)
	other := a.jumpIf(ifNotCarry)
	a.land(direct)
	a.bytes(0xb8) // mov eax, value
	a.code = binary.LittleEndian.AppendUint32(a.code, value)
	a.bytes(0xc3) // ret
	a.land(other)
}
