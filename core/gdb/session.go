package gdb

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu"
)

// Replies. The numbers of errors mean nothing to gdb; these are errno values as other stubs use them.
const (
	replyOK    = "OK"
	replyFault = "E0e" // EFAULT
	replyBad   = "E16" // EINVAL
)

// action is what a packet wants the guest to do.
type action uint8

const (
	stay action = iota
	goOn
	step
	detach
	kill
)

// maxWatch is the longest range that can be watched, in bytes: pages of it are not cached.
const maxWatch = 4096

// stop is a breakpoint or watchpoint as gdb names it: kind is the digit of Z packets.
type stop struct {
	kind      byte
	addr, len uint64
}

// Kinds of Z packets.
const (
	softBreak  = '0'
	hardBreak  = '1'
	watchWrite = '2'
	watchRead  = '3'
	watchBoth  = '4'
)

var watchKinds = map[byte]cpu.WatchKind{watchWrite: cpu.WatchWrite, watchRead: cpu.WatchRead, watchBoth: cpu.WatchBoth}

// watchNames are what stop replies call a watchpoint.
var watchNames = map[byte]string{watchWrite: "watch", watchRead: "rwatch", watchBoth: "awatch"}

// session is a debugger's view of a machine. It outlives connections and, since the guest may reset, machines.
type session struct {
	m       *machine.Machine
	desc    *description // nil until gdb asks for registers
	symbols *symbols.Table
	stops   []stop
	// last is the stop reply to "?".
	last string
	// send sends a packet ahead of the reply; nil in tests.
	send  func(string)
	noAck func()
	// swbreak and hwbreak: gdb knows these stop reasons.
	swbreak, hwbreak bool
}

func (s *session) attach(m *machine.Machine) {
	s.m = m
	for _, b := range s.stops {
		s.insert(b)
	}
}

func (s *session) insert(b stop) {
	if kind, ok := watchKinds[b.kind]; ok {
		s.m.CPU().AddWatchpoint(b.addr, b.len, kind)
		return
	}
	s.m.CPU().AddBreakpoint(b.addr)
}

func (s *session) remove(b stop) {
	c := s.m.CPU()
	if kind, ok := watchKinds[b.kind]; ok {
		c.RemoveWatchpoint(b.addr, b.len, kind)
		return
	}
	// A software and a hardware breakpoint at one address are one to the processor.
	if !slices.ContainsFunc(s.stops, func(o stop) bool { return o.addr == b.addr && watchKinds[o.kind] == 0 }) {
		c.RemoveBreakpoint(b.addr)
	}
}

// clear removes what gdb left behind.
func (s *session) clear() {
	old := s.stops
	s.stops = nil
	for _, b := range old {
		s.remove(b)
	}
}

// connected prepares for a new gdb, which knows nothing of the one before.
func (s *session) connected() {
	s.desc, s.swbreak, s.hwbreak = nil, false, false
}

// description returns the target description. It stays the same while gdb is connected, since gdb asks once.
func (s *session) description() *description {
	if s.desc == nil {
		s.desc = description32()
		if s.m.CPU().State().MSR.EFER&eferLMA != 0 {
			s.desc = description64()
		}
	}
	return s.desc
}

const eferLMA = 1 << 10

// handle answers one packet. An empty reply says that the packet is not known; resuming packets have no reply yet.
func (s *session) handle(packet []byte) (reply string, act action) {
	if len(packet) == 0 {
		return "", stay
	}
	p := string(packet[1:])
	switch packet[0] {
	case '?':
		return s.last, stay
	case 'g':
		var b []byte
		r := s.registers()
		for _, reg := range s.description().regs {
			b = reg.bytes(b, r)
		}
		return hex.EncodeToString(b), stay
	case 'G':
		return s.writeAll(p), stay
	case 'p':
		return s.readOne(p), stay
	case 'P':
		return s.writeOne(p), stay
	case 'm':
		return s.readMemory(p), stay
	case 'M':
		return s.writeMemory(p, true), stay
	case 'X':
		return s.writeMemory(p, false), stay
	case 'Z', 'z':
		return s.point(packet[0] == 'Z', p), stay
	case 'c', 's', 'C', 'S':
		return s.resume(packet[0], p)
	case 'D':
		return replyOK, detach
	case 'k':
		return "", kill
	case 'H', 'T':
		return replyOK, stay
	case 'q', 'Q':
		if command, ok := strings.CutPrefix(string(packet), "qRcmd,"); ok {
			return s.monitor(command)
		}
		return s.query(string(packet)), stay
	case 'v':
		return s.verbose(string(packet))
	}
	return "", stay
}

func (s *session) verbose(p string) (string, action) {
	switch {
	case p == "vCont?":
		return "vCont;c;C;s;S;t", stay
	case strings.HasPrefix(p, "vCont;"):
		// There is one thread, so the first action counts.
		first, _, _ := strings.Cut(p[len("vCont;"):], ";")
		first, _, _ = strings.Cut(first, ":")
		switch {
		case first == "":
			return replyBad, stay
		case first[0] == 'c', first[0] == 'C':
			return "", goOn
		case first[0] == 's', first[0] == 'S':
			return "", step
		case first[0] == 't': // it is stopped already
			return s.last, stay
		}
		return replyBad, stay
	case strings.HasPrefix(p, "vKill"):
		return replyOK, kill
	}
	return "", stay
}

// resume takes c, s, C and S, which may say where to go on. There are no signals to deliver.
func (s *session) resume(kind byte, p string) (string, action) {
	if kind == 'C' || kind == 'S' {
		_, p, _ = strings.Cut(p, ";")
	}
	if p != "" {
		addr, err := strconv.ParseUint(p, 16, 64)
		if err != nil {
			return replyBad, stay
		}
		r := s.registers()
		if r.RIP = addr; s.m.CPU().SetState(r.State) != nil {
			return replyBad, stay
		}
	}
	if kind == 's' || kind == 'S' {
		return "", step
	}
	return "", goOn
}

func (s *session) query(p string) string {
	name, arg, _ := strings.Cut(p, ":")
	switch name {
	case "qSupported":
		for _, f := range strings.Split(arg, ";") {
			s.swbreak = s.swbreak || f == "swbreak+"
			s.hwbreak = s.hwbreak || f == "hwbreak+"
		}
		return fmt.Sprintf("PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;swbreak+;hwbreak+;vContSupported+", maxPacket)
	case "QStartNoAckMode":
		if s.noAck != nil {
			s.noAck()
		}
		return replyOK
	case "qXfer":
		return s.transfer(arg)
	case "qC":
		return "QC1"
	case "qfThreadInfo":
		return "m1"
	case "qsThreadInfo":
		return "l"
	case "qAttached": // gdb detaches when it quits
		return "1"
	case "qSymbol":
		return replyOK
	}
	if strings.HasPrefix(p, "qThreadExtraInfo,") {
		state := "CPU 0 [running]"
		if s.m.CPU().Halted() {
			state = "CPU 0 [halted]"
		}
		return hex.EncodeToString([]byte(state))
	}
	return ""
}

// transfer serves qXfer:features:read:target.xml:OFFSET,LENGTH.
func (s *session) transfer(arg string) string {
	rest, ok := strings.CutPrefix(arg, "features:read:")
	if !ok {
		return ""
	}
	file, window, _ := strings.Cut(rest, ":")
	if file != "target.xml" {
		return "E00"
	}
	off, n, ok := twoNumbers(window)
	if !ok {
		return replyBad
	}
	xml := s.description().xml()
	if off >= uint64(len(xml)) {
		return "l"
	}
	xml = xml[off:]
	if n = min(n, maxPacket/2); n < uint64(len(xml)) { // half: bytes may need an escape
		return "m" + xml[:n]
	}
	return "l" + xml
}

// twoNumbers reads "HEX,HEX".
func twoNumbers(s string) (a, b uint64, ok bool) {
	x, y, ok := strings.Cut(s, ",")
	a, err1 := strconv.ParseUint(x, 16, 64)
	b, err2 := strconv.ParseUint(y, 16, 64)
	return a, b, ok && err1 == nil && err2 == nil
}

func (s *session) registers() *registers {
	return &registers{State: s.m.CPU().State(), tpr: s.m.TaskPriority()}
}

func (s *session) setRegisters(r *registers) string {
	if err := s.m.CPU().SetState(r.State); err != nil {
		return replyBad
	}
	if r.tpr != s.m.TaskPriority() {
		s.m.SetTaskPriority(r.tpr)
	}
	return replyOK
}

func (s *session) writeAll(p string) string {
	b, err := hex.DecodeString(p)
	if err != nil {
		return replyBad
	}
	r := s.registers()
	for _, reg := range s.description().regs {
		if len(b) < reg.size() {
			break // gdb may send fewer
		}
		// Those that cannot change are skipped: gdb sends all to change one.
		_ = reg.write(r, b[:reg.size()])
		b = b[reg.size():]
	}
	return s.setRegisters(r)
}

func (s *session) register(number string) *register {
	n, err := strconv.ParseUint(number, 16, 32)
	if regs := s.description().regs; err == nil && n < uint64(len(regs)) {
		return regs[n]
	}
	return nil
}

func (s *session) readOne(p string) string {
	reg := s.register(p)
	if reg == nil {
		return replyBad
	}
	return hex.EncodeToString(reg.bytes(nil, s.registers()))
}

func (s *session) writeOne(p string) string {
	number, digits, _ := strings.Cut(p, "=")
	reg := s.register(number)
	b, err := hex.DecodeString(digits)
	if reg == nil || err != nil || len(b) != reg.size() {
		return replyBad
	}
	r := s.registers()
	if reg.write(r, b) != nil {
		return replyBad
	}
	return s.setRegisters(r)
}

func (s *session) readMemory(p string) string {
	addr, n, ok := twoNumbers(p)
	if !ok {
		return replyBad
	}
	b := make([]byte, min(n, maxPacket/2))
	got := s.m.CPU().ReadLinear(addr, b)
	if got == 0 && n > 0 {
		return replyFault
	}
	return hex.EncodeToString(b[:got])
}

func (s *session) writeMemory(p string, digits bool) string {
	where, data, ok := strings.Cut(p, ":")
	addr, n, ok2 := twoNumbers(where)
	if !ok || !ok2 {
		return replyBad
	}
	b := []byte(data)
	if digits {
		var err error
		if b, err = hex.DecodeString(data); err != nil {
			return replyBad
		}
	}
	if uint64(len(b)) != n {
		return replyBad
	}
	if s.m.CPU().WriteLinear(addr, b) != len(b) {
		return replyFault
	}
	return replyOK
}

// point inserts or removes a breakpoint or watchpoint. Both happen once however often gdb asks (GDB manual, E.2).
func (s *session) point(insert bool, p string) string {
	if p == "" || p[0] < softBreak || p[0] > watchBoth {
		return ""
	}
	where, _, _ := strings.Cut(p, ";")
	if len(where) < 2 || where[1] != ',' {
		return replyBad
	}
	addr, n, ok := twoNumbers(where[2:])
	if !ok {
		return replyBad
	}
	b := stop{kind: p[0], addr: addr}
	if _, watch := watchKinds[b.kind]; watch {
		if b.len = n; n == 0 || n > maxWatch || addr+n < addr {
			return replyBad
		}
	}
	i := slices.Index(s.stops, b)
	switch {
	case insert && i < 0:
		s.stops = append(s.stops, b)
		s.insert(b)
	case !insert && i >= 0:
		s.stops = slices.Delete(s.stops, i, i+1)
		s.remove(b)
	}
	return replyOK
}

// Signal numbers of the protocol.
const (
	sigINT  = 2
	sigILL  = 4
	sigTRAP = 5
	sigSEGV = 11
)

// stopReply makes the stop reply for an outcome.
func (s *session) stopReply(o machine.Outcome) string {
	switch o.Reason {
	case machine.Interrupted:
		return stopped(sigINT, "")
	case machine.Unsupported:
		return stopped(sigILL, "")
	case machine.TripleFault, machine.Halted, machine.Idle:
		return stopped(sigSEGV, "")
	case machine.Breakpoint:
		return stopped(sigTRAP, s.why(o.Exit.Address, o.Exit.Reason == exitWatchpoint))
	}
	return stopped(sigTRAP, "")
}

func stopped(signal int, why string) string { return fmt.Sprintf("T%02x%sthread:1;", signal, why) }

// why says which breakpoint or watchpoint is at addr.
func (s *session) why(addr uint64, watch bool) string {
	for _, b := range s.stops {
		name, isWatch := watchNames[b.kind]
		switch {
		case b.addr != addr || isWatch != watch:
		case isWatch:
			return fmt.Sprintf("%s:%x;", name, addr)
		case b.kind == softBreak && s.swbreak:
			return "swbreak:;"
		case b.kind == hardBreak && s.hwbreak:
			return "hwbreak:;"
		}
	}
	return ""
}

const monitorHelp = `Commands of emu's monitor:
  info registers, regs   registers, control registers and segments, and the last branches
  info stats             instructions executed and guest time
  quit                   end emu (as gdb's kill)
  help                   this text
`

// monitor executes a command of gdb's "monitor", given in hexadecimal digits.
func (s *session) monitor(digits string) (string, action) {
	command, err := hex.DecodeString(digits)
	if err != nil {
		return replyBad, stay
	}
	switch strings.Join(strings.Fields(string(command)), " ") {
	case "regs", "info registers":
		s.print(s.m.Describe(s.symbols))
	case "info stats":
		s.print(fmt.Sprintf("instructions %d, guest time %.9f s\n", s.m.CPU().Instructions(), float64(s.m.Now())/1e9))
	case "help", "":
		s.print(monitorHelp)
	case "quit":
		return replyOK, kill
	default:
		s.print(fmt.Sprintf("%q is no command of emu's monitor; \"monitor help\" lists them\n", command))
	}
	return replyOK, stay
}

// print shows text to gdb's user.
func (s *session) print(text string) {
	if s.send == nil {
		return
	}
	for len(text) > 0 {
		n := min(len(text), maxPacket/2-1)
		s.send("O" + hex.EncodeToString([]byte(text[:n])))
		text = text[n:]
	}
}
