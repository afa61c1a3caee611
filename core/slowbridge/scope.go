package slowbridge

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/cpu"
	"github.com/hybridbridge/emu/cpu/isa"
)

// entry is the way into the kernel: what a system call's number and arguments are.
type entry struct {
	calls []string // names by number
	// Offsets in struct pt_regs of the arguments and the number.
	args   []uint64
	number uint64
}

// files finds what a descriptor is.
type files struct {
	task, tgid                        uint64
	files, fdt, maxFDs, fd            uint64
	nodeShift, nodeSlots              uint64 // of the tree of process numbers
	inode, super, fsType, fsName      uint64
	mode, device                      uint64
	procInode, procPID                uint64
	socketInode, socketSock, skFamily uint64
}

var entryFunctions = []string{"do_syscall_64", "do_int80_syscall_32", "do_fast_syscall_32", "__do_fast_syscall_32"}

// socketCalls are what socketcall(2) is on i386, by its first argument; the second is the array of the call's own
// (include/uapi/linux/net.h).
var socketCalls = [...]string{
	1: "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv", "sendto", "recvfrom",
	"shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
}

// readCalls reads the names of the system calls from the kernel's own table.
func (b *Bridge) readCalls() error {
	table := "sys_call_table"
	if b.types.word == 4 {
		if _, ok := b.symbols.Find("ia32_sys_call_table"); ok {
			table = "ia32_sys_call_table"
		}
	}
	at, ok := b.symbols.Address(table)
	if !ok {
		return fmt.Errorf("the trusted kernel has no %s", table)
	}
	for n := range uint64(600) {
		f, ok := b.localWord(at + n*b.types.word)
		if !ok {
			break
		}
		sym, off, ok := b.symbols.Lookup(f)
		if !ok || off != 0 {
			break
		}
		name := sym.Name
		for _, prefix := range []string{"__x64_sys_", "__ia32_sys_", "__ia32_compat_sys_", "__do_sys_", "__se_sys_", "__x32_compat_sys_", "sys_"} {
			if s, ok := strings.CutPrefix(name, prefix); ok {
				name = s
				break
			}
		}
		b.entry.calls = append(b.entry.calls, name)
	}
	if len(b.entry.calls) < 100 {
		return fmt.Errorf("%s of the trusted kernel has only %d system calls", table, len(b.entry.calls))
	}
	return nil
}

// findFields looks up the members that syscall and file need.
func (b *Bridge) findFields() error {
	var err error
	get := func(structure, path string) uint64 {
		off, e := b.types.offset(structure, path)
		if e != nil && err == nil {
			err = e
		}
		return off
	}
	f := &b.files
	f.tgid = get("task_struct", "tgid")
	_, _ = b.types.parse(processNumbers) // what is asked by now, the image remembers; hasPID does without
	f.nodeShift = get("xa_node", "shift")
	f.nodeSlots = get("xa_node", "slots")
	f.files = get("task_struct", "files")
	f.fdt = get("files_struct", "fdt")
	f.maxFDs = get("fdtable", "max_fds")
	f.fd = get("fdtable", "fd")
	f.inode = get("file", "f_inode")
	f.super = get("inode", "i_sb")
	f.mode = get("inode", "i_mode")
	f.device = get("inode", "i_rdev")
	f.fsType = get("super_block", "s_type")
	f.fsName = get("file_system_type", "name")
	f.procInode = get("proc_inode", "vfs_inode")
	f.procPID = get("proc_inode", "pid")
	f.socketInode = get("socket_alloc", "vfs_inode")
	f.socketSock = get("socket_alloc", "socket.sk")
	f.skFamily = get("sock", "__sk_common.skc_family")
	registers := []string{"di", "si", "dx", "r10", "r8", "r9"}
	if b.types.word == 4 {
		registers = []string{"bx", "cx", "dx", "si", "di", "bp"}
	}
	for _, r := range registers {
		b.entry.args = append(b.entry.args, get("pt_regs", r))
	}
	b.entry.number = get("pt_regs", "orig_ax")
	if s, ok := b.symbols.Find("current_task"); ok {
		f.task = s.Address
	} else if s, ok := b.symbols.Find("pcpu_hot"); ok {
		f.task = s.Address + get("pcpu_hot", "current_task")
	} else if err == nil {
		err = fmt.Errorf("the trusted kernel has neither current_task nor pcpu_hot")
	}
	return err
}

// enter begins the scope of the system call at whose entry the CPU has stopped.
func (b *Bridge) enter() {
	c := b.machine.CPU()
	s := c.State()
	regs, nr := s.GPR[isa.RDI], s.GPR[isa.RSI]&0xffffffff
	if b.types.word == 4 {
		regs = s.GPR[isa.RAX]
		nr, _ = b.localWord(regs + b.entry.number)
	}
	sc, _ := b.Choose(regs, nr)
	c.EnterScope(sc)
}

// Choose returns the scope of system call nr with the registers at regs (struct pt_regs), and how it is called.
func (b *Bridge) Choose(regs, nr uint64) (cpu.Scope, metadata.ScopeID) {
	name := fmt.Sprintf("%d", nr)
	if nr < uint64(len(b.entry.calls)) {
		name = b.entry.calls[nr]
	}
	argument := func(i int) (v uint64) {
		if i < len(b.entry.args) {
			v, _ = b.localWord(regs + b.entry.args[i])
		}
		return v
	}
	if name == "socketcall" {
		if call := argument(0); call < uint64(len(socketCalls)) && call > 0 {
			array := argument(1)
			name, argument = socketCalls[call], func(i int) uint64 {
				v, _ := b.localWord(array + uint64(i)*b.types.word)
				return v
			}
		}
	}
	scope := b.choose(name, argument)
	key := scopeKey{syscall: name}
	if scope != nil {
		key.scope = scope.Name
	}
	sc, ok := b.scopes[key]
	if !ok {
		id := len(b.scopes)
		if scope == nil {
			sc = cpu.Scope{ID: id}
		} else {
			sc = b.scope(id, scope)
		}
		b.scopes[key] = sc
		b.scopeIDs = append(b.scopeIDs, metadata.ScopeID{Name: key.scope, Syscall: key.syscall})
	}
	if b.trace != nil {
		b.trace(name, key.scope)
	}
	return sc, b.scopeIDs[sc.ID]
}

// Syscalls returns the numbers of the system calls that have a scope, or whose Meta-Data says that they touch the snapshot.
func (b *Bridge) Syscalls(touches func(metadata.ScopeID) bool) []int {
	var out []int
	for n, name := range b.entry.calls {
		if touches(metadata.ScopeID{Syscall: name}) || slices.ContainsFunc(b.policy.Scopes, func(s policy.Scope) bool {
			return slices.Contains(s.Syscalls, name)
		}) {
			out = append(out, n)
		}
	}
	return out
}

// choose finds the scope of a system call with these arguments, nil if there is none.
func (b *Bridge) choose(name string, argument func(int) uint64) *policy.Scope {
	for i := range b.policy.Scopes {
		s := &b.policy.Scopes[i]
		switch {
		case !slices.Contains(s.Syscalls, name),
			len(s.Files) > 0 && !slices.Contains(s.Files, b.fileKind(argument(s.FileArgument)&0xffffffff)),
			len(s.Paths) > 0 && !s.ForPath(b.pathArgument(argument(s.PathArgument))):
			continue
		}
		return s
	}
	return nil
}

// pathArgument reads a path that the tool gives. In /proc, policy.OwnPID takes the place of the tool's own number, unless that is the
// number of a process of the snapshot too.
func (b *Bridge) pathArgument(la uint64) string {
	path := b.text(la)
	rest, ok := strings.CutPrefix(path, "/proc/")
	number, rest, _ := strings.Cut(rest, "/")
	pid, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil {
		return path
	}
	if own, ok := reader(b.localRead).number(b.current()+b.files.tgid, 4); !ok || own != pid || b.hasPID(pid) {
		return path
	}
	return "/proc/" + policy.OwnPID + "/" + rest
}

// processNumbers is the root of the tree of process numbers in the first namespace, an XArray.
const processNumbers = "init_pid_ns:pid_namespace.idr.idr_rt.xa_head"

// hasPID reports whether the snapshot has a process or thread of a number, or cannot say.
func (b *Bridge) hasPID(pid uint64) bool {
	entry, err := b.evaluate(processNumbers)
	if err != nil {
		return true
	}
	for depth := 0; entry&3 == 2; depth++ { // a node of an XArray
		node := entry - 2
		shift, ok1 := reader(b.space.read).number(node+b.files.nodeShift, 1)
		next, ok2 := b.word(node + b.files.nodeSlots + pid>>shift*b.types.word)
		if !ok1 || !ok2 || depth > 10 {
			return true
		}
		if pid>>shift >= 64 {
			return false
		}
		entry, pid = next, pid&(1<<shift-1)
	}
	return entry != 0 && pid == 0
}

// current is the address of the current process's task_struct, or 0.
func (b *Bridge) current() uint64 {
	task, _ := b.localWord((b.guest.PerCPUBase() + b.files.task) & (1<<(8*b.types.word) - 1)) // it wraps around on i386
	return task
}

// text reads a string of the trusted VM, of at most 255 bytes.
func (b *Bridge) text(la uint64) string {
	var p [255]byte
	text, _, _ := strings.Cut(string(p[:b.guest.ReadLinear(la, p[:])]), "\x00")
	return text
}

// open is an open file of the current process.
type open struct {
	inode    uint64
	snapshot bool   // the inode or its filesystem is the snapshot's, and nothing else is known
	mode     uint64 // its type: S_IFMT
	fsType   uint64 // struct file_system_type
	own      bool   // it belongs to a process of the trusted VM, if the filesystem is proc
}

// Types of inodes (include/uapi/linux/stat.h).
const (
	modeType      = 0xf000
	modeCharacter = 0x2000
	modeSocket    = 0xc000
)

// descriptor finds the file of a descriptor of the current process.
func (b *Bridge) descriptor(fd uint64) (o open, ok bool) {
	f := &b.files
	var at uint64
	ok = true
	follow := func(la uint64) uint64 {
		v, good := b.localWord(la)
		ok = ok && good && v != 0
		return v
	}
	at = follow(b.current() + f.files)
	at = follow(at + f.fdt)
	limit, _ := b.localWord(at + f.maxFDs)
	if !ok || fd >= limit&0xffffffff {
		return o, false
	}
	at = follow(at + f.fd)
	file := follow(at + fd*b.types.word)
	o.snapshot = b.guest.FromSnapshot(file + f.inode)
	o.inode = follow(file + f.inode)
	// The trusted kernel makes inodes on a filesystem of the snapshot, for names that it does not find in the name cache.
	o.snapshot = o.snapshot || ok && b.guest.FromSnapshot(o.inode+f.super)
	if o.snapshot || !ok {
		return o, ok
	}
	mode, _ := b.localWord(o.inode + f.mode)
	o.mode = mode & modeType
	o.fsType = follow(follow(o.inode+f.super) + f.fsType)
	if pid := o.inode - f.procInode + f.procPID; !b.guest.FromSnapshot(pid) {
		p, _ := b.localWord(pid)
		o.own = p != 0
	}
	return o, ok
}

// fileKind returns the filesystem type of a descriptor of the current process, "chr:MAJOR:MINOR" for a character device,
// "socket:FAMILY" for a socket, "proc:own" for a file of a process of the trusted VM, "snapshot" for what was opened there, or "".
func (b *Bridge) fileKind(fd uint64) string {
	o, ok := b.descriptor(fd)
	switch {
	case !ok:
		return ""
	case o.snapshot:
		return "snapshot"
	case o.mode == modeCharacter:
		dev, _ := b.localWord(o.inode + b.files.device)
		return fmt.Sprintf("chr:%d:%d", dev&0xffffffff>>20, dev&0xfffff)
	}
	name, _ := b.localWord(o.fsType + b.files.fsName)
	fs := b.text(name)
	if fs == "proc" && o.own {
		return "proc:own"
	}
	if fs != "sockfs" {
		return fs
	}
	sock, _ := b.localWord(o.inode - b.files.socketInode + b.files.socketSock)
	family, _ := reader(b.localRead).number(sock+b.files.skFamily, 2)
	return "socket:" + familyName(family)
}

// FileFields are where a 64-bit kernel has what most kinds of files are known by: offsets in bytes.
type FileFields struct {
	Argument          uint64 // of a system call, the first, in struct pt_regs
	Task              uint64 // the current one, among per-CPU variables
	Files, FDT        uint64 // in struct task_struct, files_struct
	MaxFDs, FD        uint64 // in struct fdtable
	Inode             uint64 // in struct file
	Mode, Super, Type uint64 // in struct inode, and in its super_block
	ProcPID           uint64 // of a proc_inode, from its inode on
	TGID              uint64 // in struct task_struct
}

// FileFields returns them.
func (b *Bridge) FileFields() FileFields {
	f := &b.files
	return FileFields{
		Argument: b.entry.args[0], Task: f.task, Files: f.files, FDT: f.fdt, MaxFDs: f.maxFDs, FD: f.fd, Inode: f.inode,
		Mode: f.mode, Super: f.super, Type: f.fsType, ProcPID: f.procPID - f.procInode, TGID: f.tgid,
	}
}

// OnFile reports whether the scope of a system call hangs on the kind of the file of its first argument, and on nothing else.
func (b *Bridge) OnFile(nr int) bool {
	if nr >= len(b.entry.calls) || b.trace != nil {
		return false
	}
	for _, s := range b.policy.Scopes {
		if slices.Contains(s.Syscalls, b.entry.calls[nr]) && (len(s.Paths) > 0 || len(s.Files) > 0 && s.FileArgument != 0) {
			return false
		}
	}
	return true
}

// PathRule is a scope that a system call has if a path is one of some: see policy.Scope.
type PathRule struct {
	Scope    string
	Argument uint64   // where it is in struct pt_regs
	Paths    []string // policy.Scope.Paths; none for any path
}

// OnPath returns the scopes that a system call can have, of which the first counts whose paths have its argument; ok is false if they hang on anything
// else.
func (b *Bridge) OnPath(nr int) (rules []PathRule, ok bool) {
	if nr >= len(b.entry.calls) || b.trace != nil || b.entry.calls[nr] == "socketcall" {
		return nil, false
	}
	for _, s := range b.policy.Scopes {
		if !slices.Contains(s.Syscalls, b.entry.calls[nr]) {
			continue
		}
		if len(s.Files) > 0 || s.PathArgument >= len(b.entry.args) {
			return nil, false
		}
		rules = append(rules, PathRule{s.Name, b.entry.args[s.PathArgument], s.Paths})
		if len(s.Paths) == 0 {
			break
		}
	}
	return rules, true
}

// FileType returns what alone the kind of the file of a system call's first argument hangs on: that its inode is the snapshot's, or its
// struct file_system_type, and whether that is proc's. ok is false where more has to be looked at.
func (b *Bridge) FileType(regs uint64) (snapshot bool, fsType uint64, proc, ok bool) {
	fd, _ := b.localWord(regs + b.entry.args[0])
	o, ok := b.descriptor(fd & 0xffffffff)
	if !ok || o.snapshot {
		return o.snapshot, 0, false, ok
	}
	name, _ := b.localWord(o.fsType + b.files.fsName)
	proc = b.text(name) == "proc"
	return false, o.fsType, proc, o.mode != modeCharacter && o.mode != modeSocket && !(proc && o.own)
}

// familyName returns the name of an address family (include/linux/socket.h).
func familyName(n uint64) string {
	switch n {
	case 1:
		return "unix"
	case 2:
		return "inet"
	case 10:
		return "inet6"
	case 16:
		return "netlink"
	case 17:
		return "packet"
	}
	return fmt.Sprintf("%d", n)
}
