package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/term"

	"github.com/hybridbridge/emu/core/machine"
)

// serial is the host's end of the guest's first serial port.
type serial struct {
	in          io.Reader // nil if there is no input
	out         io.Writer
	interactive bool // a person or a program may type at any time
	terminal    bool
	restore     func()
	once        sync.Once
	// failed is told the first error of the output, unless lenient: the other end of a socket may go away.
	failed  func(error)
	lenient bool
	broken  bool
}

// openSerial opens what --serial names. A terminal is put into raw mode until Close.
func openSerial(what string) (*serial, error) {
	kind, path, _ := strings.Cut(what, ":")
	switch kind {
	case "stdio":
		s := &serial{in: os.Stdin, out: os.Stdout, restore: func() {}}
		fd := int(os.Stdin.Fd())
		if term.IsTerminal(fd) {
			old, err := term.MakeRaw(fd)
			if err != nil {
				return nil, fmt.Errorf("put the terminal into raw mode: %w", err)
			}
			s.interactive, s.terminal = true, true
			s.restore = func() { _ = term.Restore(fd, old) }
		} else if st, err := os.Stdin.Stat(); err == nil && st.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
			s.interactive = true // until its end, see start
		}
		return s, nil
	case "none":
		return &serial{out: io.Discard, restore: func() {}}, nil
	case "file":
		f, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		return &serial{out: f, restore: func() { f.Close() }}, nil
	case "unix":
		c, err := net.Dial("unix", path)
		if err != nil {
			return nil, err
		}
		return &serial{in: c, out: c, interactive: true, lenient: true, restore: func() { c.Close() }}, nil
	}
	return nil, usageError("--serial %s: stdio, file:FILE, unix:SOCKET and none are known", what)
}

// Write implements io.Writer.
func (s *serial) Write(p []byte) (int, error) {
	if s.broken {
		return len(p), nil
	}
	n, err := s.out.Write(p)
	if err != nil {
		s.broken = true
		if s.failed != nil && !s.lenient {
			s.failed(err)
		}
	}
	return n, err
}

// Close restores the terminal or closes the file; it may be called again.
func (s *serial) Close() { s.once.Do(s.restore) }

// start hands input to k until there is none left.
func (s *serial) start(k *keys) {
	if s.in == nil {
		return
	}
	k.escapes = s.terminal
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := s.in.Read(buf)
			if n > 0 {
				k.typed(buf[:n])
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					k.say("input: " + err.Error())
				}
				k.m.EndInput()
				return
			}
		}
	}()
}

// keys passes typed bytes to the guest and acts on Ctrl-A sequences.
type keys struct {
	m       *machine.Machine
	quit    func()
	escapes bool // Ctrl-A is a command
	prefix  bool
	save    atomic.Bool
}

func newKeys(m *machine.Machine, quit func()) *keys { return &keys{m: m, quit: quit} }

const keysHelp = "Ctrl-A x quit, Ctrl-A s save a snapshot, Ctrl-A h this help, Ctrl-A Ctrl-A send Ctrl-A"

func (k *keys) say(text string) { fmt.Fprintf(os.Stderr, "\r\nemu: %s\r\n", text) }

func (k *keys) typed(p []byte) {
	if !k.escapes {
		k.m.Input(p)
		return
	}
	var out []byte
	for _, b := range p {
		switch {
		case !k.prefix && b == 1:
			k.prefix = true
			continue
		case !k.prefix || b == 1:
			out = append(out, b)
		case b == 'x':
			k.quit()
		case b == 's':
			k.save.Store(true)
			k.m.Interrupt()
		case b == 'h', b == '?':
			k.say(keysHelp)
		}
		k.prefix = false
	}
	if len(out) > 0 {
		k.m.Input(out)
	}
}

// takeSave reports whether a snapshot was asked for since the last call.
func (k *keys) takeSave() bool { return k.save.Swap(false) }
