package tables

import (
	"slices"

	"github.com/hybridbridge/emu/core/policy"
)

// Calls with a path as their argument: what they look up may be in /proc.
var pathCalls = []string{
	"open", "openat", "openat2", "stat", "lstat", "newstat", "newlstat", "stat64", "lstat64", "newfstatat", "fstatat64", "statx",
	"readlink", "readlinkat", "access", "faccessat", "faccessat2", "chdir", "getxattr", "lgetxattr", "listxattr", "llistxattr",
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

// Calls that say what is at a path: their first argument, or their second, after a directory.
var (
	statCalls = []string{
		"stat", "lstat", "newstat", "newlstat", "stat64", "lstat64", "readlink", "access", "statfs", "statfs64",
		"getxattr", "lgetxattr", "listxattr", "llistxattr",
	}
	statAtCalls = []string{"newfstatat", "fstatat64", "statx", "readlinkat", "faccessat", "faccessat2", "name_to_handle_at"}
)

// machine are the paths of which the snapshot is asked what is there: all but those that the tool's own work needs, and /proc, of
// which it has an instance of its own.
var machine = []string{"/*", "/usr/lib*", "!/bin*", "!/etc*", "!/proc*", "!/root*", "!/sbin*", "!/tmp*", "!/usr/bin*", "!/usr/sbin*", "!/usr/local*", "!/usr/share*"}

// ownProcess are the paths of the tool's own process, which the snapshot does not have: lsof and ps look themselves up.
var ownProcess = []string{"/proc/" + policy.OwnPID + "/*"}

// opened are the paths that are opened in the snapshot. Names of users belong to the machine: these files are read out of the
// snapshot's page cache.
var opened = []string{"/etc/passwd", "/etc/group", "/sys", "/sys/*", "/dev/loop*"}

// lookupScopes look paths up in the snapshot.
var lookupScopes = []string{"open", "stat", "statat"}

func scopes() []policy.Scope {
	proc := slices.Concat(processes, cpus, timekeeping, statistics, memory, modules, devices, network, netlink, names, cgroups, sysctl, kernelMisc, mitigations)
	lookup := slices.Concat(proc, mounts)
	return []policy.Scope{
		{Name: "procfs", Syscalls: fileCalls, Files: []string{"proc"}, Roots: proc, FreezeClock: true},
		{Name: "procfs-sendfile", Syscalls: []string{"sendfile", "sendfile64"}, Files: []string{"proc"}, FileArgument: 1, Roots: proc, FreezeClock: true},
		{Name: "sysfs", Syscalls: fileCalls, Files: []string{"sysfs"}, Roots: proc, FreezeClock: true},
		{Name: "file", Syscalls: slices.Concat(fileCalls, []string{"close", "ioctl", "open_by_handle_at"}), Files: []string{"snapshot"}, Roots: lookup, FreezeClock: true},
		{Name: "own", Syscalls: pathCalls, Paths: ownProcess, Roots: timeOfDay},
		{Name: "ownfile", Syscalls: fileCalls, Files: []string{"proc:own"}, Roots: timeOfDay},
		{Name: "ownat", Syscalls: pathCalls, PathArgument: 1, Paths: ownProcess, Roots: timeOfDay},
		{Name: "open", Syscalls: []string{"openat"}, PathArgument: 1, Paths: opened, Roots: lookup},
		{Name: "stat", Syscalls: statCalls, Paths: machine, Roots: lookup},
		{Name: "statat", Syscalls: statAtCalls, PathArgument: 1, Paths: machine, Roots: lookup},
		{Name: "path", Syscalls: pathCalls, Roots: slices.Concat(processes, timeOfDay, sysctl, printk, network)},
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
