package fastbridge

import (
	"encoding/binary"
	"slices"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/cpu/isa"
)

// jumpSize is how long a jump is.
const jumpSize = 5

// part is one of the instructions that a jump takes the place of.
type part struct {
	in   isa.Inst
	code []byte
	at   uint64 // its linear address
	// displaced says that its operand is the snapshot's unless its address tells otherwise; other instructions are copied.
	displaced bool
	// flags says that what the flags are before it counts, to it or to what follows.
	flags bool
	// fixed is where a displaced instruction's operand is, if that is known before and not 0.
	fixed uint64
	// hook is what is done before it, at the beginning of a function; the instruction itself does nothing then.
	hook *hook
}

// hook is what the monitor does at the entry of a function, by the site's entry in its table.
type hook struct {
	action, skip, size byte // monitor.SiteAction, SiteSkip and SiteBytes
	value              uint32
	copy               uint64 // where a local function has a copy
}

func (p *part) next() uint64 { return p.at + uint64(len(p.code)) }

// jumper assembles the code that a jump leads to. It can be used again, for other parts.
type jumper struct {
	assembler
	direct uint64 // where the direct map begins
	to     entries
	starts []int // where those are that the code has, from the first one on
	asks   []ask
	end    uint64 // where it goes on, unless the last part leads elsewhere
	// external are the displacements of branches that lead out of the code.
	external []int
	tails    []tail
}

// ask is an int3 in the code by which the host is asked about the instruction at an address.
type ask struct {
	off   int
	about uint64
}

// tail is code that is out of the way of a part, to which jumps at up to two places lead.
type tail struct {
	part  *part
	saved [2]uint8 // registers of R8 to R15, 0 for none
	leave bool     // it goes on with the instruction in the clean root; otherwise the host is asked
	from  [2]int
}

// assemble makes the code for the linear address at. It ends before the first of the parts that it cannot have; the very first one it must have.
func (j *jumper) assemble(at uint64, parts []part) error {
	*j = jumper{
		assembler: assembler{j.code[:0], at}, direct: j.direct, to: j.to,
		starts: j.starts[:0], asks: j.asks[:0], external: j.external[:0], tails: j.tails[:0],
	}
	through := true
	for i := range parts {
		p := &parts[i]
		begin, tails, external := len(j.code), len(j.tails), len(j.external)
		err := j.part(p, i == 0)
		if err != nil && i == 0 {
			return err
		}
		if err != nil {
			j.code, j.tails, j.external = j.code[:begin], j.tails[:tails], j.external[:external]
			break
		}
		j.starts = append(j.starts, begin)
		j.end = p.next()
		through = !leaves(&p.in) && (p.hook == nil || p.hook.action != monitor.ActionLocal)
	}
	if through {
		j.goTo(j.end)
	}
	for i := range j.tails {
		t := &j.tails[i]
		for _, from := range t.from {
			if from != 0 {
				j.land(from)
			}
		}
		for _, reg := range t.saved {
			if reg != 0 {
				j.pop(reg)
			}
		}
		if t.part.flags {
			j.bytes(0x9d) // popfq
		}
		if !t.leave {
			j.asks = append(j.asks, ask{len(j.code), t.part.at})
			j.bytes(int3)
			continue
		}
		j.bytes(0x68) // push: the instruction's own address
		j.code = binary.LittleEndian.AppendUint32(j.code, uint32(t.part.at))
		j.far(jumpFar, j.to.leaveAt)
	}
	return nil
}

// move makes the code right for another address.
func (j *jumper) move(to uint64) {
	for _, at := range j.external {
		d := j.code[at:]
		binary.LittleEndian.PutUint32(d, binary.LittleEndian.Uint32(d)+uint32(j.at-to))
	}
	j.at = to
}

// goTo appends a jump out of the code.
func (j *jumper) goTo(to uint64) {
	j.jump(to)
	j.external = append(j.external, len(j.code)-4)
}

// leaves reports whether an instruction never goes on to the next.
func leaves(in *isa.Inst) bool {
	switch in.Op {
	case isa.JMP, isa.JMP_IND, isa.RET, isa.CALL, isa.CALL_IND:
		return true
	}
	return false
}

func (j *jumper) part(p *part, first bool) error {
	switch {
	case p.hook != nil:
		return j.hookPart(p)
	case !p.displaced:
		return j.copyPart(p)
	case p.in.Op == isa.MOVS || p.in.Op == isa.STOS:
		return j.displaceString(p, first)
	}
	return j.displacePart(p, first)
}

// far appends a call or jump to the routine of the monitor whose address is at a linear address of the last 2 GiB: the area is too far
// away for a displacement.
func (j *jumper) far(op byte, pointer uint64) {
	j.bytes(0xff, op, 0x25)
	j.code = binary.LittleEndian.AppendUint32(j.code, uint32(pointer))
}

const callFar, jumpFar = 0x14, 0x24

// directBits is the size of the direct map, as a power of two: see machine.BeyondBase.
const directBits = 40

// copyPart appends an instruction that means the same at any address, or what does the same.
func (j *jumper) copyPart(p *part) error {
	in := &p.in
	near := func(to uint64) error {
		const far = 1<<31 - 1<<26 // wherever in the area it will be
		if d := int64(to - j.at); d >= far || d <= -far {
			return errNotDisplaceable
		}
		return nil
	}
	push := func() { // the return address
		j.bytes(0x68)
		j.code = binary.LittleEndian.AppendUint32(j.code, uint32(p.next()))
	}
	to := p.next() + in.Imm
	switch in.Op {
	case isa.JCC:
		j.bytes(0x0f, 0x80|in.Cond&15)
		j.external = append(j.external, len(j.code))
		j.relative(to)
		return near(to)
	case isa.JMP:
		j.goTo(to)
		return near(to)
	case isa.CALL:
		push()
		j.goTo(to)
		return near(to)
	case isa.CALL_IND:
		modrm := slices.Index(p.code, 0xff) + 1
		if in.Base == isa.RegRIP || in.Base == isa.RSP || in.Index == isa.RSP || in.Args[0].Kind == isa.KindReg && in.Args[0].Reg == isa.RSP {
			return errNotDisplaceable
		}
		push()
		begin := len(j.code)
		j.bytes(p.code...)
		j.code[begin+modrm] ^= (2 ^ 4) << 3 // jmp in place of call
		return nil
	case isa.RET, isa.JMP_IND, isa.NOP:
	default:
		if in.Row.Attr&(isa.EndsBlock|isa.System|isa.Privileged) != 0 {
			return errNotDisplaceable
		}
	}
	if in.Base != isa.RegRIP {
		j.bytes(p.code...)
		return nil
	}
	off, _ := static(in, p.at)
	e, ok := split(in, p.code)
	if !ok || off != uint64(int64(int32(off))) {
		return errNotDisplaceable
	}
	j.bytes(e.absolute(uint32(off))...)
	return nil
}

// begin saves the flags, if they count, and a register. The first part of a jump's code finds out whether it runs in the view.
func (j *jumper) begin(p *part, reg uint8, first bool) {
	if p.flags {
		j.bytes(0x9c) // pushfq
	}
	j.push(reg)
	if !first {
		return
	}
	// Interrupts are not off: one in a local function leads to the clean root, and then the stack is anybody's.
	const mov = 0x8b
	j.memory(mov, reg, monitor.CurrentStack)
	j.bytes(0x49, 0x83, 0x78|reg&7, monitor.StackDepth, 0) // cmp qword [reg+depth], 0
	local := j.jumpIf(ifNotZero)                           // a local function has come here by a pointer
	j.bytes(0x49, 0x31, 0xe0|reg&7)                        // xor reg, rsp
	j.bytes(0x49, 0x81, 0xf8|reg&7, 0, 0x40, 0, 0)         // cmp reg, size of a stack
	other := j.jumpIf(ifNotCarry)
	j.tails = append(j.tails, tail{p, [2]uint8{reg}, true, [2]int{local, other}})
}

// restore undoes what begin has saved.
func (j *jumper) restore(p *part, reg uint8) {
	j.pop(reg)
	if p.flags {
		j.bytes(0x9d) // popfq
	}
}

// memory appends an instruction with one of R8 to R15 and a variable of the monitor's as its operands.
func (j *jumper) memory(op byte, reg uint8, offset int) {
	j.bytes(0x4c, op, 0x04|reg&7<<3, 0x25)
	j.code = binary.LittleEndian.AppendUint32(j.code, uint32(j.to.data)+uint32(offset))
}

// count adds 1 to a counter of the monitor's.
func (j *jumper) count(offset int) {
	j.bytes(0x48, 0xff, 0x04, 0x25) // inc qword [offset]
	j.code = binary.LittleEndian.AppendUint32(j.code, uint32(j.to.data)+uint32(offset))
}

// hookPart does what the monitor does for ActionLocal, ActionElide and ActionLock at the entry of a function, where neither the flags nor R11 count.
func (j *jumper) hookPart(p *part) error {
	const sub, cmp = 0x2b, 0x3b
	h := p.hook
	j.begin(p, isa.R11, true)
	if h.action == monitor.ActionLocal {
		j.count(monitor.Subtrees)
		j.push(isa.R10)
		j.bytes(0x49, 0x89, 0xe3, 0x49, 0x81, 0xe3, 0, 0xc0, 0xff, 0xff) // mov r11, rsp; and r11, -size of a stack
		j.bytes(0x4c, 0x8b, 0x54, 0x24, 16)                              // mov r10, [rsp+16]: the return address
		j.bytes(0x4d, 0x89, 0x53, monitor.StackReturns)                  // mov [r11+returns], r10
		j.bytes(0x48, 0xc7, 0x44, 0x24, 16)                              // mov qword [rsp+16], resume
		j.code = binary.LittleEndian.AppendUint32(j.code, uint32(j.to.resume))
		j.bytes(0x49, 0xc7, 0x43, monitor.StackDepth, 1, 0, 0, 0) // mov qword [r11+depth], 1: from here on it is a local function
		j.pop(isa.R10)
		j.bytes(0x48, 0x8d, 0x64, 0x24, 8, 0x49, 0xc7, 0xc3) // lea rsp, [rsp+8]; mov r11, the function's copy
		j.code = binary.LittleEndian.AppendUint32(j.code, uint32(h.copy))
		j.bytes(0x41, 0xff, 0xe3) // jmp r11
		return nil
	}
	argument := func() {
		if h.skip&monitor.SkipSecond != 0 {
			j.bytes(0x49, 0x89, 0xf3) // mov r11, rsi
		} else {
			j.bytes(0x49, 0x89, 0xfb) // mov r11, rdi
		}
	}
	ask := tail{part: p, saved: [2]uint8{isa.R11}}
	if h.skip&monitor.SkipNever == 0 {
		argument()
		j.bytes(0x4d, 0x85, 0xdb) // test r11, r11
		user := j.jumpIf(ifNotSign)
		j.memory(sub, isa.R11, monitor.PageOffset)
		j.memory(cmp, isa.R11, monitor.DirectLimit)
		beyond := j.jumpIf(ifNotCarry)
		j.memory(cmp, isa.R11, monitor.Boundary)
		trusted := j.jumpIf(ifNotCarry)
		j.bytes(0x49, 0x81, 0xfb, 0, 0, 0x10, 0) // cmp r11, 1 MiB
		points := j.jumpIf(ifNotCarry)
		ask.from[0] = j.jumpIf(ifCarry)
		j.land(beyond)
		argument()
		j.memory(sub, isa.R11, monitor.Vmemmap)
		j.memory(cmp, isa.R11, monitor.VmemmapLimit)
		other := j.jumpIf(ifNotCarry)
		j.memory(cmp, isa.R11, monitor.VmemmapBoundary)
		page := j.jumpIf(ifCarry)
		if h.skip&monitor.SkipOthers == 0 {
			goesOn := j.jumpIf(ifNotCarry)
			ask.from[1] = other
			other = goesOn
		}
		j.tails = append(j.tails, ask)
		j.land(user)
		j.land(trusted)
		j.land(other)
		j.count(monitor.Hooks)
		j.pop(isa.R11)
		passes := j.jumpAlways()
		j.land(points)
		j.land(page)
		defer func() { j.land(passes) }()
	}
	j.count(monitor.Hooks)
	j.pop(isa.R11)
	if h.action == monitor.ActionElide {
		j.bytes(0xb8) // mov eax, value
		j.code = binary.LittleEndian.AppendUint32(j.code, h.value)
		j.bytes(0xc3) // ret
		return nil
	}
	if h.size == 8 {
		j.bytes(0x48)
	}
	j.bytes(0xc7, 0x87) // mov [rdi+value], 0: a fault here has the host map the page
	j.code = binary.LittleEndian.AppendUint32(j.code, h.value)
	j.bytes(0, 0, 0, 0)
	return nil
}

// locate adds to the address on the stack, under one word, what leads to its alias, and pops it.
func (j *jumper) locate(reg uint8) (asks int) {
	j.bytes(0x6a, 0) // push 0
	j.far(callFar, j.to.locateAt)
	j.pop(reg)
	j.pop(reg)
	return j.jumpIf(ifCarry)
}

// displacePart appends an instruction on the alias of its operand, if that has one.
func (j *jumper) displacePart(p *part, first bool) error {
	in := &p.in
	e, ok := split(in, p.code)
	reg, free := scratch(in)
	if !ok || !free || in.Seg >= isa.FS {
		return errNotDisplaceable
	}
	j.begin(p, reg, first)
	switch off, fixed := static(in, p.at); {
	case p.fixed != 0:
		j.load(reg, p.fixed)
	case fixed:
		j.load(reg, off)
		j.push(reg)
		j.tails = append(j.tails, tail{p, [2]uint8{reg}, false, [2]int{j.locate(reg)}})
	default:
		j.bytes(e.lea(reg)...)
		other := isa.R8
		for other == reg || in.Base == other || in.Index == other {
			other++
		}
		j.push(other)
		j.load(other, -j.direct)
		j.bytes(0x4d, 0x01, 0xc0|reg&7<<3|other&7)    // add other, reg
		j.bytes(0x49, 0xc1, 0xe8|other&7, directBits) // shr other, bits
		j.pop(other)                                  // the flags stay
		direct := j.jumpIf(ifZero)
		j.push(reg)
		j.tails = append(j.tails, tail{p, [2]uint8{reg}, false, [2]int{j.locate(reg)}})
		j.land(direct)
	}
	there := e.displace(reg)
	switch {
	case keepsFlags[in.Op]:
		j.bytes(there...)
		j.restore(p, reg)
	case p.flags:
		j.bytes(0xff, 0x74, 0x24, 8, 0x9d) // push qword [rsp+8]; popfq
		j.bytes(there...)
		j.pop(reg)
		j.bytes(0x48, 0x8d, 0x64, 0x24, 8) // lea rsp, [rsp+8]
	default:
		j.bytes(there...)
		j.pop(reg)
	}
	return nil
}

// displaceString is displacePart for MOVS and STOS.
func (j *jumper) displaceString(p *part, first bool) error {
	if !movesString(&p.in) {
		return errNotDisplaceable
	}
	j.begin(p, isa.R11, first)
	j.push(isa.R10)
	asks := j.moveString(&p.in, p.code, j.locate)
	j.pop(isa.R10)
	j.restore(p, isa.R11)
	j.tails = append(j.tails, tail{part: p, saved: [2]uint8{isa.R10, isa.R11}, from: asks})
	return nil
}

// setsFlags are operations that set all arithmetic flags, or leave them undefined, whatever they were.
var setsFlags = map[isa.Op]bool{
	isa.ADD: true, isa.SUB: true, isa.CMP: true, isa.TEST: true, isa.AND: true, isa.OR: true, isa.XOR: true, isa.NEG: true, isa.XADD: true, isa.CMPXCHG: true,
}

// flagsCount reports whether what the arithmetic flags are before an instruction counts. next returns the instruction at an address. C has no
// flags: functions neither take nor return any.
func flagsCount(at uint64, next func(at uint64) (isa.Inst, bool)) bool {
	const arithmetic = isa.FlagCF | isa.FlagPF | isa.FlagAF | isa.FlagZF | isa.FlagSF | isa.FlagOF
	const most = 16
	for range most {
		in, ok := next(at)
		switch {
		case !ok || in.FlagsRead()&arithmetic != 0:
			return true
		case setsFlags[in.Op] || in.Op == isa.RET || in.Op == isa.CALL || in.Op == isa.CALL_IND:
			return false
		case in.Op == isa.JMP:
			at += in.Imm
		case in.Row.Attr&isa.EndsBlock != 0:
			return true
		}
		at += uint64(in.Len)
	}
	return true
}
