package machine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/hybridbridge/emu/core/boot/tiny"
)

// relay copies bytes between serial ports: from COM2 to COM3 and from COM3 to COM4, until it reads one that is 0.
func relay() tiny.Code {
	in := func(port uint16) tiny.Code { return tiny.Code{0x66, 0xba, byte(port), byte(port >> 8), 0xec} } // mov dx,port; in al,dx
	code := append(append(tiny.Out(0x2fc, 2), tiny.Out(0x3ec, 2)...), tiny.Out(0x3fc, 2)...)
	start := len(code)
	for _, p := range [][2]uint16{{0x2f8, 0x3e8}, {0x3e8, 0x2e8}} {
		code = append(code, in(p[0]+5)...)
		code = append(code, 0xa8, 1, 0x74, 15) // test al,1; jz over the copy
		code = append(code, in(p[0])...)
		code = append(code, 0x84, 0xc0, 0x74, 0) // test al,al; jz to the end, patched below
		code = append(code, 0x66, 0xba, byte(p[1]), byte(p[1]>>8), 0xee, 0x90)
	}
	for i := start; i < len(code); i++ {
		if code[i] == 0x84 && code[i+1] == 0xc0 {
			code[i+3] = byte(len(code) + 2 - (i + 4))
		}
	}
	code = append(code, 0xeb, 0)
	code[len(code)-1] = byte(start - len(code))
	return append(code, tiny.Exit...)
}

func TestSerialPorts(t *testing.T) {
	var out [3]bytes.Buffer
	outs := []io.Writer{&out[0], &out[1], &out[2]}
	m := start(t, Config{DebugExit: true, Serial: outs}, relay())
	m.InputTo(1, []byte("to the third"))
	m.InputTo(2, []byte("to the fourth"))
	m.Run(context.Background(), 20_000)
	if out[0].String() != "" || out[1].String() != "to the third" || out[2].String() != "to the fourth" {
		t.Fatalf("%q %q %q", out[0].String(), out[1].String(), out[2].String())
	}
	path := filepath.Join(t.TempDir(), "s")
	if err := m.SavePlain(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, Config{Serial: make([]io.Writer, 4)}); !errors.Is(err, ErrSnapshot) {
		t.Errorf("four ports for a machine that has three: %v", err)
	}
	// What is given counts; the other ports are there and discard.
	var again bytes.Buffer
	l, err := Load(path, Config{Serial: []io.Writer{nil, &again}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.InputTo(1, []byte("loaded\x00"))
	l.InputTo(2, []byte("is discarded"))
	if o := l.Run(context.Background(), 60_000); o.Reason != DebugExit || again.String() != "loaded" {
		t.Errorf("%v, %q", o.Reason, again.String())
	}
}

func TestSerialPortsThatAreNotThere(t *testing.T) {
	m := start(t, Config{DebugExit: true}, relay())
	m.InputTo(1, []byte("lost"))
	// A port that is not there reads as ones: the copy reads 0xff and goes on.
	if o := m.Run(context.Background(), 5_000); o.Reason != Budget {
		t.Errorf("%v", o.Reason)
	}
	if _, err := New(Config{MemorySize: 4 << 20, Kernel: tiny.Image(tiny.Spin), Serial: make([]io.Writer, 4)}); !errors.Is(err, ErrConfig) {
		t.Errorf("five ports: %v", err)
	}
}

// TestPlain goes on from a snapshot whose memory is mapped: the file stays as it is.
func TestPlain(t *testing.T) {
	code := append(tiny.Store(0x200000, 1), tiny.Idle...)
	m := start(t, Config{DebugExit: true}, append(tiny.Store(0x300000, 7), code...))
	if o := m.RunToIdle(context.Background(), 10_000); o.Reason != Idle {
		t.Fatalf("%v", o.Reason)
	}
	path := filepath.Join(t.TempDir(), "s")
	if err := m.SavePlain(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l, err := Load(path, Config{})
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4)
		for _, pa := range []uint64{0x200000, 0x300000, 0x380000} {
			want := make([]byte, 4)
			if !m.Memory().ReadAt(want, pa) || !l.Memory().ReadAt(p, pa) || !bytes.Equal(p, want) {
				t.Errorf("at %#x: % x, want % x", pa, p, want)
			}
		}
		if !l.Memory().WriteAt([]byte("changed"), 0x200000) || !l.Memory().WriteAt([]byte("changed"), 0x380000) {
			t.Error("memory cannot be written")
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
