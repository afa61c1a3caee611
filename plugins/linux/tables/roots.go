package tables

// Processes: the root of all process numbers, the first task, and what walks of their page tables ask.
var processes = roots("init_pid_ns", "init_task", "highest_memmap_pfn", "max_pfn", "max_mapnr", "high_memory", "zero_pfn")

// Processors. Copies of per-CPU variables are reached by __per_cpu_offset, so which processors there are must come from
// the same machine.
var cpus = roots("__per_cpu_offset", "__cpu_possible_mask", "__cpu_online_mask", "__cpu_present_mask", "__cpu_active_mask",
	"nr_cpu_ids", "__num_online_cpus", "node_to_cpumask_map")

// The time of day at the last tick, which new inodes of /proc get.
var timeOfDay = roots("tk_core")

// Time. The clock source itself is frozen, see clocksources.
var timekeeping = roots("tk_core", "timekeeping_suspended", "jiffies", "jiffies_64", "offsets",
	"tick_broadcast_device", "tick_broadcast_mask", "tick_broadcast_oneshot_mask", "hrtimer_resolution", "tick_next_period")

// What /proc/stat, loadavg, interrupts and vmstat count.
var statistics = roots("avenrun", "nr_threads", "total_forks", "irq_desc_tree", "sparse_irqs", "allocated_irqs", "nr_irqs", "irq_err_count", "irq_mis_count")

// Memory: meminfo, vmstat, zoneinfo, slabinfo, swaps.
var memory = roots("_totalram_pages", "_totalhigh_pages", "vm_zone_stat", "vm_node_stat", "vm_numa_event", "node_data", "contig_page_data",
	"totalreserve_pages", "vm_committed_as", "nr_swap_pages", "total_swap_pages", "swap_info", "nr_swapfiles", "hstates",
	"hugetlb_max_hstate", "nr_vmalloc_pages", "direct_pages_count", "blockdev_superblock", "slab_caches", "totalcma_pages",
	"pcpu_nr_populated", "pcpu_nr_units", "pcpu_unit_pages", "node_states", "nr_node_ids", "max_swapfiles", "swap_active_head",
	"swapper_spaces", "mem_section", "sysctl_overcommit_memory", "sysctl_overcommit_ratio", "sysctl_overcommit_kbytes",
	"direct_gbpages", "default_hstate_idx", "nr_memmap_pages", "nr_memmap_boot_pages")

// Mounted filesystems and the names that are known in them, for paths that are looked up in the snapshot.
var mounts = roots("dentry_hashtable", "d_hash_shift", "mount_hashtable", "m_hash_mask", "m_hash_shift", "mountpoint_hashtable",
	"inode_hashtable", "i_hash_shift", "i_hash_mask")

var modules = roots("modules")

// Devices and filesystems.
var devices = roots("file_systems", "chrdevs", "major_names", "iomem_resource", "ioport_resource", "block_class", "class_kset", "bdi_list")

// The network hangs off init_net and a few tables of its own.
var network = roots("init_net", "net_namespace_list", "tcp_hashinfo", "udp_table", "udplite_table", "raw_v4_hashinfo", "raw_v6_hashinfo",
	"ping_table", "neigh_tables", "arp_tbl", "nd_tbl", "tcp_orphan_count", "tcp_sockets_allocated", "tcp_memory_allocated", "udp_memory_allocated")

// Netlink sockets. The tools use netlink themselves, so this is for procfs alone.
var netlink = roots("nl_table")

// Names: the host's and those of IPC objects.
var names = roots("init_uts_ns", "init_ipc_ns")

var cgroups = roots("cgroup_roots", "cgrp_dfl_root", "init_css_set", "css_set_table", "cgroup_subsys", "cgrp_dfl_visible", "init_cgroup_ns")

// sysctl is the tree of /proc/sys: its tables point to the variables.
var sysctl = roots("sysctl_table_root", "init_user_ns", "max_threads")

var kernelMisc = roots("saved_command_line", "linux_banner", "boot_cpu_data", "cpu_info", "file_lock_list", "key_user_tree", "key_serial_tree",
	"cpu_khz", "tsc_khz",
	"ptr_key") // with which %p hashes pointers

// What the kernel has chosen against each flaw of the processor (arch/x86/kernel/cpu/bugs.c), which sysfs tells.
var mitigations = roots("spectre_v1_mitigation", "spectre_v2_enabled", "spectre_v2_user_ibpb", "spectre_v2_user_stibp", "spectre_v2_bad_module", "rrsba_disabled",
	"bhi_mitigation", "its_mitigation", "retbleed_mitigation", "srso_mitigation", "vmscape_mitigation", "ssb_mode", "l1tf_mitigation",
	"l1tf_vmx_mitigation", "itlb_multihit_kvm_mitigation", "mds_mitigation", "taa_mitigation", "mmio_mitigation", "rfds_mitigation",
	"srbds_mitigation", "gds_mitigation", "tsa_mitigation", "x86_hyper_type")

// The kernel's log.
var printk = roots("prb", "printk_rb_static", "printk_rb_dynamic", "__log_buf", "log_buf", "log_buf_len", "clear_seq", "syslog_seq",
	"syslog_partial", "syslog_time", "printk_time", "_printk_rb_static_descs", "_printk_rb_static_infos", "console_seq")
