package tables

import (
	"slices"

	"github.com/hybridbridge/emu/core/policy"
)

// Calls with a path as their argument: what they look up may be in /proc.
var pathCalls = []string{
	"open", "openat", "openat2", "stat", "lstat", "newstat", "newlstat", "stat64", "lstat64", "newfstatat", "fstatat64", "statx",
	"readlink", "readlinkat", "access", "faccessat", "faccessat2", "chdir",
}

// Calls with a descriptor as their first argument.
var fileCalls = []string{
	"read", "pread64", "readv", "preadv", "preadv2", "getdents", "getdents64", "lseek", "llseek", "fstat", "newfstat", "fstat64", "statx", "poll",
}

// Calls on a socket.
var socketCalls = []string{
	"sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "read", "write", "getsockopt", "getsockname", "getpeername", "ioctl", "bind",
	"send", "recv",
}

// lookupScopes look paths up in the snapshot.
var lookupScopes = []string{"accounts", "statfs"}

func scopes() []policy.Scope {
	proc := slices.Concat(processes, cpus, timekeeping, statistics, memory, modules, devices, network, netlink, names, cgroups, sysctl, kernelMisc)
	return []policy.Scope{
		{Name: "procfs", Syscalls: fileCalls, Files: []string{"proc"}, Roots: proc, FreezeClock: true},
		{Name: "procfs-sendfile", Syscalls: []string{"sendfile", "sendfile64"}, Files: []string{"proc"}, FileArgument: 1, Roots: proc, FreezeClock: true},
		{Name: "sysfs", Syscalls: fileCalls, Files: []string{"sysfs"}, Roots: proc, FreezeClock: true},
		{
			// Names of users belong to the machine: these files are read out of the snapshot's page cache.
			Name: "accounts", Syscalls: []string{"openat"}, PathArgument: 1, Paths: []string{"/etc/passwd", "/etc/group"},
			Roots: slices.Concat(proc, mounts),
		},
		{Name: "path", Syscalls: pathCalls, Roots: slices.Concat(processes, timeOfDay, sysctl, printk, network)},
		{Name: "statfs", Syscalls: []string{"statfs", "statfs64"}, Roots: slices.Concat(proc, mounts)},
		{Name: "getpid", Syscalls: []string{"getpid"}, Roots: processes},
		{
			Name: "time", Syscalls: []string{"clock_gettime", "clock_gettime64", "clock_gettime32", "gettimeofday", "time", "time32", "times"},
			Roots: timekeeping, FreezeClock: true,
		},
		{Name: "uname", Syscalls: []string{"uname", "newuname", "olduname", "gethostname"}, Roots: names},
		{Name: "sysinfo", Syscalls: []string{"sysinfo"}, Roots: proc, FreezeClock: true},
		{Name: "kmsg", Syscalls: fileCalls, Files: []string{"chr:1:11"}, Roots: slices.Concat(printk, timekeeping)},
		{Name: "syslog", Syscalls: []string{"syslog"}, Roots: printk},
		{Name: "ipc", Syscalls: []string{"shmctl", "semctl", "msgctl", "old_shmctl", "old_semctl", "old_msgctl", "ipc"}, Roots: names},
		{Name: "netlink", Syscalls: socketCalls, Files: []string{"socket:netlink"}, Roots: slices.Concat(network, timekeeping, cpus), FreezeClock: true},
		{Name: "netdevice", Syscalls: []string{"ioctl"}, Files: []string{"socket:inet", "socket:inet6", "socket:unix", "socket:packet"}, Roots: slices.Concat(network, timekeeping, cpus)},
	}
}
