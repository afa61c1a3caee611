; The monitor that runs generated cases: see the package comment. Linked at 1 MiB as a multiboot-1 image; what real mode
; must reach is copied to 64 KiB. layout.go knows the addresses and the formats of a case and a result.
;
; For each case: put GDT, LDT and memory windows back, apply patches, place the code, load the state and go. The page around
; the code is full of INT3, so every case ends in an exception, whose handler saves the state and returns here.

%include "cpu.inc"

MON_STACK   equ 0x1f000
GDT         equ 0x20000 - 0x1000	; 64 entries, then the LDT
LDT         equ GDT + 512
GDT_DWORDS  equ (512 + 64) / 4
IVT         equ 0x65000	; the copy of the real-mode vectors
IDT32       equ 0x66000
IDT64       equ 0x67000
TSS32       equ 0x68000
TSS64       equ 0x68100
PD          equ 0x70000	; two-level tables
PT          equ 0x71000
PDPT        equ 0x72000	; PAE
PDPAE       equ 0x73000
PTPAE       equ 0x74000
PML4        equ 0x75000	; IA-32e mode
PDPTLONG    equ 0x76000
CASE_SIZE   equ 128

section .text vstart=0x100000
bits 32
header:
	MULTIBOOT header, start
; Filled in by layout.go.
h_count:    dd 0
h_cases:    dd 0
h_gdt:      dd 0
h_template: dd 0

start:
	cli
	cld
	mov esp, 0x9000
	mov esi, 0x100000 + section.low.start
	mov edi, 0x10000
	mov ecx, (low_end - low_start + 3) / 4
	rep movsd
	mov eax, main
	jmp eax

section low follows=.text vstart=0x10000 align=16
bits 32
low_start:
times 256 db 0	; what QEMU may overwrite through a null selector: it checks no limits

%define R(x) ((x) - 0x10000)	; an address as an offset in the segment 1000h

align 8
gdtr:   dw 511
        dd GDT
idtr32: dw 256 * 8 - 1
        dd IDT32
idtr64: dw 256 * 16 - 1
        dd IDT64
ivtr:   dw 256 * 4 - 1
        dd 0

align 16
cur:                      ; the case
c_kind:     db 0          ; 0 protected, 1 virtual-8086, 2 real, 3 compatibility
c_paging:   db 0          ; 0 none, 1 two levels, 2 PAE
c_dump:     db 0
c_codelen:  db 0
c_eflags:   dd 0
c_gpr:      times 8 dd 0
c_eip:      dd 0
c_cs:       dw 0
c_ss:       dw 0
c_ds:       dw 0
c_es:       dw 0
c_fs:       dw 0
c_gs:       dw 0
c_codeaddr: dd 0
            dd 0
c_code:     times 32 db 0
c_patches:  times 8 dd 0

align 16
res:                      ; the result
r_gpr:      times 8 dd 0
r_eflags:   dd 0
r_eip:      dd 0
r_vector:   dd 0
r_error:    dd 0
r_cr2:      dd 0
r_es:       dw 0
r_cs:       dw 0
r_ss:       dw 0
r_ds:       dw 0
r_fs:       dw 0
r_gs:       dw 0
r_hash:     dd 0
r_tables:   dd 0
RES_SIZE    equ $ - res

stackptr:   dd 0          ; far pointer for LSS
            dw 0
temp:       dd 0
running:    dd 0
left:       dd 0
next:       dd 0
errormask:  dd (1 << 8) | (0x1f << 10) | (1 << 17)

; The windows of memory that are restored before each case and hashed after it.
windows:
%assign b 0x30000
%rep 3
	dd b, b + 0x7f80, b + 0xff00
%assign b b + 0x10000
%endrep
WINDOWS equ 9
WINDOW_DWORDS equ 64

align 4096	; writing beside code is slow in every emulator

main:
	mov al, 0xff	; no interrupts from the PIC
	out 0x21, al
	out 0xa1, al
	mov esi, [h_gdt]
	mov edi, GDT
	mov ecx, GDT_DWORDS
	rep movsd
	lgdt [gdtr]
	jmp SEL_CODE32:.cs
.cs:	mov eax, SEL_DATA
	mov ds, eax
	mov es, eax
	mov ss, eax
	mov esp, MON_STACK
	mov fs, eax
	mov gs, eax
	mov eax, cr0
	and eax, ~(CR0_TS | CR0_EM | CR0_CD | CR0_NW)
	or eax, CR0_WP | CR0_NE | CR0_MP
	mov cr0, eax
	mov eax, cr4
	or eax, CR4_OSFXSR | CR4_OSXMMEXCPT
	mov cr4, eax

	; Interrupt tables. Vectors 3, 4, 5 and those from 20h on may be called from ring 3.
	xor ecx, ecx
	mov eax, stubs32
	mov ebx, stubs64
.gate:	mov edx, 0x8e00
	cmp ecx, 0x20
	jae .user
	cmp ecx, 3
	jb .kernel
	cmp ecx, 5
	ja .kernel
.user:	mov dh, 0xee
.kernel:
	mov [IDT32 + ecx * 8], ax
	mov word [IDT32 + ecx * 8 + 2], SEL_CODE32
	mov [IDT32 + ecx * 8 + 4], edx
	push ecx
	shl ecx, 4
	mov [IDT64 + ecx], bx
	mov word [IDT64 + ecx + 2], SEL_CODE64
	mov [IDT64 + ecx + 4], edx
	mov dword [IDT64 + ecx + 8], 0
	mov dword [IDT64 + ecx + 12], 0
	pop ecx
	mov word [IDT32 + ecx * 8 + 6], 1	; all handlers are at 1xxxxh
	push ecx
	shl ecx, 4
	mov word [IDT64 + ecx + 6], 1
	pop ecx
	mov edx, ecx
	imul edx, edx, 6
	add edx, R(stubs16)
	mov [IVT + ecx * 4], dx
	mov word [IVT + ecx * 4 + 2], 0x1000
	add eax, 10
	add ebx, 10
	inc ecx
	cmp ecx, 256
	jb .gate
	lidt [idtr32]

	; Task-state segments: only the stacks for the inner ring.
	mov edi, TSS32
	xor eax, eax
	mov ecx, 0x80
	rep stosd
	mov dword [TSS32 + 4], MON_STACK
	mov word [TSS32 + 8], SEL_DATA
	mov word [TSS32 + 102], 104
	mov dword [TSS64 + 4], MON_STACK
	mov word [TSS64 + 102], 104

	; Page tables: the first MiB one to one; ring 3 may use the case's memory, 20000h to 5ffffh, of which code and the
	; page at 51000h are read only and that at 52000h is not present. IA-32e mode shares the lower levels with PAE.
	mov edi, PD
	mov ecx, 0x7000 / 4
	xor eax, eax
	rep stosd
	mov dword [PD], PT | 7
	mov dword [PDPT], PDPAE | 1
	mov dword [PDPAE], PTPAE | 7
	mov dword [PML4], PDPTLONG | 7
	mov dword [PDPTLONG], PDPAE | 7
	xor ecx, ecx
.page:	mov eax, ecx
	shl eax, 12
	or eax, 3
	cmp ecx, 0x20
	jb .mapped
	cmp ecx, 0x60
	jae .mapped
	or eax, 4
	cmp ecx, 0x30
	jb .readonly
	cmp ecx, 0x51
	jne .notro
.readonly:
	and eax, ~2
.notro:	cmp ecx, 0x52
	jne .mapped
	and eax, ~1
.mapped:
	mov [PT + ecx * 4], eax
	mov [PTPAE + ecx * 8], eax
	inc ecx
	cmp ecx, 0x100
	jb .page

	mov edi, 0x500	; stray jumps in flat segments
	mov eax, 0xcccccccc
	mov ecx, (0x10000 - 0x500) / 4
	rep stosd
	mov edi, 0x20000	; code
	mov eax, 0xcccccccc
	mov ecx, 0x10000 / 4
	rep stosd
	mov edi, 0x30000	; data
	xor eax, eax
	mov ecx, 0x30000 / 4
	rep stosd

	mov eax, [h_count]
	mov [left], eax
	mov eax, [h_cases]
	mov [next], eax

; --- One case ---
case:
	mov esp, MON_STACK
	push dword 2
	popfd
	dec dword [left]
	js finished
	; QEMU may have written to code: it checks no limits.
	mov eax, 0xcccccccc
	mov edi, 0x20000
	mov ecx, 0x100 / 4
	call refill
	mov edi, 0x2ff00
	mov ecx, 0x100 / 4
	call refill
	mov edi, 0x27f80
	mov ecx, 0x280 / 4
	call refill
	mov esi, [next]
	mov edi, cur
	mov ecx, CASE_SIZE / 4
	rep movsd
	mov [next], esi
	mov esi, [h_gdt]
	mov edi, GDT
	mov ecx, GDT_DWORDS
	rep movsd
	mov eax, SEL_TSS32
	ltr ax
	mov eax, SEL_LDT
	lldt ax
	mov esi, [h_template]
	mov ebx, windows
	mov edx, WINDOWS
.restore:
	mov edi, [ebx]
	add ebx, 4
	mov ecx, WINDOW_DWORDS
	rep movsd
	dec edx
	jnz .restore
	mov esi, c_patches
	mov ecx, 4
.patch:	lodsd
	mov edi, eax
	lodsd
	test edi, edi
	jz .nopatch
	mov [edi], eax
.nopatch:
	loop .patch
	mov esi, c_code
	mov edi, [c_codeaddr]
	movzx ecx, byte [c_codelen]
	rep movsb
	mov edi, res
	xor eax, eax
	mov ecx, RES_SIZE / 4
	rep stosd
	mov cr2, eax
	mov dword [running], 1
	mov al, [c_kind]
	cmp al, 1
	je enter_vm86
	cmp al, 2
	je enter_real
	cmp al, 3
	je enter_long
	mov al, [c_paging]
	cmp al, 1
	jb .go
	mov eax, PD
	je .page
	mov eax, cr4
	or eax, CR4_PAE
	mov cr4, eax
	mov eax, PDPT
.page:	mov cr3, eax
	mov eax, cr0
	or eax, CR0_PG
	mov cr0, eax
	jmp .go
.go:	test byte [c_cs], 3
	jz enter_ring0

enter_ring3:
	movzx eax, word [c_ss]
	push eax
	push dword [c_gpr + 16]
	push dword [c_eflags]
	movzx eax, word [c_cs]
	push eax
	push dword [c_eip]
load_and_iret:
	mov es, [c_es]
	mov fs, [c_fs]
	mov gs, [c_gs]
	mov eax, [c_gpr]
	mov ecx, [c_gpr + 4]
	mov edx, [c_gpr + 8]
	mov ebx, [c_gpr + 12]
	mov ebp, [c_gpr + 20]
	mov esi, [c_gpr + 24]
	mov edi, [c_gpr + 28]
	mov ds, [c_ds]
	iretd

enter_ring0:
	mov eax, [c_gpr + 16]
	mov [stackptr], eax
	mov ax, [c_ss]
	mov [stackptr + 4], ax
	push dword [c_eflags]
	popfd
	mov es, [c_es]
	mov fs, [c_fs]
	mov gs, [c_gs]
	mov eax, [c_gpr]
	mov ecx, [c_gpr + 4]
	mov edx, [c_gpr + 8]
	mov ebx, [c_gpr + 12]
	mov ebp, [c_gpr + 20]
	mov esi, [c_gpr + 24]
	mov edi, [c_gpr + 28]
	lss esp, [stackptr]
	mov ds, [c_ds]
	jmp far [cs:c_eip]

enter_vm86:
	mov al, [c_paging]
	test al, al
	jz .go
	mov eax, PD
	mov cr3, eax
	mov eax, cr0
	or eax, CR0_PG
	mov cr0, eax
	jmp .go
.go:	movzx eax, word [c_gs]
	push eax
	mov ax, [c_fs]
	push eax
	mov ax, [c_ds]
	push eax
	mov ax, [c_es]
	push eax
	mov ax, [c_ss]
	push eax
	push dword [c_gpr + 16]
	push dword [c_eflags]
	mov ax, [c_cs]
	push eax
	push dword [c_eip]
	mov eax, [c_gpr]
	mov ecx, [c_gpr + 4]
	mov edx, [c_gpr + 8]
	mov ebx, [c_gpr + 12]
	mov ebp, [c_gpr + 20]
	mov esi, [c_gpr + 24]
	mov edi, [c_gpr + 28]
	iretd

enter_long:
	mov eax, cr4
	or eax, CR4_PAE
	mov cr4, eax
	mov eax, PML4
	mov cr3, eax
	mov ecx, MSR_EFER
	rdmsr
	or eax, EFER_LME
	wrmsr
	mov eax, cr0
	or eax, CR0_PG
	mov cr0, eax
	jmp .long
.long:	mov eax, SEL_TSS64
	ltr ax
	lidt [idtr64]
	jmp enter_ring3

enter_real:
	mov eax, [c_gpr + 16]
	mov [stackptr], eax
	mov ax, [c_ss]
	mov [stackptr + 4], ax
	mov esi, IVT
	xor edi, edi
	mov ecx, 256
	rep movsd
	lidt [ivtr]
	jmp SEL_CODE16:R(.pm16)
bits 16
.pm16:	mov ax, SEL_DATA16
	mov ds, ax
	mov es, ax
	mov fs, ax
	mov gs, ax
	mov ss, ax
	mov eax, cr0
	and al, ~CR0_PE
	mov cr0, eax
	jmp 0x1000:R(.real)
.real:	mov ax, 0x1000
	mov ss, ax
	mov sp, 0xf000
	push dword [cs:R(c_eflags)]
	popfd
	mov es, [cs:R(c_es)]
	mov fs, [cs:R(c_fs)]
	mov gs, [cs:R(c_gs)]
	mov ds, [cs:R(c_ds)]
	mov eax, [cs:R(c_gpr)]
	mov ecx, [cs:R(c_gpr) + 4]
	mov edx, [cs:R(c_gpr) + 8]
	mov ebx, [cs:R(c_gpr) + 12]
	mov ebp, [cs:R(c_gpr) + 20]
	mov esi, [cs:R(c_gpr) + 24]
	mov edi, [cs:R(c_gpr) + 28]
	o32 lss esp, [cs:R(stackptr)]
	jmp dword far [cs:R(c_eip)]

; --- Back from a case ---

; In real mode the stack holds IP, CS, flags; no exception has an error code.
align 2
stubs16:
%assign i 0
%rep 256
	push strict word i
	jmp strict near common16
%assign i i + 1
%endrep
common16:
	push ds
	push ax
	mov ax, 0x1000
	mov ds, ax
	pop word [R(r_gpr)]
	pop word [R(r_ds)]
	pop word [R(r_vector)]
	pop word [R(r_eip)]
	pop word [R(r_cs)]
	pop word [R(r_eflags)]
	mov [R(r_gpr) + 4], ecx
	shr eax, 16
	mov [R(r_gpr) + 2], ax
	mov [R(r_gpr) + 8], edx
	mov [R(r_gpr) + 12], ebx
	mov [R(r_gpr) + 16], esp
	mov [R(r_gpr) + 20], ebp
	mov [R(r_gpr) + 24], esi
	mov [R(r_gpr) + 28], edi
	mov [R(r_es)], es
	mov [R(r_ss)], ss
	mov [R(r_fs)], fs
	mov [R(r_gs)], gs
	mov cx, 8
.wipe:	push word 0
	loop .wipe
	o32 lgdt [R(gdtr)]
	mov eax, cr0
	or al, CR0_PE
	mov cr0, eax
	jmp dword SEL_CODE32:.pm32
bits 32
.pm32:	mov eax, SEL_DATA
	mov ss, eax
	mov esp, MON_STACK
	mov ds, eax
	mov es, eax
	mov fs, eax
	mov gs, eax
	lidt [idtr32]
	jmp complete

; In protected mode the handler is in ring 0; if the case was too, this is still the case's stack.
stubs32:
%assign i 0
%rep 256
	push strict dword i
	jmp strict near common32
%assign i i + 1
%endrep
common32:
	push ds
	push eax
	mov eax, SEL_DATA
	mov ds, eax
	cld
	pop dword [r_gpr]
	pop dword [temp]
	pop dword [r_vector]
	mov [r_gpr + 4], ecx
	mov [r_gpr + 8], edx
	mov [r_gpr + 12], ebx
	mov [r_gpr + 20], ebp
	mov [r_gpr + 24], esi
	mov [r_gpr + 28], edi
	mov ax, [temp]
	mov [r_ds], ax
	mov [r_es], es
	mov [r_fs], fs
	mov [r_gs], gs
	mov eax, [r_vector]
	cmp eax, 32
	jae .nocode
	bt dword [errormask], eax
	jnc .nocode
	pop dword [r_error]
.nocode:
	pop dword [r_eip]
	pop eax
	mov [r_cs], ax
	pop dword [r_eflags]
	test dword [r_eflags], FLAG_VM
	jnz .vm86
	test al, 3
	jnz .outer
	mov [r_gpr + 16], esp
	mov [r_ss], ss
	mov ecx, 8
.wipe:	push dword 0
	loop .wipe
	jmp .flat
.vm86:	pop dword [r_gpr + 16]
	pop eax
	mov [r_ss], ax
	pop eax
	mov [r_es], ax
	pop eax
	mov [r_ds], ax
	pop eax
	mov [r_fs], ax
	pop eax
	mov [r_gs], ax
	jmp .flat
.outer:	pop dword [r_gpr + 16]
	pop eax
	mov [r_ss], ax
.flat:	mov eax, SEL_DATA
	mov ss, eax
	mov esp, MON_STACK
	mov es, eax
	mov fs, eax
	mov gs, eax
	mov eax, cr2
	mov [r_cr2], eax
	mov eax, cr0
	and eax, ~CR0_PG
	mov cr0, eax
	jmp .paging
.paging:
	mov eax, cr4
	and eax, ~CR4_PAE
	mov cr4, eax
	jmp complete

; From compatibility mode the handler is 64-bit code.
bits 64
stubs64:
%assign i 0
%rep 256
	push strict dword i
	jmp strict near common64
%assign i i + 1
%endrep
common64:
	mov [r_gpr], eax
	mov [r_gpr + 4], ecx
	mov [r_gpr + 8], edx
	mov [r_gpr + 12], ebx
	mov [r_gpr + 20], ebp
	mov [r_gpr + 24], esi
	mov [r_gpr + 28], edi
	mov [r_ds], ds
	mov [r_es], es
	mov [r_fs], fs
	mov [r_gs], gs
	cld
	pop rax
	mov [r_vector], eax
	cmp eax, 32
	jae .nocode
	bt dword [errormask], eax
	jnc .nocode
	pop rax
	mov [r_error], eax
.nocode:
	pop rax
	mov [r_eip], eax
	pop rax
	mov [r_cs], ax
	pop rax
	mov [r_eflags], eax
	pop rax
	mov [r_gpr + 16], eax
	pop rax
	mov [r_ss], ax
	mov rax, cr2
	mov [r_cr2], eax
	push qword SEL_CODE32
	push qword .compat
	retfq
bits 32
.compat:
	mov eax, SEL_DATA
	mov ds, eax
	mov es, eax
	mov ss, eax
	mov esp, MON_STACK
	mov fs, eax
	mov gs, eax
	mov eax, cr0
	and eax, ~CR0_PG
	mov cr0, eax
	jmp .off
.off:	mov ecx, MSR_EFER
	rdmsr
	and eax, ~EFER_LME
	wrmsr
	mov eax, cr4
	and eax, ~CR4_PAE
	mov cr4, eax
	lidt [idtr32]

; The state is saved; protected mode without paging.
complete:
	cld
	dec dword [running]
	jnz broken
	mov edi, [c_codeaddr]
	movzx ecx, byte [c_codelen]
	mov al, 0xcc
	rep stosb
	mov edx, 0x811c9dc5
	mov ebx, windows
	mov ebp, WINDOWS
.window:
	mov esi, [ebx]
	add ebx, 4
	mov ecx, WINDOW_DWORDS
	call hash
	dec ebp
	jnz .window
	mov [r_hash], edx
	xor edx, edx
	mov esi, GDT
	mov ecx, GDT_DWORDS
	call hash
	mov [r_tables], edx
	mov dx, 0xe9
	mov esi, res
	mov ecx, RES_SIZE
	rep outsb
	cmp byte [c_dump], 0
	je case
	mov ebx, windows
	mov ebp, WINDOWS
.dump:	mov esi, [ebx]
	add ebx, 4
	mov ecx, WINDOW_DWORDS * 4
	rep outsb
	dec ebp
	jnz .dump
	mov esi, GDT
	mov ecx, GDT_DWORDS * 4
	rep outsb
	jmp case

refill:	mov ebx, edi
	mov edx, ecx
	repe scasd
	je .ret
	mov edi, ebx
	mov ecx, edx
	rep stosd
.ret:	ret

hash:	lodsd
	xor edx, eax
	imul edx, edx, 0x01000193
	rol edx, 5
	loop hash
	ret

; An exception of the monitor's own: say so and end.
broken:
	mov dx, 0xe9
	mov esi, broken_text
	mov ecx, broken_end - broken_text
	rep outsb
	mov esi, res
	mov ecx, RES_SIZE
	rep outsb
finished:
	POWER_OFF
broken_text:	db "the monitor failed: "
broken_end:
align 4
low_end:
