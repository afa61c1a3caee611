package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hybridbridge/emu/core/disasm"
	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/symbols"
	"github.com/hybridbridge/emu/cpu/vcpu"
)

type disasmOptions struct {
	file, snapshot, kernel string
	address, base, syntax  string
	count, bits            int
}

func newDisasmCommand() *cobra.Command {
	var o disasmOptions
	cmd := &cobra.Command{
		Use:   "disasm FILE | --snapshot FILE",
		Short: "Print the instructions of a kernel, an ELF file, a flat binary or a snapshot",
		Long: `Disasm prints instructions with their symbols.

FILE is a kernel image (the kernel inside it is unpacked), an ELF file or a flat binary. In a snapshot, addresses are
linear ones of the address space that was in use, and the symbols are those of the kernel that runs in it.

An address is a number, or a symbol with or without a distance: start_kernel+0x10.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("emu disasm takes one file")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.file = args[0]
			}
			return disassemble(&o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.snapshot, "snapshot", "", "look into this snapshot")
	f.StringVar(&o.kernel, "kernel", "", "with --snapshot: take symbols from this kernel image, not from the guest's memory")
	f.StringVar(&o.address, "address", "", "where to begin (default: the entry point, or the snapshot's RIP)")
	f.IntVar(&o.count, "count", 20, "number of instructions; 0: all")
	f.IntVar(&o.bits, "bits", 0, "16, 32 or 64 (default: what the file or snapshot says; 64 for a flat binary)")
	f.StringVar(&o.syntax, "syntax", string(disasm.GNU), "gnu or intel")
	f.StringVar(&o.base, "base", "0", "where a flat binary lies")
	return cmd
}

func (o *disasmOptions) check() error {
	switch {
	case o.file == "" && o.snapshot == "":
		return usageError("emu disasm needs a FILE or --snapshot FILE")
	case o.file != "" && o.snapshot != "":
		return usageError("a FILE and --snapshot exclude each other")
	case o.kernel != "" && o.snapshot == "":
		return usageError("--kernel needs --snapshot")
	case o.syntax != string(disasm.GNU) && o.syntax != string(disasm.Intel):
		return usageError("--syntax %s: gnu and intel are known", o.syntax)
	case o.bits != 0 && o.bits != 16 && o.bits != 32 && o.bits != 64:
		return usageError("--bits %d: 16, 32 and 64 are known", o.bits)
	case o.count < 0:
		return usageError("--count %d is negative", o.count)
	}
	return nil
}

func disassemble(o *disasmOptions) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	base, err := strconv.ParseUint(o.base, 0, 64)
	if err != nil {
		return usageError("--base %s is not a number", o.base)
	}
	var (
		memory disasm.Memory
		start  uint64
		bits   int
		table  *symbols.Table
	)
	if o.snapshot != "" {
		i, err := machine.Inspect(o.snapshot)
		if err != nil {
			return err
		}
		defer i.Close()
		var kernel []byte
		if o.kernel != "" {
			if kernel, err = os.ReadFile(o.kernel); err != nil {
				return err
			}
		}
		s := i.State()
		memory, table = i, i.Symbols(kernel)
		if kernel != nil && table == nil {
			return fmt.Errorf("%s: no symbols found", o.kernel)
		}
		start, bits = codeAddress(&s)
	} else {
		b, err := os.ReadFile(o.file)
		if err != nil {
			return err
		}
		im, err := disasm.OpenImage(b, base)
		if err != nil {
			return fmt.Errorf("%s: %w", o.file, err)
		}
		memory, table, start, bits = im, im.Symbols, im.Entry, im.Bits
	}
	if o.address != "" {
		if start, err = disasm.Address(o.address, table); err != nil {
			return fmt.Errorf("--address: %w", err)
		}
	}
	if o.bits != 0 {
		bits = o.bits
	}
	if bits == 0 {
		bits = 64
	}
	w := bufio.NewWriter(os.Stdout)
	defer func() { err = errors.Join(err, w.Flush()) }()
	return disasm.Print(w, memory, start, disasm.Options{
		Bits: bits, Syntax: disasm.Syntax(o.syntax), Count: o.count, Symbols: table,
	})
}

// codeAddress returns the linear address of the next instruction and the width of the code there.
func codeAddress(s *vcpu.State) (addr uint64, bits int) {
	cs := s.Seg[1]
	switch {
	case s.MSR.EFER&(1<<10) != 0 && cs.Attr&vcpu.AttrL != 0:
		return s.RIP, 64
	case cs.Attr&vcpu.AttrDB != 0:
		return (cs.Base + s.RIP) & 0xffffffff, 32
	}
	return (cs.Base + s.RIP) & 0xffffffff, 16
}
