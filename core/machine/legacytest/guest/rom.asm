; The firmware that Bochs starts, at the start of the last 64 KiB; the reset vector jumps here. It loads and enters the multiboot image at 1 MiB as the specification wants it.
org 0xffff0000
bits 16
start:
	o32 lgdt [cs:gdtr - $$]
	mov eax, cr0
	or al, 1
	mov cr0, eax
	jmp dword 8:.pm32
bits 32
.pm32:	mov eax, 16
	mov ds, eax
	mov es, eax
	mov fs, eax
	mov gs, eax
	mov ss, eax
	mov esi, mark
	mov ecx, markend - mark
	mov dx, 0xe9
	cld
	rep outsb
	; Read the image from the first disk: LBA, one sector a command (ATA, READ SECTORS).
	mov edi, 0x100000
	xor ebx, ebx
.read:	cmp ebx, [0xffffffe0]	; how many sectors; run.go knows
	jae .loaded
	mov dx, 0x1f2
	mov al, 1
	out dx, al
	mov eax, ebx
	inc dx
	out dx, al
	shr eax, 8
	inc dx
	out dx, al
	shr eax, 8
	inc dx
	out dx, al
	mov al, 0xe0
	inc dx
	out dx, al
	mov al, 0x20
	inc dx
	out dx, al
.wait:	in al, dx
	and al, 0x88
	cmp al, 0x08
	jne .wait
	mov dx, 0x1f0
	mov ecx, 256
	rep insw
	inc ebx
	jmp .read
.loaded:
	mov eax, 0x2badb002
	xor ebx, ebx
	jmp [0x10001c]	; the entry address in the header
align 8
gdt:	dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	dw 23
	dd gdt
mark:	db 1, "=image=", 2
markend:
