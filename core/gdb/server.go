package gdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

const exitWatchpoint = vcpu.ExitWatchpoint

// Server waits for gdb and runs a machine as gdb says. Its methods belong to one goroutine.
type Server struct {
	listener net.Listener
	log      hclog.Logger
	session  session
	links    chan *link
	closed   chan struct{}
	busy     atomic.Bool // somebody is connected

	link *link
	// running says that the guest runs when Run is called; single that it is to execute one instruction; reply that
	// gdb waits for a stop reply.
	running, single, reply bool
	// wanted says that gdb wanted the guest to stop when something else came in between.
	wanted bool
	// dead is an end of the guest that gdb was shown; Run returns it when gdb lets the guest go on.
	dead *machine.Outcome
}

// Listen makes a server at addr: host:port, where host is localhost if it is left out, or unix:SOCKET. QEMU's tcp:: form
// is understood too.
func Listen(addr string, log hclog.Logger) (*Server, error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	l, err := listen(addr)
	if err != nil {
		return nil, fmt.Errorf("gdb: %w", err)
	}
	s := &Server{listener: l, log: log, links: make(chan *link), closed: make(chan struct{})}
	s.session.last = stopped(sigTRAP, "")
	go s.accept()
	return s, nil
}

func listen(addr string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		removeStale(path)
		return net.Listen("unix", path)
	}
	addr = strings.TrimPrefix(addr, "tcp:")
	if !strings.Contains(addr, ":") {
		addr = ":" + addr
	}
	if strings.HasPrefix(addr, ":") {
		addr = "localhost" + addr
	}
	return net.Listen("tcp", addr)
}

// removeStale removes a socket that nobody listens at: what a killed emu leaves behind.
func removeStale(path string) {
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		_ = c.Close() // somebody is there, and Listen will say so
	case errors.Is(err, syscall.ECONNREFUSED):
		_ = os.Remove(path) // if it fails, Listen says so
	}
}

// Addr returns where the server listens, in the form that gdb's "target remote" takes.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Attach gives the server its machine: a first one, or a new one after a reset. Breakpoints stay. symbols may be nil.
func (s *Server) Attach(m *machine.Machine, t *symbols.Table) {
	s.session.symbols = t
	s.session.attach(m)
}

// Close ends the connection and stops listening.
func (s *Server) Close() error {
	close(s.closed)
	s.drop()
	return s.listener.Close()
}

// Exited tells gdb that the guest is gone, with emu's exit code.
func (s *Server) Exited(code int) {
	if s.link != nil {
		s.link.send(fmt.Sprintf("W%02x", code&0xff))
		s.drop()
	}
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				s.log.Error("gdb: no more connections", "error", err)
			}
			return
		}
		if !s.take() {
			s.log.Warn("gdb: refused a second connection", "from", c.RemoteAddr())
			_ = c.Close()
			continue
		}
		select {
		case s.links <- newLink(c):
		case <-s.closed:
			_ = c.Close()
			return
		}
	}
}

// take waits a moment until nobody is connected: a gdb that disconnects and connects again may be faster than the news of
// its end.
func (s *Server) take() bool {
	for range 20 {
		if !s.busy.Swap(true) {
			return true
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-s.closed:
			return false
		}
	}
	return false
}

func (s *Server) connect(l *link) {
	s.log.Debug("gdb: connected", "from", l.conn.RemoteAddr())
	s.link = l
	s.session.connected()
	s.session.send, s.session.noAck = l.send, func() { l.noAck.Store(true) }
}

// drop ends the connection, if there is one.
func (s *Server) drop() {
	if s.link == nil {
		return
	}
	s.link.close()
	s.link, s.reply = nil, false
	s.busy.Store(false)
}

// Run runs the machine as gdb says, until something ends it that is not gdb's business. It may be called again after
// outcomes that leave the guest alive. The guest does not start before gdb says so.
func (s *Server) Run(ctx context.Context, budget uint64) machine.Outcome {
	for {
		if !s.running {
			if o := s.serve(ctx); o != nil {
				return *o
			}
			continue
		}
		if s.dead != nil {
			return *s.dead
		}
		if o := s.execute(ctx, budget); o != nil {
			return *o
		}
	}
}

// serve waits for gdb, or for its next packet, while the guest is stopped.
func (s *Server) serve(ctx context.Context) *machine.Outcome {
	if s.link == nil {
		select {
		case l := <-s.links:
			s.connect(l)
		case <-ctx.Done():
			return &machine.Outcome{Reason: machine.Interrupted}
		}
		return nil
	}
	select {
	case e, ok := <-s.link.events:
		switch {
		case !ok:
			// gdb went away without a word ("disconnect", or it crashed): the guest waits for the next one.
			s.log.Debug("gdb: disconnected; the guest waits")
			s.drop()
		case !e.interrupt:
			return s.packet(e.packet)
		}
	case <-ctx.Done():
		return &machine.Outcome{Reason: machine.Interrupted}
	}
	return nil
}

// packet deals with a packet while the guest is stopped.
func (s *Server) packet(p []byte) *machine.Outcome {
	s.log.Trace("gdb: packet", "data", hclog.Fmt("%q", p))
	reply, act := s.session.handle(p)
	switch act {
	case stay:
		s.link.send(reply)
	case goOn, step:
		s.running, s.single, s.reply = true, act == step, true
		if reply != "" {
			s.running, s.reply = false, false
			s.link.send(reply)
		}
	case detach:
		s.link.send(reply)
		s.session.clear()
		s.drop()
		s.running, s.single = true, false
	case kill:
		if reply != "" {
			s.link.send(reply)
		}
		return &machine.Outcome{Reason: machine.Killed}
	}
	return nil
}

// execute runs the guest until it stops, gdb says something or a new gdb comes.
func (s *Server) execute(ctx context.Context, budget uint64) *machine.Outcome {
	if s.wanted {
		s.wanted = false
		s.halt(machine.Outcome{Reason: machine.Interrupted})
		return nil
	}
	runCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		events <-chan event
		links  <-chan *link
		said   *event // what gdb said meanwhile
		gone   bool
		came   *link
	)
	if s.link != nil {
		events = s.link.events
	} else {
		links = s.links
	}
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case e, ok := <-events:
			said, gone = &e, !ok
		case came = <-links:
		case <-done:
			return
		}
		cancel()
	}()
	m := s.session.m
	var o machine.Outcome
	if s.single {
		o = m.Step(runCtx)
	} else {
		o = m.Run(runCtx, budget)
	}
	close(done)
	<-watched

	switch {
	case came != nil:
		s.connect(came)
	case gone:
		s.log.Debug("gdb: gone; the guest goes on")
		s.session.clear()
		s.drop()
	}
	stop := false
	switch o.Reason {
	case machine.Interrupted:
		if ctx.Err() != nil || came == nil && said == nil {
			return &o // the caller's business
		}
		stop = !gone
	case machine.Breakpoint, machine.Stepped:
		stop = s.link != nil
	case machine.TripleFault, machine.Halted, machine.Idle, machine.Unsupported:
		if s.link == nil {
			return &o
		}
		stop, s.dead = true, &o
		s.session.print(fmt.Sprintf("emu: %v: %s\nThis is the end of the guest; \"continue\" ends emu.\n", o.Reason, o.Detail))
	default:
		// Once the caller has done its part, gdb has its way.
		s.wanted = came != nil || said != nil && !gone
		return &o
	}
	if !stop {
		return nil
	}
	s.halt(o)
	if said != nil && !gone && !said.interrupt {
		return s.packet(said.packet)
	}
	return nil
}

// halt stops the guest and tells gdb why.
func (s *Server) halt(o machine.Outcome) {
	s.running = false
	s.session.last = s.session.stopReply(o)
	if s.reply {
		s.reply = false
		s.link.send(s.session.last)
	}
}
