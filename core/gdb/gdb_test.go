package gdb

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hybridbridge/emu/core/boot/tiny"
	"github.com/hybridbridge/emu/core/machine"
)

func tinyMachine(t testing.TB, pieces ...tiny.Code) *machine.Machine {
	t.Helper()
	m, err := machine.New(machine.Config{MemorySize: 4 << 20, Kernel: tiny.Image(pieces...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func feed(p *parser, b []byte) (all []event) {
	for _, c := range b {
		if e, ok := p.feed(c); ok {
			all = append(all, e)
		}
	}
	return all
}

func TestParser(t *testing.T) {
	var p parser
	long := strings.Repeat("x", maxPacket+1)
	for _, c := range []struct{ in, want string }{
		{"+$g#67", "ack g"},
		{"$m0,4#fd-\x03", "m0,4 nak interrupt"},
		{"$g#68$g#67", "bad g"},
		{"$g#zz$g#67", "bad g"},
		{"noise$lost$g#67", "g"},
		{"$X0,1:}\x03#9f", "X0,1:#"},
		{"$a}#de", "bad"}, // ends in an escape
		{string(frame(long)) + "$g#67", "bad g"},
		{string(frame(long[1:]))[:10] + "$g#67", "g"},
		{"$#00", ""},
	} {
		var got []string
		for _, e := range feed(&p, []byte(c.in)) {
			switch {
			case e.ack:
				got = append(got, "ack")
			case e.nak:
				got = append(got, "nak")
			case e.bad:
				got = append(got, "bad")
			case e.interrupt:
				got = append(got, "interrupt")
			default:
				got = append(got, string(e.packet))
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%.40q is %q, want %q", c.in, s, c.want)
		}
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	if got := feed(&p, frame(string(all))); len(got) != 1 || !bytes.Equal(got[0].packet, all) {
		t.Errorf("%+v", got)
	}
}

// handle gives a session a packet.
func handle(t *testing.T, s *session, packet, want string) {
	t.Helper()
	if got, act := s.handle([]byte(packet)); got != want || act != stay {
		t.Errorf("%q: %q, %v, want %q", packet, got, act, want)
	}
}

func TestSession(t *testing.T) {
	m := tinyMachine(t, tiny.Spin)
	var said string
	s := &session{last: "T05thread:1;", send: func(p string) { said += p }}
	s.attach(m)
	handle(t, s, "?", "T05thread:1;")
	handle(t, s, "qSupported:swbreak+;xmlRegisters=i386",
		"PacketSize=4000;qXfer:features:read+;QStartNoAckMode+;swbreak+;hwbreak+;vContSupported+")
	handle(t, s, "vMustReplyEmpty", "")
	handle(t, s, "vCont?", "vCont;c;C;s;S;t")
	handle(t, s, "vCont;t", "T05thread:1;")
	handle(t, s, "vCont;x", replyBad)
	handle(t, s, "qC", "QC1")
	handle(t, s, "qfThreadInfo", "m1")
	handle(t, s, "qsThreadInfo", "l")
	handle(t, s, "qThreadExtraInfo,1", hex.EncodeToString([]byte("CPU 0 [running]")))
	handle(t, s, "Hg0", "OK")
	handle(t, s, "T1", "OK")
	handle(t, s, "qXfer:features:read:other.xml:0,100", "E00")
	handle(t, s, "qXfer:features:read:target.xml:ffff,100", "l")
	handle(t, s, "qXfer:memory-map:read::0,100", "")

	// The CPU is in 32-bit mode: register 8 is EIP.
	handle(t, s, "p8", "20001000")
	handle(t, s, "P0=78563412", "OK")
	handle(t, s, "p0", "78563412")
	handle(t, s, "Pa=33000000", replyBad) // CS
	handle(t, s, "P0=00", replyBad)
	handle(t, s, "Pfff=00", replyBad)
	handle(t, s, "pffffffffffffffff", replyBad)
	all, _ := s.handle([]byte("g"))
	if len(all) != 2*(10*4+6*4+8*10+8*4+8*16+4+2*4+5*4) || !strings.HasPrefix(all, "78563412") {
		t.Errorf("%d digits: %s", len(all), all)
	}
	handle(t, s, "G"+"01000000"+all[8:], "OK")
	handle(t, s, "p0", "01000000")
	handle(t, s, "G02000000", "OK") // fewer
	handle(t, s, "p0", "02000000")
	handle(t, s, "Gx", replyBad)

	handle(t, s, fmt.Sprintf("m%x,2", tiny.Entry), "ebfe")
	handle(t, s, "m3ffffe,8", "0000") // the end of memory
	handle(t, s, "m400000,1", replyFault)
	handle(t, s, "m0", replyBad)
	handle(t, s, "M180000,2:abcd", "OK")
	handle(t, s, "X180002,2:}\x7f", "OK")
	handle(t, s, "m180000,4", "abcd7d7f")
	handle(t, s, "M180000,3:abcd", replyBad)
	handle(t, s, "M400000,1:00", replyFault)
	handle(t, s, "X180000,0:", "OK")

	for _, z := range []string{"0,100020,1", "1,100020,1", "2,180000,4", "3,180000,4", "4,180000,4"} {
		handle(t, s, "Z"+z, "OK")
		handle(t, s, "Z"+z, "OK")
	}
	if len(s.stops) != 5 {
		t.Error(s.stops)
	}
	handle(t, s, "z0,100020,1", "OK")
	if o := m.Run(context.Background(), 10); o.Reason != machine.Breakpoint { // the hardware one is still there
		t.Error(o.Reason)
	}
	handle(t, s, "z1,100020,1", "OK")
	handle(t, s, "z1,100020,1", "OK")
	if o := m.Run(context.Background(), 10); o.Reason != machine.Budget {
		t.Error(o.Reason)
	}
	handle(t, s, "Z5,0,0", "")
	handle(t, s, "Z2,0,0", replyBad)
	handle(t, s, "Z2,0,1001", replyBad)
	handle(t, s, "Z0", replyBad)
	s.clear()
	if s.stops != nil {
		t.Error(s.stops)
	}

	for packet, want := range map[string]action{
		"c": goOn, "s": step, "C05": goOn, "S05;100020": step, "vCont;c": goOn, "vCont;s:1;c": step, "D": detach, "k": kill,
		"qRcmd," + hex.EncodeToString([]byte("quit")): kill,
	} {
		if _, act := s.handle([]byte(packet)); act != want {
			t.Errorf("%s: %v, want %v", packet, act, want)
		}
	}
	handle(t, s, "cxyz", replyBad)
	for command, want := range map[string]string{
		"help": "info registers", "regs": "RIP 0000000000100020", "info  registers": "RFLAGS", "info stats": "guest time", "dance": "no command",
	} {
		said = ""
		handle(t, s, "qRcmd,"+hex.EncodeToString([]byte(command)), "OK")
		text := ""
		for _, piece := range strings.Split(said, "O")[1:] {
			b, _ := hex.DecodeString(piece)
			text += string(b)
		}
		if !strings.Contains(text, want) {
			t.Errorf("monitor %s: %q", command, text)
		}
	}
	handle(t, s, "qRcmd,zz", replyBad)
}

func TestDescriptions(t *testing.T) {
	for d, want := range map[*description]string{
		description64(): "rip=16 eflags=17 cs=18 st0=24 fctrl=32 xmm0=40 mxcsr=56 fs_base=57 gs_base=58 k_gs_base=59 cr0=60 cr8=64 efer=65",
		description32(): "eip=8 eflags=9 cs=10 st0=16 fctrl=24 xmm0=32 mxcsr=40 fs_base=41 gs_base=42 cr0=43 efer=47",
	} {
		var parsed struct {
			Features []struct {
				Regs []struct {
					Name string `xml:"name,attr"`
					Num  int    `xml:"regnum,attr"`
				} `xml:"reg"`
			} `xml:"feature"`
		}
		if err := xml.Unmarshal([]byte(d.xml()), &parsed); err != nil {
			t.Fatal(err)
		}
		numbers := " "
		for _, f := range parsed.Features {
			for _, r := range f.Regs {
				numbers += fmt.Sprintf("%s=%d ", r.Name, r.Num)
			}
		}
		for _, w := range strings.Fields(want) {
			if !strings.Contains(numbers, " "+w+" ") {
				t.Errorf("%s: no %s in%s", d.arch, w, numbers)
			}
		}
	}
	// What is written is read again, for every register and every bit that it has.
	for _, d := range []*description{description64(), description32()} {
		for _, r := range d.regs {
			if r.set == nil || r.name == "ftag" {
				continue
			}
			var s registers
			b := bytes.Repeat([]byte{0xa5}, r.size())
			if err := r.write(&s, b); err != nil {
				t.Error(err)
			}
			v := r.get(&s)
			if r.bytes(nil, &s)[0] != 0xa5 && r.name != "cr8" || v == (value{}) {
				t.Errorf("%s: %x", r.name, v)
			}
		}
	}
	var s registers
	s.setFullTag(0xfff0)
	s.FPU.ST[0].Mant, s.FPU.ST[0].SE = 1<<63, 0x3fff
	if s.FPU.Tag != 3 || s.fullTag() != 0xfff4 { // valid, then zero
		t.Errorf("%x %x", s.FPU.Tag, s.fullTag())
	}
}

// client is a debugger by hand.
type client struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
	p parser
}

func dial(t testing.TB, s *Server) *client {
	t.Helper()
	c, err := net.Dial(s.listener.Addr().Network(), s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, c: c, r: bufio.NewReader(c)}
}

func (c *client) raw(s string) {
	if _, err := c.c.Write([]byte(s)); err != nil {
		c.t.Error(err)
	}
}

// next returns the next packet, or "gone".
func (c *client) next() string {
	for {
		b, err := c.r.ReadByte()
		if err != nil {
			return "gone"
		}
		if e, ok := c.p.feed(b); ok && e.packet != nil {
			return string(e.packet)
		}
	}
}

func (c *client) ask(packet, want string) {
	c.t.Helper()
	c.raw(string(frame(packet)))
	if got := c.next(); got != want {
		c.t.Errorf("%s: %q, want %q", packet, got, want)
	}
}

func serve(t *testing.T, addr string, m *machine.Machine) (*Server, func() machine.Outcome) {
	t.Helper()
	s, err := Listen(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Attach(m, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	out := make(chan machine.Outcome, 1)
	go func() { out <- s.Run(ctx, 0) }()
	return s, func() machine.Outcome {
		o := <-out
		s.Exited(0)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		return o
	}
}

func TestServer(t *testing.T) {
	m := tinyMachine(t, tiny.Count(3), tiny.Store(0x180000, 7), tiny.Spin)
	s, wait := serve(t, "unix:"+filepath.Join(t.TempDir(), "socket"), m)
	c := dial(t, s)
	c.ask("?", "T05thread:1;")
	c.raw("-") // gdb did not understand
	if got := c.next(); got != "T05thread:1;" {
		t.Error(got)
	}
	c.ask("QStartNoAckMode", "OK")
	c.ask("qSupported:swbreak+;hwbreak+", "PacketSize=4000;qXfer:features:read+;QStartNoAckMode+;swbreak+;hwbreak+;vContSupported+")
	c.ask("s", "T05thread:1;")
	c.ask("p8", "25001000")
	c.ask("Z0,100026,1", "OK") // jnz
	c.ask("c", "T05swbreak:;thread:1;")
	c.ask("p8", "26001000")
	c.ask("vCont;c", "T05swbreak:;thread:1;")
	c.ask("p1", "01000000") // ECX, two rounds later
	c.ask("z0,100026,1", "OK")
	c.ask("Z2,180001,1", "OK")
	c.ask("c", "T05watch:180001;thread:1;")
	c.ask("m180000,4", "07000000")
	c.raw(string(frame("c")))
	time.Sleep(20 * time.Millisecond)
	c.raw("\x03")
	if got := c.next(); got != "T02thread:1;" {
		t.Error(got)
	}
	c.raw("\x03") // stopped already: nothing happens
	c.ask("p8", "32001000")

	// gdb goes away without a word: the guest waits for the next one.
	c.c.Close()
	d := dial(t, s)
	d.ask("?", "T02thread:1;")
	n := m.CPU().Instructions()
	d.ask("D", "OK")
	if got := d.next(); got != "gone" {
		t.Error(got)
	}
	// The guest runs; a new connection stops it.
	time.Sleep(20 * time.Millisecond)
	e := dial(t, s)
	e.ask("?", "T02thread:1;")
	if m.CPU().Instructions() == n {
		t.Error("the guest did not go on")
	}
	if f := dial(t, s); f.next() != "gone" {
		t.Error("a second gdb is let in")
	}
	e.raw(string(frame("k")))
	if o := wait(); o.Reason != machine.Killed {
		t.Error(o.Reason)
	}
}

// A guest that dies can be looked at before it is gone.
func TestServerDeath(t *testing.T) {
	s, wait := serve(t, "localhost:0", tinyMachine(t, tiny.UD2))
	c := dial(t, s)
	c.raw(string(frame("c")))
	if got := c.next(); !strings.HasPrefix(got, "O") {
		t.Error(got)
	}
	if got := c.next(); got != "T0bthread:1;" {
		t.Error(got)
	}
	c.ask("p8", "20001000")
	c.raw(string(frame("c")))
	if o := wait(); o.Reason != machine.TripleFault {
		t.Error(o.Reason)
	}
	if got := c.next(); got != "W00" {
		t.Error(got)
	}
}

// Outcomes that are the caller's leave the guest running: here the text on the console.
func TestServerText(t *testing.T) {
	m := tinyMachine(t, tiny.Print("hello"), tiny.PowerOff())
	m.WaitFor("ell")
	s, err := Listen("0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Attach(m, nil)
	c := dial(t, s)
	c.raw(string(frame("c")))
	for _, want := range []machine.Reason{machine.Text, machine.PowerOff} {
		if o := s.Run(context.Background(), 0); o.Reason != want {
			t.Errorf("%v, want %v", o.Reason, want)
		}
	}
	s.Exited(3)
	if got := c.next(); got != "W03" {
		t.Error(got)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:"+path, nil); err == nil {
		t.Error("took a socket that somebody listens at")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	s, err := Listen("unix:"+path, nil) // a stale one
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, addr := range []string{"tcp::0", "0", ":0", "localhost:0"} {
		s, err := Listen(addr, nil)
		if err != nil {
			t.Fatal(addr, err)
		}
		if a := s.listener.Addr().(*net.TCPAddr); !a.IP.IsLoopback() {
			t.Errorf("%s listens at %v", addr, a)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Listen("localhost:none", nil); err == nil {
		t.Error("no error")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s, err = Listen(":0", nil); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if o := s.Run(ctx, 0); o.Reason != machine.Interrupted {
		t.Error(o.Reason)
	}
}

// FuzzPacket feeds whatever comes over the line to a session; nothing may panic, and replies must be packets.
func FuzzPacket(f *testing.F) {
	for _, s := range []string{
		"$g#67", "$m100020,4#00", "$Z0,100020,1#", "$qSupported:swbreak+#", "$X180000,2:}\x03a#", "$vCont;s:1;c#", "$P0=00#",
		"$qXfer:features:read:target.xml:0,fff#", "$qRcmd,68656c70#", "$G00112233#", "$c100020#", "$Z2,fffffffffffffffe,2#", "$Z4,0,1000#",
	} {
		f.Add([]byte(s))
	}
	m := tinyMachine(f, tiny.Spin)
	state := m.CPU().State()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := m.CPU().SetState(state); err != nil {
			t.Fatal(err)
		}
		var p parser
		s := &session{send: func(string) {}}
		s.attach(m)
		packets := feed(&p, b)
		// Most inputs have a wrong checksum: take what is between $ and # too.
		if _, rest, ok := bytes.Cut(b, []byte("$")); ok {
			body, _, _ := bytes.Cut(rest, []byte("#"))
			packets = append(packets, event{packet: body})
		}
		for _, e := range packets {
			reply, act := s.handle(e.packet)
			if got := feed(new(parser), frame(reply)); len(got) != 1 || got[0].bad && len(reply) <= maxPacket {
				t.Fatalf("%q: reply %q", e.packet, reply)
			}
			if act == step {
				m.Step(context.Background())
			}
		}
		s.clear()
	})
}
