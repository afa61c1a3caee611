//go:build linux && amd64

package oracle

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// Native runs cases on the host's CPU, in a child process that is nothing but a page of assembly (blob_amd64.s): it
// loads the state of a case from memory that it shares with us, jumps to the case's code, which jumps back, and stores
// the state. A fault becomes a signal, whose handler stores the state that the kernel hands it and goes on with the next case, so
// faults cost microseconds and no tracer is needed. Before the first case the child enters seccomp's strict mode: a
// case that gets out of hand can make no system call but read, write and exit.
type Native struct {
	cmd    *exec.Cmd
	mem    []byte // the shared file
	bell   *os.File
	answer *os.File
	word   [8]byte
	// bases says that the bases of FS and GS can be part of a case (CR4.FSGSBASE).
	bases bool
}

// ErrChild says that a case killed the child or hung it. The child must be started anew.
var ErrChild = errors.New("oracle: the child died")

// system calls and constants of the Linux ABI that the child uses.
const (
	sysMmap        = 9
	sysClose       = 3
	sysSigaction   = 13
	sysSigaltstack = 131
	sysPrctl       = 157
	sysArchPrctl   = 158

	archSetGS = 0x1001
	archSetFS = 0x1002

	saFlags = 0x4 | 0x0400_0000 | 0x0800_0000 | 0x4000_0000 // SA_SIGINFO, SA_RESTORER, SA_ONSTACK, SA_NODEFER
)

// StartNative starts a child. The error says which of the host's permissions is missing.
func StartNative(tmpl *Template) (*Native, error) {
	program, err := childELF()
	if err != nil {
		return nil, err
	}
	n := new(Native)
	shared, err := memfile("cputest", shmSize)
	if err != nil {
		return nil, err
	}
	defer shared.Close()
	if n.mem, err = unix.Mmap(int(shared.Fd()), 0, shmSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("oracle: mmap: %w", err)
	}
	n.SetTemplate(tmpl)
	calls := n.setup()
	exe, err := memfile("cputest-child", 0)
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	if _, err := exe.Write(program); err != nil {
		return nil, err
	}
	bellR, bellW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer bellR.Close()
	answerR, answerW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer answerW.Close()
	n.bell, n.answer = bellW, answerR
	n.cmd = exec.Command(fmt.Sprintf("/proc/self/fd/%d", exe.Fd()))
	n.cmd.ExtraFiles = []*os.File{shared, bellR, answerW}
	if err := n.cmd.Start(); err != nil {
		return nil, fmt.Errorf("oracle: starting the child: %w", err)
	}
	if err := n.wait(); err != nil {
		n.Close()
		return nil, fmt.Errorf("oracle: the child did not start: %w", err)
	}
	for i := range calls {
		r := int64(n.word64(ctlSetup + uint64(i)*56))
		if r < 0 && r > -4096 {
			n.Close()
			return nil, fmt.Errorf("oracle: system call %d of the child's setup: %w", i, unix.Errno(-r))
		}
	}
	if err := n.findBases(); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// SetTemplate chooses what memory holds before a case's patches.
func (n *Native) SetTemplate(t *Template) {
	copy(n.mem[shmShared+shTemplate-sharedBase:], t.data[:])
	copy(n.mem[shmData+dataSize:], t.ro[:])
}

func memfile(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("oracle: memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, fmt.Errorf("oracle: sizing shared memory: %w", err)
	}
	return f, nil
}

// findBases finds out whether user code may execute RDFSBASE, by trying.
func (n *Native) findBases() error {
	c := &Case{Addr: slots[0].addr, Code: []byte{0xf3, 0x48, 0x0f, 0xae, 0xc0}} // RDFSBASE RAX
	c.Code = appendEnd(c.Code, c.Addr)
	c.In.RIP, c.In.RFLAGS = c.Addr, 2
	n.Load(0, c)
	if _, err := n.Run(0, 1); err != nil {
		return err
	}
	var out Outcome
	n.Outcome(0, &out)
	n.bases = out.Vector == NoFault && out.GPR[0] == defaultFS
	if n.bases {
		n.mem[ctlBases-ctlBase] = 1
	}
	return nil
}

// setup writes the system calls that the child makes before it serves, and returns their number.
func (n *Native) setup() int {
	le := binary.LittleEndian
	p := n.mem
	calls := 0
	call := func(args ...uint64) {
		var all [7]uint64
		copy(all[:], args)
		for _, v := range all {
			le.PutUint64(p, v)
			p = p[8:]
		}
		calls++
	}
	const (
		fd    = 3
		flags = unix.MAP_SHARED | unix.MAP_FIXED_NOREPLACE | unix.MAP_POPULATE
		r     = unix.PROT_READ
		rw    = unix.PROT_READ | unix.PROT_WRITE
		rx    = unix.PROT_READ | unix.PROT_EXEC
	)
	for g := range uint64(codeGroups) {
		call(sysMmap, codeBase+g*groupSize, 2*pageSize, rx, flags, fd, shmCode+g*2*pageSize)
	}
	call(sysMmap, sharedBase, sharedSize, rw, flags, fd, shmShared)
	for _, base := range []uint64{dataBase, highBase} {
		call(sysMmap, base, dataSize, rw, flags, fd, shmData)
		call(sysMmap, base+dataSize, roSize, r, flags, fd, shmData+dataSize)
	}
	const stackAt, actionAt = shAux, shAux + 0x40
	aux := n.mem[shmShared+shAux-sharedBase:]
	le.PutUint64(aux, shAltStack)
	le.PutUint64(aux[16:], shStack-shAltStack)
	call(sysSigaltstack, stackAt, 0)
	le.PutUint64(aux[0x40:], signalAddress)
	le.PutUint64(aux[0x48:], saFlags)
	le.PutUint64(aux[0x50:], signalAddress)
	for _, s := range []unix.Signal{unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV} {
		call(sysSigaction, uint64(s), actionAt, 0, 8)
	}
	call(sysArchPrctl, archSetFS, defaultFS)
	call(sysArchPrctl, archSetGS, defaultGS)
	call(sysClose, fd)
	call(sysPrctl, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_STRICT)
	le.PutUint64(p, ^uint64(0))
	if 56*calls+8 > ctlWord-ctlSetup {
		panic("oracle: too many system calls in the setup")
	}
	return calls
}

func (n *Native) word64(la uint64) uint64 { return binary.LittleEndian.Uint64(n.mem[la-ctlBase:]) }

// wait waits for the child's answer.
func (n *Native) wait() error {
	if err := n.answer.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	_, err := n.answer.Read(n.word[:])
	return err
}

// Close ends the child.
func (n *Native) Close() {
	n.bell.Close()
	n.answer.Close()
	if n.cmd.Process != nil {
		_ = n.cmd.Process.Kill() // it has no state to lose
		_ = n.cmd.Wait()         // its exit status says that we killed it
	}
	if n.mem != nil {
		_ = unix.Munmap(n.mem)
		n.mem = nil
	}
}

// record returns the memory of record i.
func (n *Native) record(i int) []byte {
	return n.mem[shmShared+shRecords-sharedBase+i*recordSize:][:recordSize:recordSize]
}

// popOrder is the order in which the child's program loads the general registers.
var popOrder = [16]uint8{0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 4}

// Load puts a case into record i.
func (n *Native) Load(i int, c *Case) {
	le := binary.LittleEndian
	copy(n.mem[shmCode+codeOffset(c.Addr):], c.Code)
	r := n.record(i)
	s := &c.In
	le.PutUint64(r[recFlags:], s.RFLAGS)
	for k, reg := range popOrder {
		le.PutUint64(r[recFlags+8+8*k:], s.GPR[reg])
	}
	le.PutUint64(r[recTarget:], s.RIP)
	le.PutUint64(r[recFS:], s.FSBase)
	le.PutUint64(r[recGS:], s.GSBase)
	copy(r[recFX:], s.FX[:])
	le.PutUint64(r[recPatches:], uint64(len(c.Patches)))
	p := r[recPatch:recOutFlags]
	for _, patch := range c.Patches {
		le.PutUint64(p, patch.Addr)
		le.PutUint64(p[8:], uint64(len(patch.Data)))
		copy(p[16:], patch.Data)
		p = p[16+(len(patch.Data)+7)&^7:]
	}
}

// code returns the memory of all slots.
func (n *Native) code() []byte { return n.mem[shmCode:shmData] }

// Run executes the cases in records first to end-1. After ErrChild, the returned number is that of the case that did
// it; those before it are done.
func (n *Native) Run(first, end int) (int, error) {
	le := binary.LittleEndian
	le.PutUint64(n.mem[ctlCurrent-ctlBase:], shRecords+uint64(first)*recordSize)
	le.PutUint64(n.mem[ctlEnd-ctlBase:], shRecords+uint64(end)*recordSize)
	_, err := n.bell.Write(n.word[:])
	if err == nil {
		err = n.wait()
	}
	if err != nil {
		at := int(n.word64(ctlCurrent)-shRecords) / recordSize
		return at, fmt.Errorf("%w (%w)", ErrChild, err)
	}
	return end, nil
}

// Signals and trap numbers are the kernel's: the trap number of the signal context is the exception's vector.
const (
	contextErr    = 19
	contextTrapno = 20
	contextCR2    = 22
)

// contextOrder gives the place of the general registers in the signal context.
var contextOrder = [16]uint8{13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7}

// Outcome reads what happened to the case in record i. Data stays valid until the next Run.
func (n *Native) Outcome(i int, out *Outcome) {
	le := binary.LittleEndian
	r := n.record(i)
	*out = Outcome{Data: r[recData : recData+dataSize]}
	s := &out.State
	copy(s.FX[:], r[recOutFX:])
	s.FSBase, s.GSBase = defaultFS, defaultGS
	if n.bases {
		s.FSBase, s.GSBase = le.Uint64(r[recOutFS:]), le.Uint64(r[recOutGS:])
	}
	if le.Uint64(r[recSignal:]) == 0 {
		out.Vector = NoFault
		for k, reg := range popOrder {
			s.GPR[reg] = le.Uint64(r[recOutFlags+8+8*k:])
		}
		s.RFLAGS, s.RIP = le.Uint64(r[recOutFlags:]), endAddress
		return
	}
	word := func(k int) uint64 { return le.Uint64(r[recContext+8*k:]) }
	for reg, k := range contextOrder {
		s.GPR[reg] = word(int(k))
	}
	s.RIP, s.RFLAGS = word(16), word(17)
	out.Vector = int(word(contextTrapno))
	out.Code = uint32(word(contextErr))
	if out.Vector == vectorPF {
		out.Address = word(contextCR2)
	}
}
