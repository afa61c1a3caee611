package policy

import "strings"

// Policy is what a kernel policy says about one kernel. All names are symbols of that kernel; a name ending in '*' stands
// for all symbols that begin so. A name that the kernel does not have is no error: kernels differ.
type Policy struct {
	Scopes []Scope
	// Local are functions whose subtrees (the function and all that it calls) stay local: allocators, the dcache,
	// scheduling, RCU, page faults, the console.
	Local []string
	// Elided are calls that are not made when their argument points into the snapshot: drops of references, frees, waits.
	Elided []Elision
	// Locks are functions that take a lock; one in the snapshot is set free before, since its holder will never run.
	Locks []Lock
	// Substitutes let some functions see something else of the snapshot in place of what is local.
	Substitutes []Substitute
	// Clocks are what a frozen time-stamp counter is taken from, the first that is there: the clock's last reading.
	Clocks []Field
	// Budget is the number of instructions after which a run ends with an error; 0 leaves it to emu.
	Budget uint64
}

// OwnPID stands in Scope.Paths for the number of the tool's own process in /proc.
const OwnPID = "$PID"

// Scope is a set of system calls in which kernel globals are redirected. A call belongs to the first scope that matches;
// a call that matches none has no roots, but what is tainted is redirected there too.
type Scope struct {
	// Name is unique, such as "procfs".
	Name string
	// Syscalls are names without prefix, such as "read".
	Syscalls []string
	// Files restricts the scope to calls whose first argument is a descriptor of one of these: the name of a filesystem
	// type ("proc", "sysfs", "cgroup2"), "chr:MAJOR:MINOR" for a character device, "socket:FAMILY" ("socket:netlink",
	// "socket:inet"), "proc:own" for what procfs has of the tool's processes, or "snapshot" for what was opened in the snapshot. Empty: any arguments.
	Files []string
	// FileArgument is the number of the argument that Files is about, from 0.
	FileArgument int
	// Paths restricts the scope to calls of which one argument is one of these paths, as the tool writes them. A path that
	// ends in '*' stands for all that begin so, and one after '!' is taken away again. OwnPID stands in them. Empty: any.
	Paths []string
	// PathArgument is the number of the argument that Paths is about, from 0.
	PathArgument int
	// Roots are the globals that are redirected.
	Roots []Root
	// FreezeClock says that the time-stamp counter reads as it did in the snapshot.
	FreezeClock bool
}

// ForPath reports whether Paths has a path.
func (s *Scope) ForPath(path string) bool {
	has := len(s.Paths) == 0
	for _, p := range s.Paths {
		p, not := strings.CutPrefix(p, "!")
		prefix, tree := strings.CutSuffix(p, "*")
		if path == p || tree && strings.HasPrefix(path, prefix) {
			if not {
				return false
			}
			has = true
		}
	}
	return has
}

// Root is a kernel global, or a part of one, that is redirected. Where the kernel has the value of a global in its code (runtime
// constants), it is redirected there too.
type Root struct {
	Symbol string
	// Offset and Size are in bytes; Size 0 means up to the next symbol.
	Offset, Size uint64
	// PerCPU says that the symbol is a per-CPU variable: the trusted processor's copy becomes the snapshot's of its first
	// processor. Copies of other processors are reached through __per_cpu_offset.
	PerCPU bool
}

// Elision is a call that is not made if one of its arguments points into the snapshot.
type Elision struct {
	Function string
	// Argument is 0 to 5, by the calling convention.
	Argument int
	// Always elides whatever the argument.
	Always bool
	// Once elides the first call with each value of the argument, whatever it is: what the argument points to may be from
	// before the run.
	Once bool
	// Clock says that the caller sees the frozen clock (Policy.Clocks) instead of Return.
	Clock bool
	// Return is what the caller sees in the result register.
	Return uint64
}

// Lock is a function that takes a lock, to which an argument points.
type Lock struct {
	Function string
	Argument int
	// Size is how many bytes at the lock are zero when it is free, at Offset.
	Offset, Size uint64
}

// Substitute makes a load of a local value yield one of the snapshot.
type Substitute struct {
	// Functions in which it holds, not what they call; empty means all.
	Functions []string
	// Scopes in which it holds; empty means all.
	Scopes []string
	// Local is the local pointer that is loaded, which no other pointer leads to; of a per-CPU variable if PerCPU.
	Local  Field
	PerCPU bool
	// Snapshot is where the snapshot's value is found.
	Snapshot Field
}

// Field names a pointer-sized value: a global with an offset in bytes and with its type where these are needed, then
// members, and members of what a pointer leads to. Types and members are the kernel's own (BTF):
//
//	init_task
//	init_pid_ns:pid_namespace.child_reaper
//	init_task:task_struct.nsproxy->mnt_ns
//	tk_core+8:timekeeper.tkr_mono.cycle_last
type Field string

// Kernel is what a kernel policy is told about the kernel it is for.
type Kernel struct {
	Banner  string // the "Linux version ..." line
	Release string // as uname -r prints it
	Bits    int    // 64 or 32
}
