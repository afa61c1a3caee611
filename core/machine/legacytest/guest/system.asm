; System-level checks in 32-bit code: tasks, SYSENTER, paging, debug registers, single steps, alignment, LMSW, unreal mode. Every step
; prints what it saw to port 0xe9; system_test.go compares the text of all emulators with testdata/system.txt.
; Linked at 64 KiB, so that real mode reaches it; the multiboot stub at 1 MiB copies it there.

%include "cpu.inc"

SEL_UCODE equ 0x50 | 3
SEL_UDATA equ 0x58 | 3
SEL_TASK2 equ 0x60
SEL_TASKG equ 0x68	; task gate to task 2
SEL_TASK3 equ 0x70	; TSS with the debug trap flag
SEL_SYS   equ 0x78	; the four segments of SYSENTER

STACK   equ 0x2f000
STACK2  equ 0x2e000	; task 2
USTACK  equ 0x2d000
PD      equ 0x40000
PT      equ 0x41000
PDPT    equ 0x42000
PDPAE   equ 0x43000
PTPAE   equ 0x44000
PAGE    equ 0x51000	; the page that is played with
BIG     equ 0x400000	; a large page

section .text vstart=0x100000
bits 32
header:
	MULTIBOOT header, start
start:	cli
	cld
	mov esp, 0x9000
	mov esi, 0x100000 + section.low.start
	mov edi, 0x10000
	mov ecx, (low_end - low_start + 3) / 4
	rep movsd
	mov eax, main
	jmp eax

section low follows=.text vstart=0x10000 align=16
low_start:
%define R(x) ((x) - 0x10000)

align 8
gdt:	dq 0
	dq 0x00cf9b000000ffff, 0x00cf93000000ffff	; 08 code, 10 data
	dq 0x00009b010000ffff, 0x000093000000ffff	; 18 code16 at 10000h, 20 data16
	dq 0x00af9b000000ffff				; 28 code64, unused
	dw 103, R(tss1), 0x8901, 0			; 30
	dq 0, 0, 0
	dq 0x00cffb000000ffff, 0x00cff3000000ffff	; 50, 58 user
	dw 103, R(tss2), 0x8901, 0			; 60
	dw 0, SEL_TASK2, 0xe500, 0			; 68
	dw 103, R(tss3), 0x8901, 0			; 70
	dq 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff ; 78 to 90
gdtend:
gdtr:	dw gdtend - gdt - 1
	dd gdt
idtr:	dw 0x40 * 8 - 1
	dd idt
ivtr:	dw 0x3ff
	dd 0
align 8
idt:	times 0x40 dq 0

align 4096
tss1:	times 26 dd 0
align 128
tss2:	times 26 dd 0
align 128
tss3:	times 26 dd 0
align 4
resume: dd 0		; where to go on after an exception
resesp: dd 0
errormask: dd (1 << 8) | (0x1f << 10) | (1 << 17)
v_vec:	dd 0
v_err:	dd 0
v_eip:	dd 0
v_cs:	dd 0
v_fl:	dd 0
v_dr6:	dd 0
align 4096

; SAY text prints; SHOW text, value prints a name and a number.
%macro SAY 1+
	push esi
	mov esi, %%s
	call print
	pop esi
	jmp %%e
%%s:	db %1, 0
%%e:
%endmacro
%macro SHOW 2
	SAY %1
	push dword %2
	call hex
%endmacro
%macro SHOWMEM 2
	SAY %1
	push dword [%2]
	call hex
%endmacro
print:	push eax
.l:	lodsb
	test al, al
	jz .e
	out 0xe9, al
	jmp .l
.e:	pop eax
	ret
; hex prints the number on the stack and removes it.
hex:	pushfd
	pushad
	mov ebx, [esp + 40]
	mov ecx, 8
.l:	rol ebx, 4
	mov al, bl
	and al, 15
	cmp al, 10
	sbb al, 0x69
	das
	out 0xe9, al
	loop .l
	popad
	popfd
	ret 4

%assign i 0
%rep 0x40
stub %+ i:
	push strict dword i
	jmp strict near caught
%assign i i + 1
%endrep

; Any exception or interrupt: note and print it, go to [resume] in ring 0.
caught:
	push eax
	mov eax, SEL_DATA
	mov ds, eax
	pop eax
	pop dword [v_vec]
	mov dword [v_err], 0
	mov eax, [v_vec]
	cmp eax, 32
	jae .nocode
	bt dword [errormask], eax
	jnc .nocode
	pop dword [v_err]
.nocode:
	pop dword [v_eip]
	pop dword [v_cs]
	pop dword [v_fl]
	mov eax, SEL_DATA
	mov ss, eax
	mov esp, [resesp]
	mov es, eax
	mov fs, eax
	mov gs, eax
	cld
	SHOWMEM " vector ", v_vec
	SHOWMEM " error ", v_err
	and dword [v_cs], 0xffff
	SHOWMEM " cs ", v_cs
	mov eax, [v_eip]
	sub eax, [resume]
	SHOW " at ", eax
	and dword [v_fl], FLAG_RF | FLAG_VM | FLAG_TF | FLAG_NT
	SHOWMEM " flags ", v_fl
	cmp dword [v_vec], 14
	jne .nopf
	mov eax, cr2
	SHOW " cr2 ", eax
.nopf:	cmp dword [v_vec], 1
	jne .nodb
	mov eax, dr6
	SHOW " dr6 ", eax
	mov eax, 0xffff0ff0
	mov dr6, eax
.nodb:	SAY 10
	jmp [resume]

; EXPECT n: code that follows is to raise something; goes on at n. The place that is printed is relative to n.
%macro EXPECT 2+
	SAY %2, ":"
	mov [resesp], esp
	mov dword [resume], %1
%endmacro
%macro NOFAULT 0
	SAY " no exception", 10
%endmacro

main:	mov al, 0xff
	out 0x21, al
	out 0xa1, al
	lgdt [gdtr]
	jmp SEL_CODE32:.cs
.cs:	mov eax, SEL_DATA
	mov ds, eax
	mov es, eax
	mov ss, eax
	mov fs, eax
	mov gs, eax
	mov esp, STACK
	xor ecx, ecx
	mov eax, stub0
.gate:	mov [idt + ecx * 8], ax
	mov word [idt + ecx * 8 + 2], SEL_CODE32
	mov word [idt + ecx * 8 + 4], 0xee00
	mov word [idt + ecx * 8 + 6], 1
	add eax, 10
	inc ecx
	cmp ecx, 0x40
	jb .gate
	lidt [idtr]
	mov dword [tss1 + 4], STACK - 0x800
	mov dword [tss1 + 8], SEL_DATA
	mov eax, SEL_TSS32
	ltr ax
	mov eax, cr0
	and eax, ~(CR0_TS | CR0_EM | CR0_CD | CR0_NW)
	mov cr0, eax

; --- Tasks ---
	mov edi, tss2
	call task_init
	mov edi, tss3
	call task_init
	mov word [tss3 + 100], 1	; debug trap
	mov dword [tss3 + 32], task3
	SAY "call task:", 10
	call SEL_TASK2:0
	pushfd
	pop eax
	and eax, FLAG_NT
	SHOW "back, NT ", eax
	mov eax, cr0
	and eax, CR0_TS
	SHOW " TS ", eax
	movzx eax, byte [gdt + SEL_TASK2 + 5]
	SHOW " type of task 2 ", eax
	movzx eax, byte [gdt + SEL_TSS32 + 5]
	SHOW " of task 1 ", eax
	mov eax, [tss2 + 32]
	sub eax, task2
	SHOW " eip in task 2 ", eax
	SAY 10
	clts
	SAY "interrupt to task:", 10
	mov word [idt + 0x30 * 8 + 2], SEL_TASK2
	mov word [idt + 0x30 * 8 + 4], 0xe500
	int 0x30
	SAY "back", 10
	SAY "fault to task:", 10
	mov dword [tss2 + 32], task2err
	mov dword [tss2 + 56], STACK2
	mov dword [tss2 + 36], 2
	mov word [idt + 13 * 8 + 2], SEL_TASK2
	mov word [idt + 13 * 8 + 4], 0xe500
	mov eax, 0x1008
	mov fs, ax
	SAY "back", 10
	mov word [idt + 13 * 8 + 2], SEL_CODE32
	mov word [idt + 13 * 8 + 4], 0xee00
	EXPECT .busy, "call busy task"
	call SEL_TSS32:0
	NOFAULT
.busy:	mov eax, 0xffff0ff0
	mov dr6, eax
	EXPECT main_trapped, "jump to task with T set"
	mov dword [tss3 + 56], STACK2
	jmp SEL_TASK3:0
	NOFAULT
task3:	NOFAULT
main_trapped:
	str eax
	SHOW "task register ", eax
	movzx eax, byte [gdt + SEL_TASK3 + 5]
	SHOW " type of task 3 ", eax
	movzx eax, byte [gdt + SEL_TSS32 + 5]
	SHOW " of task 1 ", eax
	SAY 10
	EXPECT .nt, "iret with a bad link"
	mov word [tss3], 0x10
	pushfd
	or dword [esp], FLAG_NT
	popfd
	iretd
	NOFAULT
.nt:	push dword 2
	popfd
	clts

; --- Rings, SYSENTER ---
	and byte [gdt + SEL_TSS32 + 5], ~2
	mov eax, SEL_TSS32
	ltr ax
	EXPECT .u1, "ring 3 cli"
	mov eax, user_cli
	call to_user
.u1:	EXPECT .u2, "ring 3 hlt"
	mov eax, user_hlt
	call to_user
.u2:	EXPECT .u3, "ring 3 in, bitmap allows"
	mov eax, user_in
	call to_user
.u3:	mov word [tss1 + 102], 104
	EXPECT .u4, "ring 3 in, no bitmap"
	mov eax, user_in
	call to_user
.u4:	EXPECT .s1, "sysenter without CS"
	mov ecx, 0x174
	xor eax, eax
	xor edx, edx
	wrmsr
	sysenter
.s1:	mov ecx, 0x174
	mov eax, SEL_SYS
	wrmsr
	mov ecx, 0x175
	mov eax, STACK
	wrmsr
	mov ecx, 0x176
	mov eax, .entered
	wrmsr
	EXPECT .s2, "ring 3 sysenter"
	mov eax, user_sysenter
	call to_user
.entered:
	mov ebx, SEL_DATA
	mov ds, ebx
	mov es, ebx
	mov ebx, cs
	SHOW " cs ", ebx
	mov ebx, ss
	SHOW " ss ", ebx
	SHOW " esp ", esp
	SAY 10
	EXPECT .s2, "sysexit"
	mov edx, user_int
	mov ecx, USTACK
	sysexit
.s2:	EXPECT .s3, "ring 3 sysexit"
	mov eax, user_sysexit
	call to_user
.s3:

; --- Debug registers and single steps ---
	mov eax, 0xffff0ff0
	mov dr6, eax
	EXPECT .d1, "single step"
	push dword FLAG_TF | 2
	popfd
	nop
	nop
	NOFAULT
.d1:	EXPECT .d2, "single step over mov ss"
	mov ebx, ss
	push dword FLAG_TF | 2
	popfd
	mov ss, ebx
	nop
	nop
	NOFAULT
.d2:	EXPECT .d3, "breakpoint on writing"
	mov eax, PAGE + 4
	mov dr0, eax
	mov eax, 0x000d0001	; LEN 4, writes, local
	mov dr7, eax
	mov eax, [PAGE + 4]
	mov [PAGE + 8], eax
	mov [PAGE + 7], al
	nop
	NOFAULT
.d3:	EXPECT .d4, "breakpoint on access"
	mov eax, 0x000f0002
	mov dr7, eax
	mov eax, [PAGE + 2]
	nop
	NOFAULT
.d4:	EXPECT .d5, "breakpoint on execution"
	mov eax, .bp
	mov dr1, eax
	mov eax, 0x00000004
	mov dr7, eax
.bp:	nop
	NOFAULT
.d5:	EXPECT .d6, "breakpoint on execution with RF"
	mov eax, .bp2
	mov dr1, eax
	mov eax, 0x00000004
	mov dr7, eax
	push dword FLAG_RF | 2
	push dword SEL_CODE32
	push dword .bp2
	iretd
.bp2:	nop
	NOFAULT
.d6:	EXPECT .d7, "general detect"
	mov eax, 0x00002000
	mov dr7, eax
	mov eax, dr0
	NOFAULT
.d7:	xor eax, eax
	mov dr7, eax
	EXPECT .d8, "dr4 with DE"
	mov eax, cr4
	or eax, 8
	mov cr4, eax
	mov eax, dr4
	NOFAULT
.d8:	mov eax, cr4
	and eax, ~8
	mov cr4, eax

; --- Paging ---
	mov edi, PD
	mov ecx, 0x5000 / 4
	xor eax, eax
	rep stosd
	mov dword [PD], PT | 7
	mov dword [PD + 4], BIG | 0x87	; a large page, user
	mov dword [PDPT], PDPAE | 1
	mov dword [PDPAE], PTPAE | 7
	mov dword [PDPAE + 16], BIG | 0x87
	xor ecx, ecx
.page:	mov eax, ecx
	shl eax, 12
	or eax, 7
	mov [PT + ecx * 4], eax
	mov [PTPAE + ecx * 8], eax
	inc ecx
	cmp ecx, 0x200
	jb .page
	SAY "two-level paging", 10
	mov eax, cr4
	or eax, CR4_PSE
	mov cr4, eax
	mov eax, PD
	mov cr3, eax
	mov ebx, PT + (PAGE >> 12) * 4
	mov ebp, PD + 4
	call paging
	SAY "PAE paging", 10
	mov eax, cr4
	or eax, CR4_PAE
	mov cr4, eax
	mov eax, PDPT
	mov cr3, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, 1 << 11	; NXE
	wrmsr
	mov ebx, PTPAE + (PAGE >> 12) * 8
	mov ebp, PDPAE + 16
	call paging
	mov eax, cr0
	or eax, CR0_PG | CR0_WP
	mov cr0, eax
	mov dword [ebx + 4], 0x80000000
	mov byte [PAGE], 0xc3
	mov eax, PDPT
	mov cr3, eax
	EXPECT .nx, "fetch from a page without execution"
	mov eax, PAGE
	call eax
	NOFAULT
.nx:	EXPECT .pdpte, "CR3 with reserved bits in a PDPTE"
	mov dword [PDPT + 8], 0x1e7
	mov eax, PDPT
	mov cr3, eax
	NOFAULT
.pdpte:	mov eax, cr0
	and eax, ~(CR0_PG | CR0_WP)
	mov cr0, eax
	mov eax, cr4
	and eax, ~CR4_PAE
	mov cr4, eax

; --- Alignment ---
	mov eax, cr0
	or eax, CR0_AM
	mov cr0, eax
	EXPECT .ac, "ring 3 alignment"
	mov eax, user_ac
	call to_user
.ac:	mov eax, cr0
	and eax, ~CR0_AM
	mov cr0, eax

; --- LMSW, unreal mode ---
	mov ax, 0
	lmsw ax
	smsw eax
	and eax, 1
	SHOW "PE after LMSW 0: ", eax
	mov ax, 9
	lmsw ax
	mov eax, cr0
	and eax, 0xf
	SHOW " after LMSW 9: ", eax
	SAY 10
	clts
	lidt [ivtr]
	mov dword [13 * 4], 0x10000000 + R(real_gp)
	mov dword [BIG], 0x12345678
	jmp SEL_CODE16:R(.pm16)
bits 16
.pm16:	mov eax, cr0
	and al, ~CR0_PE
	mov cr0, eax
	jmp 0x1000:R(.real)
.real:	xor ax, ax
	mov ss, ax		; the limit stays 4 GiB
	mov sp, 0x9000
	mov ds, ax
	mov ebx, BIG
	mov eax, [ebx]
	mov [cs:R(value)], eax
	mov ax, 1
	lmsw ax			; protected mode again, as on a 286
	jmp dword SEL_CODE32:.again
bits 32
.again:	mov eax, SEL_DATA
	mov ds, eax
	mov es, eax
	mov ss, eax
	mov esp, STACK
	lidt [idtr]
	SHOWMEM "read in unreal mode ", value
	SAY 10
	; Limits of 64 KiB: #GP of real mode.
	lidt [ivtr]
	mov eax, SEL_DATA16
	mov ds, eax
	mov ss, eax
	jmp SEL_CODE16:R(.pm16b)
bits 16
.pm16b:	mov eax, cr0
	and al, ~CR0_PE
	mov cr0, eax
	jmp 0x1000:R(.real2)
.real2:	mov ax, 0x2000
	mov ss, ax
	mov sp, 0x9000
	mov ebx, 0x10000
	mov eax, [ds:ebx]
	mov al, 'n'
	jmp real_end
real_gp:
	mov al, 'y'
real_end:
	mov [cs:R(value)], al
	mov eax, cr0
	or al, 1
	mov cr0, eax
	jmp dword SEL_CODE32:.last
bits 32
.last:	mov eax, SEL_DATA
	mov ds, eax
	mov es, eax
	mov ss, eax
	mov esp, STACK
	lidt [idtr]
	SAY "limit checked in real mode: "
	mov al, [value]
	out 0xe9, al
	SAY 10
; --- Virtual-8086 mode ---
	EXPECT .v1, "vm86 cli, IOPL 0"
	mov eax, vm_cli
	mov ebx, FLAG_VM | 2
	call to_vm86
.v1:	EXPECT .v2, "vm86 int, IOPL 0"
	mov eax, vm_int
	mov ebx, FLAG_VM | 2
	call to_vm86
.v2:	EXPECT .v3, "vm86 int, IOPL 3"
	mov eax, vm_int
	mov ebx, FLAG_VM | 0x3002
	call to_vm86
.v3:	EXPECT .v4, "vm86 mov from cr0"
	mov eax, vm_cr
	mov ebx, FLAG_VM | 0x3002
	call to_vm86
.v4:	SAY "end", 10
	POWER_OFF

; paging plays with the page whose entry is at ebx and the large page whose entry is at ebp.
paging:
	mov eax, cr0
	or eax, CR0_PG
	mov cr0, eax
	mov eax, [PAGE]
	call .show
	SAY " after reading", 10
	mov [PAGE], eax
	call .show
	SAY " after writing", 10
	mov eax, [BIG + 0x1234]
	mov [BIG + 0x5678], eax
	mov eax, [ebp]
	SHOW "large page ", eax
	SAY 10
	and dword [ebx], ~2
	mov eax, cr3
	mov cr3, eax
	EXPECT .p1, "write to a read-only page, WP 0"
	mov [PAGE], eax
	NOFAULT
.p1:	mov eax, cr0
	or eax, CR0_WP
	mov cr0, eax
	EXPECT .p2, "write to a read-only page, WP 1"
	mov [PAGE + 3], eax
	NOFAULT
.p2:	EXPECT .p3, "ring 3 write to a read-only page"
	mov eax, user_write
	call to_user
.p3:	and dword [ebx], ~4
	mov eax, cr3
	mov cr3, eax
	EXPECT .p4, "ring 3 read of a supervisor page"
	mov eax, user_read
	call to_user
.p4:	EXPECT .p5, "ring 3 jump to a supervisor page"
	mov eax, user_jump
	call to_user
.p5:	and dword [ebx], ~1
	invlpg [PAGE]
	EXPECT .p6, "read of a missing page"
	mov eax, [PAGE - 2]
	NOFAULT
.p6:	EXPECT .p7, "ring 3 push to a missing page"
	mov eax, user_push
	call to_user
.p7:	or dword [ebx], 7
	mov eax, cr0
	and eax, ~(CR0_PG | CR0_WP)
	mov cr0, eax
	ret
.show:	push eax
	mov eax, [ebx]
	SHOW "page ", eax
	pop eax
	ret

; task_init makes a task of the TSS at edi.
task_init:
	mov dword [edi + 32], task2
	mov dword [edi + 36], 2
	mov dword [edi + 56], STACK2
	mov dword [edi + 40], 0x11111111
	mov dword [edi + 72], SEL_DATA
	mov dword [edi + 76], SEL_CODE32
	mov dword [edi + 80], SEL_DATA
	mov dword [edi + 84], SEL_DATA
	mov dword [edi + 88], 0
	mov dword [edi + 92], 0
	mov word [edi + 102], 104
	ret

task2:	SHOW "in task 2, eax ", eax
	pushfd
	pop eax
	and eax, FLAG_NT
	SHOW " NT ", eax
	str eax
	SHOW " task register ", eax
	movzx eax, word [tss2]
	SHOW " link ", eax
	movzx eax, byte [gdt + SEL_TSS32 + 5]
	SHOW " type of task 1 ", eax
	SAY 10
	mov eax, 0x22222222
	iretd
	jmp task2
task2err:
	pop eax
	SHOW "in task 2, error code ", eax
	mov eax, [tss1 + 32]
	sub eax, main
	movzx eax, word [tss1 + 32 + 2]
	SHOW " eip of task 1 ", eax
	SAY 10
	add dword [tss1 + 32], 2	; over the instruction that faulted
	iretd

; to_user goes to eax in ring 3.
to_user:
	push dword SEL_UDATA
	push dword USTACK
	push dword 2
	push dword SEL_UCODE
	push eax
	mov ecx, SEL_UDATA
	mov ds, ecx
	mov es, ecx
	iretd
to_vm86:
	push dword 0
	push dword 0
	push dword 0
	push dword 0
	push dword 0x2000
	push dword 0x8000
	push ebx
	push dword 0x1000
	sub eax, 0x10000
	push eax
	iretd

user_cli:
	cli
	int 0x31
user_hlt:
	hlt
user_in:
	in al, 0x80
	int 0x31
user_int:
	int 0x31
user_sysenter:
	sysenter
user_sysexit:
	sysexit
user_write:
	mov [PAGE], eax
	int 0x31
user_read:
	mov eax, [PAGE]
	int 0x31
user_push:
	mov esp, PAGE + 0x1000
	push eax
	int 0x31
user_jump:
	mov eax, PAGE
	jmp eax
user_ac:
	push dword FLAG_AC | 2
	popfd
	mov eax, [PAGE]
	mov ax, [PAGE + 2]
	mov eax, [PAGE + 2]
	int 0x31
bits 16
vm_cli:	cli
	int 0x31
vm_int:	int 0x32
vm_cr:	mov eax, cr0
	int 0x31
bits 32
align 4
value:	dd 0
align 4
low_end:
