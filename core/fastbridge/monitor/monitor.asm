; The monitor: FAST-BRIDGE's code in the guest. `go generate` makes monitor.bin of it; monitor.go has the layout of the data.
;
; It is mapped at BASE in every address space. Outside scopes nothing of it runs but `enter`, in place of a call of
; do_syscall_64. Within a scope a view is in force, which is a root of page tables, and the views' IDT; what must run in the
; kernel's own address space (the clean root) is called from here and returns here, so that all state is on the kernel stack and
; any number of processes can be in scopes.
;
; That is the non-redirected view, as long as the guest is not to leave at each int3. It has the parts of the snapshot's address space that
; do not tell their machine at other addresses, the aliases: an instruction that means one of them is executed out of its place,
; displaced, on the alias. Local functions run there too, in a copy of the kernel's text in which nothing is patched.

BITS 64
DEFAULT REL

%define BASE 0xffffffffffc00000
%define PORT 0x8d00

; Why the guest leaves.
%define CAUSE_ENTER  0x100		; a system call begins
%define CAUSE_USER   0x101		; a user address that cannot be accessed

; The lowest part of a kernel stack, above its guard word.
%define S_SCOPE 0x40			; struct scope, 0 if none
%define S_CLEAN 0x48			; the clean root
%define S_DEPTH 0x50			; number of return addresses that follow
%define S_RETURNS 0x58

; struct scope
%define ROOT_N 0
%define TABLE 16			; of struct site
%define MASK 24				; size of the table in bytes less 1
%define PGD_N 32			; addresses of the roots
%define PGD_R 40
%define ROOTS 48			; ranges of addresses that are the snapshot's: where they begin and end, 16 bytes each
%define ROOTS_END 56
%define CALLS 64			; counters: entered without asking, and instructions displaced
%define DISPLACED 72

; struct site
%define SITE_ACTION 8
%define SITE_SIZE 16
%define SITE_SKIP 10			; bytes from the site to where a function goes on whose hook lets it run; 0 if the host must see to it;
%define SKIP_BYTES 15			; with these two:
%define SKIP_SECOND 16			; the second argument counts
%define SKIP_OTHERS 32			; pointers to variables are the trusted VM's
%define SKIP_NEVER 64			; the function never runs
%define SKIP_ONCE 128			; it does not run when its first argument is new
%define ONCE_SIZE 16			; of an entry of the table of calls that were: function and argument
%define SITE_SIZES 11			; of a lock: its bytes, 4 or 8
%define SITE_VALUE 12			; what an elided function returns, where in the object the lock is, or where displaced code is
%define ONCE_ENTRIES 4096
%define KINDS 8				; of files
%define ROWS 64				; of system calls that hang on them
%define RULE_SCOPE 0			; a rule for a path: the scope, 1 for none, 0 to ask; its size; where the path is among the arguments;
%define RULE_SIZE 8			; how many patterns it has, any path if none; then these
%define RULE_ARGUMENT 12
%define RULE_PATTERNS 14
%define RULE_SIZE_HEAD 16
%define PATTERN_TREE 1			; a pattern has its length, flags and bytes; a tree is what begins so
%define PATTERN_NOT 2
%define PROGRAMS 512			; lists of rules
%define PATH_SIZE 256
%define ACTION_LOCAL 2
%define ACTION_ELIDE 3
%define ACTION_LOCK 4
%define ACTION_DISPLACE 5
%define ACTION_CONTINUE 6

; Whose an operand is, in a list of contexts.
%define LOCAL 1
%define SNAPSHOT 2
%define EITHER 3			; either's, if both have the same there
%define STACK 4				; the snapshot's, and so it is on the current stack

	ORG BASE
	jmp near enter			; the entry points have fixed places
	align 8
	jmp near breakpoint
	align 8
	jmp near page_fault
	align 8
	jmp near resume
	align 8
	jmp near locate
	align 8
	jmp near locate_cpu
	align 8
	jmp near asked
	align 8
	jmp near clean_breakpoint
	align 8
	jmp near leave_view
	align 8
	jmp near locate_on_stack
	align 8

; Exceptions and interrupts: entries of 16 bytes.
	times 0x80-($-$$) nop
vectors:
%assign i 0
%rep 256
	align 16
 %if i < 32
  %if i = 8 || (i >= 10 && i <= 14) || i = 17 || i = 21 || i = 29 || i = 30
	push strict dword i
	jmp near leave_guest
  %else
	push 0
	push strict dword i
	jmp near leave_guest
  %endif
 %else
	push 0
	push strict dword i
	jmp near interrupt
 %endif
 %assign i i+1
%endrep
	align 16

%macro save 0
	push rax
	push rcx
	push rdx
	push rbx
	push rbp
	push rsi
	push rdi
	push r8
	push r9
	push r10
	push r11
	push r12
	push r13
	push r14
	push r15
%endmacro
%macro restore 0
	pop r15
	pop r14
	pop r13
	pop r12
	pop r11
	pop r10
	pop r9
	pop r8
	pop rdi
	pop rsi
	pop rbp
	pop rbx
	pop rdx
	pop rcx
	pop rax
%endmacro
; What save leaves above the stack pointer.
%define F_VECTOR 120
%define F_ERROR 128
%define F_RIP 136
%define F_FLAGS 152

; stack sets a register to the lowest address of the process's kernel stack, which is in use.
%macro stack 1
	mov %1, rsp
	and %1, -0x4000
%endmacro
; to_clean loads the clean root of the kernel stack at rcx, and the kernel's IDT. It changes rax.
%macro to_clean 0
	lidt [clean_idt]
	mov rax, [rcx+S_CLEAN]
	mov cr3, rax
%endmacro
; return_to_site restores what breakpoint has saved, and returns to where its frame says now.
%macro return_to_site 0
	pop rbx
	pop rdx
	pop rcx
	pop rax
	iretq
%endmacro

; enter takes the place of do_syscall_64(regs rdi, number rsi). Interrupts are off.
enter:
	cmp rsi, 1023
	ja .plain
	bt qword [calls], rsi
	jnc .plain
	lea rax, [path_rows]
	movzx r8d, word [rax+rsi*2]
	test r8d, r8d
	jnz .path
	lea rax, [rows]
	movzx r8d, byte [rax+rsi]
	test r8d, r8d
	jz .ask
; The scope hangs on the file of the first argument: this is slowbridge.Bridge.FileType.
%macro follow 1
	add rax, [%1]
	mov rax, [rax]
%endmacro
	mov r9, [f_argument]
	mov ecx, [rdi+r9]
	mov rax, [f_task]
	mov rax, [gs:rax]
	follow f_files
	follow f_fdt
	mov r9, [f_max_fds]
	cmp ecx, [rax+r9]
	jae .ask
	follow f_fd
	mov rax, [rax+rcx*8]
	test rax, rax
	jz .ask
	follow f_inode
	xor r9d, r9d			; the snapshot's
	mov rcx, rax
	sub rcx, [page_offset]
	cmp rcx, [direct_limit]
	jae .ask
	cmp rcx, 0x100000
	jb .ask
	cmp rcx, [boundary]
	jb .kind
	mov r9, [f_super]		; that of a name which is not in the name cache is the trusted kernel's
	mov rcx, [rax+r9]
	xor r9d, r9d
	mov rdx, rcx
	sub rdx, [page_offset]
	cmp rdx, [direct_limit]
	jae .ask
	cmp rdx, 0x100000
	jb .ask
	cmp rdx, [boundary]
	jb .kind
	mov r9, [f_mode]
	movzx edx, word [rax+r9]
	and edx, 0xf000
	cmp edx, 0x2000			; a character device
	je .ask
	cmp edx, 0xc000			; a socket
	je .ask
	mov r9, [f_type]
	mov rcx, [rcx+r9]
	cmp rcx, [proc_type]
	jne .types
	mov r9, [f_proc_pid]
	mov rdx, [rax+r9]
	test rdx, rdx
	jz .types
	sub rdx, [page_offset]
	cmp rdx, [boundary]
	jae .ask
	cmp rdx, 0x100000
	jb .ask
.types:	lea rdx, [types]
	mov r9d, 1
.type:	cmp [rdx+r9*8], rcx
	je .kind
	inc r9d
	cmp r9d, KINDS
	jb .type
	jmp .ask
.kind:	imul r8d, r8d, KINDS
	add r8d, r9d
	lea rdx, [scopes]
	mov rax, [rdx+r8*8]
.scope:	test rax, rax
	jz .ask
	inc qword [chosen]
	cmp rax, 1			; no scope
	je .plain
	inc qword [rax+CALLS]
	stack rcx
	mov [rcx+S_SCOPE], rax
	mov qword [rcx+S_DEPTH], 0
	lea rdx, [finish]
	mov [rsp], rdx
	push rdi
	push rsi
	push rbp
	xor ebp, ebp
	call to_view
	pop rbp
	pop rsi
	pop rdi
	jmp [do_syscall_64]
.ask:	mov [frame], rsp
	mov [regs], rdi
	mov [number], rsi
	mov rax, cr3
	mov [root], rax
	mov eax, CAUSE_ENTER
	mov dx, PORT
	out dx, eax
	mov rdi, [regs]
	mov rsi, [number]
	mov rax, [next_scope]
	test rax, rax
	jz .plain
	stack rcx
	mov [rcx+S_SCOPE], rax
	mov [current], rax
	mov [current_stack], rcx
	mov qword [rcx+S_DEPTH], 0
	mov rdx, cr3
	mov [rcx+S_CLEAN], rdx
	lea rdx, [finish]
	mov [rsp], rdx
	lidt [view_idt]
	mov rax, [rax+ROOT_N]
	mov cr3, rax
.plain:	jmp [do_syscall_64]
; The scope hangs on a path: r8 becomes the rule for it.
.path:	lea rax, [programs]
	mov r8, [rax+r8*8]
	push rbx
	mov rbx, 1<<63			; where the path is that was read: nowhere
	lidt [view_idt]			; for a fault at read_path
	test byte [smap], 1
	jz .rule
	stac
.rule:	movzx r10d, word [r8+RULE_PATTERNS]
	test r10d, r10d
	jz .ruled
	movzx r9d, word [r8+RULE_ARGUMENT]
	mov r9, [rdi+r9]
	mov rax, r9
	shr rax, 47
	jz .read
	cmp r9, -256			; AT_FDCWD
	jb .cannot
.read:	call read_path
	jc .cannot
	call match
	jc .ruled
	mov eax, [r8+RULE_SIZE]
	add r8, rax
	jmp .rule
.cannot:
	lea r8, [no_scope]
.ruled:	mov rax, [r8+RULE_SCOPE]
	test byte [smap], 1
	jz .done
	clac
.done:	lidt [clean_idt]
	pop rbx
	jmp .scope

; read_path copies the path at r9 unless that is done, which rbx tells, and sets the carry flag if it is in the process's own folder of
; /proc. It is as if it ended where it cannot be read. It changes rax, rcx, rdx and r11.
read_path:
	cmp rbx, r9
	je .done
	mov rbx, r9
	lea rdx, [path]
	xor ecx, ecx
.byte:	mov al, [r9+rcx]
.next:	mov [rdx+rcx], al
	test al, al
	jz .end
	inc ecx
	cmp ecx, PATH_SIZE-1
	jb .byte
	mov byte [rdx+rcx], 0
.end:	cmp dword [rdx], '/pro'
	jne .done
	cmp word [rdx+4], 'c/'
	jne .done
	xor eax, eax
	mov ecx, 6
.digit:	movzx r11d, byte [rdx+rcx]
	sub r11d, '0'
	cmp r11d, 9
	ja .number
	lea rax, [rax+rax*4]
	lea rax, [r11+rax*2]
	inc ecx
	cmp ecx, 6+12			; more than a number of a process has
	jb .digit
	jmp .own
.number:
	cmp ecx, 6
	je .done
	cmp r11d, -'0'
	je .process
	cmp r11d, '/'-'0'
	jne .done
.process:
	mov rcx, [f_task]
	mov rcx, [gs:rcx]
	add rcx, [f_tgid]
	mov ecx, [rcx]
	cmp rax, rcx
	jne .done
.own:	stc
	ret
.done:	clc
	ret
.fault:	xor eax, eax
	jmp .next

; match sets the carry flag if the path is one of a rule's: policy.Scope.ForPath. It changes rax, rcx, rdx, r9, r10 and r11.
match:	lea rdx, [path]
	lea r11, [r8+RULE_SIZE_HEAD]
	xor r9d, r9d			; whether one has matched
.pattern:
	xor ecx, ecx
.byte:	cmp cl, [r11]
	je .all
	mov al, [r11+rcx+2]
	cmp al, [rdx+rcx]
	jne .next
	inc ecx
	jmp .byte
.all:	test byte [r11+1], PATTERN_TREE
	jnz .match
	cmp byte [rdx+rcx], 0
	jne .next
.match:	test byte [r11+1], PATTERN_NOT
	jnz .not
	mov r9d, 1
.next:	movzx ecx, byte [r11]
	lea r11, [r11+rcx+2]
	dec r10d
	jnz .pattern
	cmp r9d, 1
	cmc
	ret
.not:	clc
	ret

; finish is what do_syscall_64 returns to from a scope. Interrupts are off.
finish:
	push rax
	push rcx
	stack rcx
	mov qword [rcx+S_SCOPE], 0
	to_clean
	pop rcx
	pop rax
	jmp [syscall_return]

; to_view goes back into the scope of this stack: rbp is the view's root, or 0 for the non-redirected one. Interrupts are off.
; It changes rax, rcx, rdx, rsi, rdi.
to_view:
	cld
	stack rdx
	mov [current_stack], rdx
	mov rax, cr3
	mov [rdx+S_CLEAN], rax
	and rax, [address_mask]
	add rax, [page_offset]
	mov rdx, [rdx+S_SCOPE]
	mov [current], rdx
	mov rsi, rax
	mov rdi, [rdx+PGD_N]
	mov ecx, 256			; user space, which may have grown
	rep movsq
	cmp byte [exit_always], 0
	je .roots
	mov rsi, rax
	mov rdi, [rdx+PGD_R]
	mov ecx, 256
	rep movsq
.roots:	lidt [view_idt]
	test rbp, rbp
	cmovz rbp, [rdx+ROOT_N]
	mov cr3, rbp
	ret

; resume is what a function returns to that was called by a hook: in the view still, or in the clean root.
resume:
	push rax			; becomes the return address
	pushfq
	push rax
	push rcx
	push rdx
	cli
	stack rcx
	mov rdx, [rcx+S_DEPTH]
	dec rdx
	mov [rcx+S_DEPTH], rdx
	mov rax, [rcx+S_RETURNS+rdx*8]
	mov [rsp+32], rax
	mov rdx, [rcx+S_SCOPE]
	mov rax, cr3
	cmp rax, [rdx+ROOT_N]
	je .here
	push rsi
	push rdi
	push rbp
	xor ebp, ebp
	call to_view
	pop rbp
	pop rdi
	pop rsi
.here:	pop rdx
	pop rcx
	pop rax
	popfq
	ret

; breakpoint is int3: at [rsp] is the address after it.
breakpoint:
	push rax
	push rcx
	push rdx
	push rbx
	mov rax, [rsp+32]
	dec rax
	mov rcx, [current_stack]
	cmp qword [rcx+S_DEPTH], 0
	jne .local_code
	cmp byte [exit_always], 0
	jne .leave
	mov rdx, [current]
	mov rbx, [rdx+TABLE]
	mov rcx, rax
	shl rcx, 4
.probe:	and rcx, [rdx+MASK]
	cmp [rbx+rcx], rax
	je .found
	cmp qword [rbx+rcx], 0
	je .leave
	add rcx, SITE_SIZE
	jmp .probe
.found:	lea rbx, [rbx+rcx+SITE_ACTION]
	cmp byte [rbx], ACTION_DISPLACE
	jne .inside
	inc qword [rdx+DISPLACED]
	and rbx, -SITE_SIZE		; the table is aligned
	movsxd rax, dword [rbx+SITE_VALUE]
	mov [target], rax
	pop rbx
	pop rdx
	pop rcx
	pop rax
	jmp [target]
; Within what a jump has taken the place of: its code has the instruction.
.inside:
	cmp byte [rbx], ACTION_CONTINUE
	jne .local
	inc qword [continued]
	and rbx, -SITE_SIZE
	mov eax, [rbx+SITE_VALUE]
	mov rdx, -1<<32
	or rax, rdx
	mov [rsp+32], rax
	return_to_site
; A local function is called in the copy, as far as that has it.
.local:	cmp byte [rbx], ACTION_LOCAL
	jne .hook
	mov rbx, [rsp+32+24]		; the interrupted stack pointer
	mov rcx, [current_stack]
	mov rdx, [rcx+S_DEPTH]
	inc qword [subtrees]
	mov [rsp+32], rax
	mov rax, [rbx]
	mov [rcx+S_RETURNS+rdx*8], rax
	inc qword [rcx+S_DEPTH]
	lea rax, [resume]
	mov [rbx], rax
	mov rax, [rsp+32]
; Code of a local function: rax is where it is to go on.
.local_code:
	mov rdx, rax
	sub rdx, [copy]
	cmp rdx, [text_size]
	jae .original
	sub rax, [copy_delta]		; something in the copy that must run in the clean root
	jmp .clean
.original:
	mov rdx, rax
	sub rdx, [text]
	cmp rdx, [text_size]
	jae .clean
	add rdx, [copy]
	cmp byte [rdx], 0xcc
	je .clean
	mov [rsp+32], rdx
	return_to_site
.clean:	inc qword [clean]
	mov [rsp+32], rax
	mov rcx, [current_stack]
	to_clean
	return_to_site
; A function with a hook: its first argument is a pointer into the snapshot, or not, or the host must say so.
.hook:	cmp byte [rbx], ACTION_ELIDE
	je .owner
	cmp byte [rbx], ACTION_LOCK
	jne .leave
.owner:	mov rcx, rbx
	and rcx, -SITE_SIZE		; the table is aligned
	test byte [rcx+SITE_SKIP], SKIP_NEVER
	jnz .elide
	mov rdx, rdi
	test byte [rcx+SITE_SKIP], SKIP_SECOND
	cmovnz rdx, rsi
	test rdx, rdx
	jns .pass
	sub rdx, [page_offset]
	cmp rdx, [direct_limit]
	jae .pages
	cmp rdx, [boundary]
	jae .pass
	cmp rdx, 0x100000
	jae .points
	jmp .leave
.pages:	add rdx, [page_offset]
	sub rdx, [vmemmap]
	cmp rdx, [vmemmap_limit]
	jae .others
	cmp rdx, [vmemmap_boundary]
	jb .points
.pass:	test byte [rcx+SITE_SKIP], SKIP_ONCE
	jnz .once
.run:	movzx edx, byte [rcx+SITE_SKIP]
	and edx, SKIP_BYTES
	jz .leave
	inc qword [hooks]
	add rax, rdx
	mov [rsp+32], rax
	return_to_site
.once:	push rsi
	mov rsi, rdi
	shr rsi, 2
.call:	and rsi, (ONCE_ENTRIES-1)*ONCE_SIZE
	lea rdx, [once]
	add rdx, rsi
	cmp qword [rdx], 0
	je .new
	cmp [rdx], rax
	jne .collide
	cmp [rdx+8], rdi
	je .again
.collide:
	add rsi, ONCE_SIZE
	jmp .call
.again:	pop rsi
	jmp .run
.new:	cmp qword [once_left], 0
	je .full
	dec qword [once_left]
	mov [rdx], rax
	mov [rdx+8], rdi
	pop rsi
	jmp .elide
.full:	pop rsi
	jmp .leave
.others:
	test byte [rcx+SITE_SKIP], SKIP_OTHERS
	jnz .pass
	jmp .leave
.points:
	cmp byte [rbx], ACTION_LOCK
	jne .elide
	test byte [rcx+SITE_SKIP], SKIP_BYTES
	jz .leave
	mov edx, [rcx+SITE_VALUE]
	cmp byte [rcx+SITE_SIZES], 8
	je .lock8
	mov dword [rdi+rdx], 0		; a fault here has the host map the page
	jmp .pass
.lock8:	mov qword [rdi+rdx], 0
	jmp .pass
.elide:	inc qword [hooks]
	mov eax, [rcx+SITE_VALUE]
	mov [rsp+24], rax		; rax
	mov rbx, [rsp+32+24]
	mov rax, [rbx]
	mov [rsp+32], rax
	add qword [rsp+32+24], 8
	return_to_site
.leave:	pop rbx
	pop rdx
	pop rcx
	pop rax
	push 0
	push 3
; leave_guest asks the host: the vector and the error code are on the stack.
leave_guest:
	save
	mov rcx, [current_stack]
	cmp qword [rcx+S_DEPTH], 0
	jne local_event
.ask:	mov [frame], rsp
	mov rax, cr3
	mov [root], rax
	mov rax, cr2
	mov [fault], rax
	mov eax, [rsp+F_VECTOR]
	mov dx, PORT
	out dx, eax
	mov rsp, [frame]		; the host may have moved it
	mov rax, [next_root]
	cmp byte [next_clean], 0
	je .go
	lidt [clean_idt]
.go:	mov cr3, rax
	restore
	add rsp, 16
	iretq

; asked is where displaced code goes whose operand the host must look at: as if int3 had come here.
asked:	push 0
	push 3
	save
	jmp leave_guest.ask

; local_event is an exception or an interrupt in a local function, after save: the kernel handles it in the clean root, where the function
; then goes on.
local_event:
	inc qword [clean]
	mov rax, [rsp+F_RIP]
	mov rdx, rax
	sub rdx, [copy]
	cmp rdx, [text_size]
	jae .original
	sub rax, [copy_delta]
	mov [rsp+F_RIP], rax
.original:
	mov rcx, [current_stack]
	to_clean
	mov ecx, [rsp+F_VECTOR]
	lea rdx, [handlers]
	mov rdx, [rdx+rcx*8]
	mov [target], rdx
	cmp ecx, 32
	jae .plain
	mov eax, 0x60227d00		; the exceptions with an error code
	bt eax, ecx
	jnc .plain
	restore
	add rsp, 8
	jmp [target]
.plain:	restore
	add rsp, 16
	jmp [target]

; leave_view goes on in the clean root, at the address on the stack. An interrupt may have led there already.
leave_view:
	push rax
	push rcx
	pushfq
	cli
	mov rcx, [current]
	mov rax, cr3
	cmp rax, [rcx+ROOT_N]
	jne .there
	inc qword [clean]
	mov rcx, [current_stack]
	to_clean
.there:	popfq
	pop rcx
	pop rax
	ret

; clean_breakpoint is int3 in the kernel's own address space: a local function that went on there has returned into the copy.
clean_breakpoint:
	push rax
	push rdx
	mov rax, [rsp+16]
	dec rax
	mov rdx, rax
	sub rdx, [copy]
	cmp rdx, [text_size]
	jae .kernel
	sub rax, [copy_delta]
	mov [rsp+16], rax
	pop rdx
	pop rax
	iretq
.kernel:
	pop rdx
	pop rax
	jmp [handlers+3*8]

; page_fault is #PF: the error code is on the stack. A user page is faulted in by the kernel's own __get_user and __put_user.
page_fault:
	push rax
	lea rax, [read_path.byte]
	cmp [rsp+16], rax
	je .path
	pop rax
	push 14
	save
	mov rcx, [current_stack]
	cmp qword [rcx+S_DEPTH], 0
	jne local_event
	mov rbx, cr2
	test rbx, rbx
	js leave_guest.ask
	mov rbp, cr3
	mov r12, [rsp+F_ERROR]
	stack rcx
	to_clean
	cld
	test qword [rsp+F_FLAGS], 0x200
	jz .off
	sti
.off:	mov rax, rbx
	call [get_user]
	test eax, eax
	jnz .bad
	test r12d, 2			; a store
	jz .good
	mov rcx, rbx
	mov eax, edx
	mov rbx, rcx
	push rbx
	call [put_user]
	pop rbx
	test ecx, ecx
	jnz .bad
.good:	cli
	call to_view
	restore
	add rsp, 16
	iretq
.path:	lea rax, [read_path.fault]
	mov [rsp+16], rax
	pop rax
	add rsp, 8
	iretq
.bad:	cli
	call to_view
	mov cr2, rbx
	mov dword [rsp+F_VECTOR], CAUSE_USER
	jmp leave_guest.ask

; interrupt lets the kernel handle an interrupt in the clean root, as if it had come at .back.
interrupt:
	save
	mov rcx, [current_stack]
	cmp qword [rcx+S_DEPTH], 0
	jne local_event
	mov rbx, rsp
	mov rbp, cr3
	stack rcx
	to_clean
	mov ecx, [rsp+F_VECTOR]
	lea rdx, [handlers]
	mov rdx, [rdx+rcx*8]
	mov r12, [rsp+F_FLAGS]
	and rsp, -16
	mov eax, ss
	push rax
	push rbx
	push r12
	mov eax, cs
	push rax
	lea rax, [.back]
	push rax
	inc qword [interrupts]
	jmp rdx
.back:	cli
	call to_view
	restore
	add rsp, 16
	iretq

; locate says where the operand of displaced code is. On the stack are, from the return address on, a list of contexts or 0, the operand's
; address, which it changes, and, if there is a list, a register and what int3 has pushed. The carry flag is set if only the host can say it.
%define L_CONTEXTS 56
%define L_ADDRESS 64
%define L_RSP 104
%macro locate_begin 0
	push rdx
	push rsi
	push rdi
	push rbx
	mov rsi, [rsp+L_CONTEXTS]
%endmacro
locate:
	push rax
	push rcx
	mov rax, [rsp+L_ADDRESS-32]
.told:	call tells
	jnc .tells_not
	pop rcx
	pop rax
	clc
	ret
.tells_not:
	locate_begin
	test rsi, rsi
	jz there
	call contexts
	cmp ebx, SNAPSHOT
	je there
	test ebx, ebx
	jz cannot_say
	cmp ebx, STACK
	je there
	mov rdx, [current]
	mov rsi, [rdx+ROOTS]
	mov rdx, [rdx+ROOTS_END]
.root:	cmp rsi, rdx
	jae .variable
	cmp rax, [rsi]
	jb .next
	cmp rax, [rsi+8]
	jb there
.next:	add rsi, 16
	jmp .root
.variable:
	cmp ebx, EITHER
	jne locate_end
	call alias
	jz cannot_say
	mov rcx, [rax]
	cmp rcx, [rax+rdx]		; a fault here has the host map the page
	je locate_end
	jmp cannot_say
there:	call alias
	jz cannot_say
	add [rsp+L_ADDRESS], rdx
locate_end:
	clc
locate_return:
	pop rbx
	pop rdi
	pop rsi
	pop rdx
	pop rcx
	pop rax
	ret
cannot_say:
	stc
	jmp locate_return

; locate_on_stack is locate for an instruction that may mean a stack of the snapshot's at the address of the current one.
locate_on_stack:
	push rax
	push rcx
	mov rax, [rsp+L_ADDRESS-32]
	mov rcx, rax
	xor rcx, rsp
	cmp rcx, 0x4000
	jae locate.told
	locate_begin
	call contexts
	cmp ebx, STACK
	je there
	test ebx, ebx
	jz cannot_say
	jmp locate_end

; alias sets rdx to how far away the alias of address rax is, and the zero flag if there is none. It changes rcx.
alias:	mov rdx, rax
	mov cl, [slot_shift]
	shr rdx, cl
	and edx, 511
	lea rcx, [aliases]
	mov rdx, [rcx+rdx*8]
	test rdx, rdx
	ret

; locate_cpu is locate for a per-CPU variable: the address is that in the snapshot, and becomes 0 if the variable is the trusted VM's.
locate_cpu:
	push rax
	push rcx
	mov rax, [rsp+L_ADDRESS-32]
	locate_begin
	test rsi, rsi
	jz .snapshot
	call contexts
	cmp ebx, SNAPSHOT
	je .snapshot
	cmp ebx, LOCAL
	jne cannot_say
	mov qword [rsp+L_ADDRESS], 0
	jmp locate_end
.snapshot:
	call tells
	jc locate_end
	jmp there

; tells sets the carry flag if address rax tells whose it is, or is on the stack. It changes rcx.
tells:	test rax, rax
	jns .yes
	mov rcx, rax
	sub rcx, [page_offset]
	cmp rcx, [direct_limit]
	jb .done
	mov rcx, rax
	sub rcx, [vmemmap]
	cmp rcx, [vmemmap_limit]
	jb .done
	mov rcx, rax
	xor rcx, rsp
	cmp rcx, 0x4000
.done:	ret
.yes:	stc
	ret

; contexts looks for the return addresses of a list on the stack; rsi is the list, ebx becomes what it says, 0 if nothing. An entry has the
; number of return addresses and what they say, 2 bytes each, and 4 bytes of nothing; then each one's depth and its low half. It changes
; rcx, rdx, rsi and rdi.
contexts:
	push r8
	push r9
	mov rcx, [rsp+L_RSP+24]
	mov rdi, rcx
	and rdi, -0x4000
	add rdi, 0x4000			; where the stack begins
	sub rcx, rdi
	neg rcx				; how deep it is
.entry:	movzx edx, word [rsi]
	movzx ebx, word [rsi+2]
	add rsi, 8
	cmp edx, 0xffff
	je .none
	test edx, edx
	jz .found
	cmp [rsi], ecx
	ja .skip
.frame:	mov r8d, [rsi]
	neg r8
	mov r8, [rdi+r8]
	movsxd r9, dword [rsi+4]
	cmp r8, r9
	jne .skip
	add rsi, 8
	dec edx
	jnz .frame
.found:	pop r9
	pop r8
	ret
.skip:	lea rsi, [rsi+rdx*8]
	jmp .entry
.none:	xor ebx, ebx
	jmp .found

	times 0x3000-($-$$) db 0
; Data: struct data in monitor.go.
data:
do_syscall_64:	dq 0
syscall_return:	dq 0
get_user:	dq 0
put_user:	dq 0
page_offset:	dq 0
address_mask:	dq 0
view_idt:	dw 0
		dq 0
		times 6 db 0
clean_idt:	dw 0
		dq 0
		times 6 db 0
exit_always:	dq 0
current:	dq 0
frame:		dq 0
regs:		dq 0
number:		dq 0
root:		dq 0
fault:		dq 0
next_scope:	dq 0
next_root:	dq 0
next_clean:	dq 0
subtrees:	dq 0
interrupts:	dq 0
hooks:		dq 0
direct_limit:	dq 0
boundary:	dq 0
vmemmap:	dq 0
vmemmap_limit:	dq 0
vmemmap_boundary: dq 0
current_stack:	dq 0
target:		dq 0
text:		dq 0
text_size:	dq 0
copy:		dq 0
copy_delta:	dq 0
slot_shift:	dq 0
clean:		dq 0
once_left:	dq ONCE_ENTRIES*3/4
f_argument:	dq 0
f_task:		dq 0
f_files:	dq 0
f_fdt:		dq 0
f_max_fds:	dq 0
f_fd:		dq 0
f_inode:	dq 0
f_mode:		dq 0
f_super:	dq 0
f_type:		dq 0
f_proc_pid:	dq 0
f_tgid:		dq 0
proc_type:	dq 0
chosen:		dq 0
routines:	dq 0, 0
continued:	dq 0
smap:		dq 0
no_scope:	dq 0
aliases:	times 512 dq 0
calls:		times 128 db 0
handlers:	times 256 dq 0
once:		times ONCE_ENTRIES*2 dq 0
rows:		times 1024 db 0
types:		times KINDS dq 0
scopes:		times ROWS*KINDS dq 0
path_rows:	times 1024 dw 0
programs:	times PROGRAMS dq 0
path:		times PATH_SIZE db 0
