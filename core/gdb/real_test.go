package gdb

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hybridbridge/emu/core/boot"
	"github.com/hybridbridge/emu/core/internal/guests"
	"github.com/hybridbridge/emu/core/machine"
	"github.com/hybridbridge/emu/core/symbols"
)

// guest is a Debian kernel to debug.
type guest struct {
	kernel  []byte
	vmlinux string // the unpacked kernel, in a file for gdb
	symbols *symbols.Table
}

// openGuest finds what the test needs, or skips it and says what is missing.
func openGuest(t *testing.T, name string) *guest {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a kernel, which takes seconds: not with -short")
	}
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip("gdb is not installed (make setup installs it)")
	}
	kernel := guests.Read(t, name)
	image, err := boot.Parse(kernel)
	if err != nil {
		t.Fatal(err)
	}
	b, err := image.Unpack()
	if err != nil {
		t.Fatal(err)
	}
	if image.Bits == 32 {
		kernel = b // it would take long to unpack itself
	}
	g := &guest{kernel: kernel, vmlinux: filepath.Join(t.TempDir(), "vmlinux")}
	if err := os.WriteFile(g.vmlinux, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if g.symbols, err = symbols.FromKernel(b); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *guest) address(t *testing.T, name string) uint64 {
	t.Helper()
	a, ok := g.symbols.Address(name)
	if !ok {
		t.Fatalf("the kernel has no symbol %s", name)
	}
	return a
}

// debug boots the guest under gdb, which executes the script, and returns what gdb printed. @NAME in the script is the
// address of a symbol, @gdb the server's, @vmlinux the kernel's file.
func (g *guest) debug(t *testing.T, script string) string {
	t.Helper()
	m, err := machine.New(machine.Config{MemorySize: 256 << 20, Kernel: g.kernel, CommandLine: "nokaslr"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, err := Listen(":0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Attach(m, g.symbols)

	script = regexp.MustCompile(`@\w+`).ReplaceAllStringFunc(script, func(name string) string {
		switch name = name[1:]; name {
		case "gdb":
			return s.Addr()
		case "vmlinux":
			return g.vmlinux
		}
		return fmt.Sprintf("%#x", g.address(t, name))
	})
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("set pagination off\nset confirm off\nset tcp connect-timeout 60\n"+script), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	out := make(chan []byte, 1)
	go func() {
		b, err := exec.CommandContext(ctx, "gdb", "-nx", "-batch", "-x", path).CombinedOutput()
		out <- append(b, fmt.Sprintf("\ngdb: %v", err)...)
		cancel()
	}()
	o := s.Run(ctx, 0)
	b := string(<-out)
	if o.Reason != machine.Interrupted {
		t.Errorf("%v %s", o.Reason, o.Detail)
	}
	// By now a 64-bit kernel can be found in memory, with the symbols that its image has.
	if found := m.KernelSymbols(); m.CPU().State().MSR.LSTAR != 0 {
		if found == nil {
			t.Fatal("no symbols in the guest's memory")
		}
		if got, _ := found.Address("start_kernel"); got != g.address(t, "start_kernel") {
			t.Errorf("start_kernel is found at %#x", got)
		}
	}
	return b
}

// inOrder checks that the patterns match in this order.
func inOrder(t *testing.T, text string, patterns ...string) {
	t.Helper()
	rest := text
	for _, p := range patterns {
		at := regexp.MustCompile(p).FindStringIndex(rest)
		if at == nil {
			t.Errorf("gdb did not print %q here:\n%s\n--- all:\n%s", p, rest, text)
			return
		}
		rest = rest[at[1]:]
	}
}

func TestRealGDB64(t *testing.T) {
	g := openGuest(t, "cloud-6.1")
	start := g.address(t, "start_kernel")
	out := g.debug(t, `
file @vmlinux
target remote @gdb
echo ==first\n
printf "efer %x\n", $efer
stepi
stepi
break *@start_kernel
continue
echo ==start_kernel\n
printf "pc %lx\n", $pc
info registers
p $xmm0
p $st0
x/2i $pc
x/s @linux_banner
x/2xg $rsp
stepi
echo ==stepped\n
printf "pc %lx\n", $pc
backtrace 2
delete
echo ==watch\n
watch *(unsigned long *)@jiffies
continue
continue
backtrace 3
delete
rwatch *(unsigned long *)@jiffies
continue
delete
echo ==temporary\n
tbreak *@do_one_initcall
continue
printf "pc %lx\n", $pc
set var $saved = $rax
set var $rax = 0x1122334455667788
printf "rax %lx\n", $rax
set var $rax = $saved
set var *(unsigned char *)@jiffies = 5
monitor regs
info threads
disconnect
echo ==again\n
target remote @gdb
printf "pc %lx\n", $pc
detach
echo ==end\n
`)
	inOrder(t, out,
		`==first\n`, `efer 500\n`,
		`Breakpoint 1, 0x0*`+fmt.Sprintf("%x", start),
		`==start_kernel\n`, fmt.Sprintf(`pc %x\n`, start),
		`rip +0x`+fmt.Sprintf("%x", start), `eflags +0x`, `fs_base`, `gs_base`, `k_gs_base`, `cr0 +0x800500\d\d +\[ PE`, `cr4 .*PAE`, `efer .*LMA`,
		`v4_float`, `\$\d+ = `,
		`=> 0x`+fmt.Sprintf("%x", start), `Linux version 6\.1`, `0xffffffff8`,
		`==stepped\n`, `pc ffffffff8`, `#0 +0x0*ffffffff8`, `#1`,
		`==watch\n`, `Hardware watchpoint`, `Old value`, `New value`, `Old value`, `New value`, `#0 `, `#1 `,
		`Hardware read watchpoint`, `Value =`,
		`==temporary\n`, `Temporary breakpoint`, fmt.Sprintf(`pc %x\n`, g.address(t, "do_one_initcall")),
		`rax 1122334455667788`, `RIP ffffffff[0-9a-f]+ do_one_initcall\+0x0`, `CPU 0 \[running\]`,
		`==again\n`, fmt.Sprintf(`pc %x\n`, g.address(t, "do_one_initcall")), `==end`, `gdb: <nil>`)
	if strings.Contains(out, "Ignoring packet error") || strings.Contains(out, "Cannot") {
		t.Errorf("gdb complains:\n%s", out)
	}
}

// The 32-bit kernel's symbols are of code only, so the watchpoint is on the stack.
func TestRealGDB32(t *testing.T) {
	g := openGuest(t, "686-pae")
	start := g.address(t, "start_kernel")
	out := g.debug(t, `
file @vmlinux
target remote @gdb
break *@start_kernel
continue
info registers
stepi
printf "pc %x\n", $pc
x/4i @start_kernel
watch -location *(unsigned *)($esp - 128)
continue
backtrace 2
detach
`)
	inOrder(t, out, fmt.Sprintf(`Breakpoint 1, 0x%x`, start), `eip +0x`+fmt.Sprintf("%x", start), `gs_base`, `cr0 .* PE`, `cr3`,
		`pc c`, `call`, `Hardware watchpoint`, `Old value`, `New value`, `#0 `, `gdb: <nil>`)
}
