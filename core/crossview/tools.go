package crossview

import (
	"regexp"
	"strings"
)

// SpecFor is the spec of a tool of testdata/untrusted/commands; the zero one if it needs none.
func SpecFor(tool string) Spec { return specs[tool] }

// OwnNames are the names that the processes of a command have: its programs', and the shell's if it takes one.
func OwnNames(command string) []string {
	var names []string
	if NeedsShell(command) {
		names = append(names, "sh", "bash")
	}
	for part := range strings.SplitSeq(command, "|") {
		if f := strings.Fields(part); len(f) > 0 {
			names = append(names, f[0])
		}
	}
	return names
}

// NeedsShell says that a command is more than words.
func NeedsShell(command string) bool { return strings.ContainsAny(command, "|&;<>()$`\\\"'*?[]{}~#") }

func re(s string) *regexp.Regexp { return regexp.MustCompile(s) }

func drift(rel, abs float64, why string, fields ...int) Rule {
	return Rule{Rel: rel, Abs: abs, Fields: fields, Why: why}
}

func ignored(why string, fields ...int) Rule { return Rule{Fields: fields, Ignore: true, Why: why} }

// in limits a rule to lines.
func in(lines string, r Rule) Rule {
	r.Lines = re(lines)
	return r
}

// ofHarness limits a rule to PID 1.
func ofHarness(r Rule) Rule {
	r.PID = harness
	return r
}

const (
	share    = "a share of the time since boot or start: it rises and falls"
	average  = "an average that rises and falls"
	gauge    = "what is in use rises and falls, and the tool itself uses some"
	moment   = "computed from the clock at this very moment: one off now and then"
	counted  = "the tool and its shell are counted inside"
	pointer  = "a pointer, hashed with a key of this boot"
	placed   = "a thread runs where the scheduler puts it"
	interval = "there is no interval to measure over when time stands still"
	awaiting = "the harness waits for a tool in the truths and for its console in the snapshot"
	asleep   = "a kernel thread waits where it did when the snapshot was taken, which can be elsewhere than in both truths"
	above    = "the time, which the header has too; of a line that one truth lacks there is no interval"
	made     = "the time when procfs made the entry, which is when somebody looked"
)

var (
	procPath = re(`/proc/(\d+)/`)
	sockets  = Spec{Rules: []Rule{ignored(pointer, 11)}}
	packets  = Spec{Rules: []Rule{ignored(pointer, 0)}}
	perPID   = Spec{PID: procPath, Anonymous: true}
	listing  = Spec{PID: procPath, Anonymous: true, Rules: []Rule{in(`^[l-]`, drift(0, 2, made, 7))}}
	rates    = drift(0.4, 1.5, share)
)

var specs = map[string]Spec{
	"uptime": {Rules: []Rule{drift(0.25, 0.2, average, -1, -2, -3)}},
	"w":      {Rules: []Rule{in(`load average`, drift(0.25, 0.2, average, -1, -2, -3))}},
	"ps-aux": {PID: re(`^\S+ (\d+) `), Rules: []Rule{
		drift(0.3, 1, share, 2, 3), ofHarness(drift(0, 64, awaiting, 5)), ofHarness(ignored(awaiting, 7)), drift(0, 1, moment, 8),
	}},
	"ps-ef": {PID: re(`^\S+ (\d+) `), Rules: []Rule{drift(0.3, 1.5, share, 3), drift(0, 1, moment, 4)}},
	"ps-threads": {PID: re(`^(\d+) `), Key: re(`^\d+ (\d+) `), Rules: []Rule{
		ofHarness(ignored(awaiting, 6, 12)), ignored(placed, 11), in(`^\d+ \d+ \d+ 2 `, ignored(asleep, 12)),
	}},
	"ps-long": {PID: re(`^(\d+) `), Rules: []Rule{drift(0, 1, moment, 22), ofHarness(drift(0, 64, awaiting, 12, 13)), ofHarness(ignored(awaiting, 18))}},
	// The tool's own process, the last child, decides how the branch above it is drawn.
	"pstree": {PID: re(`,(\d+)`), Rewrite: strings.NewReplacer("`-", "-", "|", "")},
	// A share of 100.0 leaves no blank before it.
	"top": {PID: re(`^(\d+) `), AnyOrder: true, Rewrite: strings.NewReplacer(",", ", "), Rules: []Rule{
		in(`^top - `, drift(0.25, 0.2, average, -1, -2, -3)), in(`^Tasks:`, drift(0, 3, counted)),
		in(`^%Cpu`, drift(0, 100, interval)), in(`^MiB Mem`, drift(0.02, 1, gauge, 5, 7, 9)), in(`^MiB Swap`, drift(0.02, 1, gauge, 8)),
		in(`^\d+ \S+ `, ignored(interval, 8)), in(`^\d+ \S+ `, drift(0, 0.2, gauge, 9)),
		ofHarness(drift(0, 64, awaiting, 5, 6)), ofHarness(ignored(awaiting, 7)),
	}},
	"pidstat": {PID: re(`^[\d:*]+ \d+ (\d+) `), Rules: []Rule{
		in(`^[\d:*]+ \d+ \d+ `, drift(0.4, 1.5, share, 3, 4, 5, 6, 7)), ignored(placed, 8), in(`^[\d:*]+ \d+ \d+ `, ignored(above, 0)),
	}},
	"pidstat-rd": {PID: re(`^[\d:*]+ \d+ (\d+) `), Rules: []Rule{
		in(`^[\d:*]+ \d+ \d+ `, drift(0.3, 1.5, share, 3, 4, 7)), in(`^[\d:*]+ \d+ \d+ `, ignored(above, 0)),
	}},
	"free":   {Rules: []Rule{in(`^Mem:`, drift(0.02, 512, gauge, 2, 3, 4, 5, 6))}},
	"free-b": {Rules: []Rule{in(`^Mem:`, drift(0.02, 512<<10, gauge, 2, 3, 4, 5, 6))}},
	"vmstat": {Rules: []Rule{
		drift(0, 3, counted, 0, 1), drift(0.02, 512, gauge, 3, 4, 5), drift(0.4, 5, share, 8, 9, 10, 11, 12, 13, 14, 15),
	}},
	"vmstat-s": {Rules: []Rule{
		in(` K (used|active|inactive|free|buffer) memory$| K swap cache$`, drift(0.02, 512, gauge, 0)), in(` boot time$`, drift(0, 1, moment, 0)),
	}},
	"vmstat-m": {Key: re(`^(\S+) `), Rules: []Rule{in(` \d+$`, drift(0.15, 128, gauge, 1, 2))}},
	"slabtop": {Key: re(`^\d+ \d+ \S+ [\d.]+K .* (\S+)$`), AnyOrder: true, Rules: []Rule{
		in(`^(Active|Minimum) `, drift(0.15, 1, gauge)), in(`^\d+ \d+ `, ignored(gauge, 2)),
		in(`^\d+ \d+ `, drift(0.15, 128, gauge, 0, 1, 4)), in(`^\d+ \d+ `, drift(0.15, 1024, gauge, 6)),
	}},
	"proc-slabinfo": {Key: re(`^(\S+) `), Rules: []Rule{in(`: slabdata `, drift(0.15, 128, gauge, 1, 2, 13, 14))}},
	"iostat":        {Key: re(`^([a-z]+\d*) `), Rules: []Rule{in(`^(\d|[a-z]+\d* )`, rates)}},
	"mpstat":        {Rules: []Rule{in(`^[\d:]+ (all|\d+) `, drift(0.4, 3, share, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11))}},
	"lsof": {
		PID:       re(`^.*? (\d+) (?:\d+ \S+ )?[a-z0-9-]+ (?:cwd|rtd|txt|mem|DEL|NOFD|\d+[a-zA-Z-]*)(?: |$)`),
		Elsewhere: true,
	},
	"ip-neigh": {Rules: []Rule{in(` (REACHABLE|STALE|DELAY|PROBE)$`, ignored("an entry ages", -1))}},
	"lsns":     {Rules: []Rule{in(`^\d+ [a-z]+ `, drift(0, 3, counted, 2))}},
	"lslocks":  {PID: re(`^\S+ (\d+) `)},
	"ss-s":     {Rules: []Rule{in(`^Total:`, drift(0, 3, counted))}},
	"df":       {Rules: []Rule{in(`^(rootfs|tmpfs|dev) `, drift(0, 512, gauge, 2, 3)), in(`^(rootfs|tmpfs) `, drift(0, 1, gauge, 4))}},
	"sysctl": {Rules: []Rule{
		in(`^fs\.(dentry-state|inode-nr|inode-state|file-nr) `, drift(0.2, 256, gauge)),
		in(`^kernel\.random\.uuid `, ignored("another at every look", 2)),
		in(`^kernel\.random\.entropy_avail `, drift(0, 256, gauge)),
	}},
	"proc-list": {Split: true, PID: re(`^(\d+)$`), Anonymous: true},
	// Counted from the end, because a name may have blanks in it.
	"proc-stat-all": {PID: re(`^(\d+) \(`), Rules: []Rule{
		ignored(placed, -14), ofHarness(ignored(awaiting, 2, -18, -19, -20, -21)), ofHarness(drift(0, 16, awaiting, -29)),
	}},
	"proc-status-all": {Record: re(`^Name:`), PID: re(`^Pid: (\d+)$`), Key: re(`^(\w+):`), Rules: []Rule{
		{PID: harness, Lines: re(`^(Vm|Rss)`), Abs: 64, Why: awaiting},
		{PID: harness, Lines: re(`^Sig`), Fields: []int{1}, Ignore: true, Why: awaiting},
		{PID: harness, Lines: re(`^State`), Fields: []int{1, 2}, Ignore: true, Why: awaiting},
	}},
	"proc-cmdline-all": {PID: re(`^/proc/(\d+) `)},
	// What bash says about a process that is gone, and the environments of the others, come on ways of their own. Of a kernel thread, which has
	// none, it prints that of the process before, which may be the tool's own.
	"proc-environ-all": {PID: re(`^/proc/(\d+) `), Anonymous: true, AnyOrder: true, Carried: true},
	"proc-fd-all": {
		Record: re(`^/proc/\d+/fd:`), PID: procPath, Anonymous: true, Elsewhere: true,
		Rules: []Rule{in(`^l`, drift(0, 2, made, 7))},
	},
	"proc-fdinfo-all": {PID: procPath, Anonymous: true, Elsewhere: true, OwnFailure: true},
	"proc-ns-all": {
		Record: re(`^/proc/\d+/ns:`), PID: re(`^/proc/(\d+)/ns:|^ls: .*/proc/(\d+)/`), Anonymous: true,
		Rules: []Rule{in(`^l`, drift(0, 2, made, 7))},
	},
	"proc-links-all":    listing,
	"proc-cgroup-all":   perPID,
	"proc-maps-named":   perPID,
	"proc-io-named":     perPID,
	"proc-limits-named": perPID,
	"proc-sched-named": {PID: procPath, Anonymous: true, Rules: []Rule{
		in(`sched:clock-delta `, ignored("how long two readings of the clock take", 2)), in(`sched:se\.avg\.`, drift(0.5, 512, average)),
	}},
	"proc-loadavg": {Rules: []Rule{drift(0.25, 0.2, average, 0, 1, 2), drift(0, 3, counted, 3)}},
	"proc-stat":    {Key: re(`^(\w+) `), Rules: []Rule{in(`^procs_`, drift(0, 3, counted)), in(`^btime`, drift(0, 1, moment))}},
	"proc-meminfo": {Key: re(`^(\S+) `), Rules: []Rule{
		in(`^(MemFree|MemAvailable|Buffers|Cached|Active|Inactive|Active\(\w+\)|Inactive\(\w+\)|AnonPages|Mapped|Shmem|KReclaimable|Slab|`+
			`SReclaimable|SUnreclaim|KernelStack|PageTables|VmallocUsed|Percpu|Committed_AS|Dirty|Writeback):`, drift(0.02, 512, gauge)),
	}},
	"proc-vmstat":   {Key: re(`^(\S+) `), Rules: []Rule{in(`^nr_`, drift(0.02, 256, gauge))}},
	"proc-zoneinfo": {Rules: []Rule{in(`^(nr_|pages free |count: )`, drift(0.02, 256, gauge))}},
	"proc-buddyinfo": {Rules: []Rule{
		in(`^Node `, drift(0.2, 32, gauge, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)),
	}},
	// Timers change places in their queue, and processors; what they do stays.
	"proc-timer_list": {AnyOrder: true, Record: re(`^\s*([^#\s]|#\d|$)`), PID: re(`^\S+ \S+ (\w+), S:`), Rules: []Rule{
		in(`^\.base:`, ignored(pointer, 1)), in(`^#\d+: `, ignored(pointer, 0, 1)),
		in(`^# expires at `, drift(0, 1e10, moment, 3)), in(`^# expires at `, ignored(moment, 6, 8)),
		in(`^\.(expires_next|next_event|idle_expires|next_timer|timer_expires)`, drift(0, 1e10, moment)),
		in(`^\.(tick_stopped|idle_active|nohz_mode|inidle|do_timer_last) `, ignored(awaiting, 2)),
	}},
	"proc-net-tcp":     sockets,
	"proc-net-tcp6":    sockets,
	"proc-net-udp":     sockets,
	"proc-net-udp6":    sockets,
	"proc-net-raw":     sockets,
	"proc-net-unix":    packets,
	"proc-net-packet":  packets,
	"proc-net-netlink": packets,
}
