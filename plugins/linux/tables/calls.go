package tables

import (
	"fmt"
	"slices"

	"github.com/hybridbridge/emu/core/policy"
)

// local are functions whose subtrees stay local: they keep house for the trusted kernel.
var local = []string{
	// Allocators.
	"__kmalloc*", "kmalloc*", "kmem_cache_alloc*", "kmem_cache_free*", "kfree", "kvfree", "kvmalloc_node", "__alloc_pages*", "alloc_pages*",
	"__get_free_pages", "get_zeroed_page*", "free_pages*", "__free_pages*", "__free_page*", "free_unref_page*", "__vmalloc*", "vmalloc",
	"vzalloc", "vfree*", "pcpu_alloc", "mod_memcg*", "__mod_memcg*", "__mod_lruvec*",
	// Scheduling, RCU, timers and work.
	"schedule", "__schedule", "preempt_schedule*", "__cond_resched", "schedule_timeout*", "wake_up*", "__wake_up*", "try_to_wake_up",
	"call_rcu*", "kfree_call_rcu", "kvfree_call_rcu", "__rcu_read_unlock", "rcu_note_context_switch", "queue_work_on", "__queue_work",
	"do_softirq*", "__do_softirq", "irq_exit_rcu", "mod_timer", "add_timer", "hrtimer_*", "task_work_add", "task_mm_cid_work",
	// What a process does for itself on its way back to user space.
	"mem_cgroup_handle_over_high", "blkcg_maybe_throttle_current", "__blkcg_punt_bio_submit", "__rseq_handle_notify_resume", "switch_fpu_return",
	"arch_do_signal_or_restart", "uprobe_notify_resume", "signal_wake_up_state",
	// Page faults, randomness, the console, the audit log.
	"handle_mm_fault", "get_random_*", "printk", "_printk", "vprintk*", "audit_*",
}

// releases give up something: not what is the snapshot's.
var releases = slices.Concat(
	elide("kfree", "kvfree", "vfree", "iput", "dput", "mntput", "fput", "__fput", "put_pid", "free_uid", "module_put", "call_rcu", "pde_put",
		"__put_task_struct", "mmput", "__mmput", "__mmdrop"),
	[]policy.Elision{{Function: "kmem_cache_free", Argument: 1}},
)

// touches enter a page of the snapshot into lists of the trusted kernel.
var touches = elide("mark_page_accessed", "folio_mark_accessed", "folio_activate", "lru_cache_add", "folio_add_lru", "__folio_put", "__put_page",
	"set_page_dirty", "set_page_dirty_lock", "folio_mark_dirty")

// waits wake or wait for somebody who is in the snapshot and will never run, or would change it.
var waits = slices.Concat(
	elide("wake_up_process", "__wake_up", "rcuwait_wake_up", "rwsem_wake", "complete", "complete_all", "update_rq_clock"),
	[]policy.Elision{
		{Function: "schedule_on_each_cpu", Always: true},
		{Function: "handle_mm_fault", Return: 2}, // VM_FAULT_SIGBUS: the page is not in the snapshot
		// -EIO: what a file has on its disk cannot be read, only what is in memory.
		{Function: "filemap_add_folio", Return: ^uint64(4)},
		{Function: "filemap_read_folio", Argument: 2, Return: ^uint64(4)},
	},
)

// stale makes the kernel look up again what it remembers of files whose lookup is redirected.
var stale = []policy.Elision{{Function: "proc_sys_revalidate", Once: true}, {Function: "pid_revalidate", Once: true}}

// clocksources are the read functions of struct clocksource: that of the snapshot reads as it last did there.
var clocksources = func() []policy.Elision {
	e := elide("read_tsc", "read_hpet", "acpi_pm_read", "acpi_pm_read_slow", "acpi_pm_read_verified", "kvm_clock_get_cycles",
		"xen_clocksource_get_cycles", "read_hv_clock_tsc_cs", "read_hv_clock_msr_cs", "jiffies_read", "pit_read")
	for i := range e {
		e[i].Clock = true
	}
	return e
}()

// clocks is where the clock source's last reading is. The timekeeper follows a sequence count of 4 bytes, and numbers of 8 bytes
// are aligned to 4 on i386.
func clocks(bits int) []policy.Field {
	return []policy.Field{policy.Field(fmt.Sprintf("tk_core+%d:timekeeper.tkr_mono.cycle_last", bits/8))}
}

// locks are set free before they are taken: their holder is in the snapshot and will never run. All have what says that
// they are held at their beginning.
func locks(bits int) []policy.Lock {
	word := uint64(bits / 8)
	var l []policy.Lock
	add := func(size uint64, names ...string) {
		for _, n := range names {
			l = append(l, policy.Lock{Function: n, Size: size})
		}
	}
	add(4, "_raw_spin_lock*", "_raw_spin_trylock*", "native_queued_spin_lock_slowpath", "queued_spin_lock_slowpath")
	add(8, "_raw_read_lock*", "_raw_write_lock*", "queued_read_lock_slowpath", "queued_write_lock_slowpath")
	add(word, "mutex_lock*", "mutex_trylock", "__mutex_lock*", "down_read*", "down_write*", "rwsem_down_*")
	return l
}

// self are functions that look at the current process to find a namespace or /proc/self. The snapshot's first process takes
// its place in them.
var self = []string{
	"proc_self_get_link", "proc_thread_self_get_link", "mounts_open_common", "get_proc_task_net", "sysvipc_proc_open",
	"__do_sys_newuname", "__x64_sys_newuname", "__ia32_sys_newuname", "__do_sys_uname", "__x64_sys_uname",
	"ksys_shmctl*", "ksys_semctl*", "ksys_msgctl*", "__x64_sys_shmctl", "__x64_sys_semctl", "__x64_sys_msgctl",
	"__ia32_sys_shmctl", "__ia32_sys_semctl", "__ia32_sys_msgctl",
}

// lookups are functions that begin to look up a path at the current process's root or working directory.
var lookups = []string{"set_root", "path_init"}

var substitutes = slices.Concat(firstProcess(lookups, lookupScopes), firstProcess(self, nil))

// firstProcess puts the snapshot's first process in the place of the current one, which is a per-CPU variable of its own or,
// from 6.2 to 6.14, a member of pcpu_hot.
func firstProcess(functions, scopes []string) []policy.Substitute {
	var out []policy.Substitute
	for _, current := range []policy.Field{"current_task", "pcpu_hot:pcpu_hot.current_task"} {
		out = append(out, policy.Substitute{
			Functions: functions, Scopes: scopes, Local: current, PerCPU: true, Snapshot: "init_pid_ns:pid_namespace.child_reaper",
		})
	}
	return out
}
