//go:build linux

#include "go_asm.h"
#include "textflag.h"

// The child's program: see native.go. It is not called; its bytes are copied into an ELF file. It may refer to nothing
// but itself and to absolute addresses below 2 GiB.
//
// It begins with three jumps, which are its entry points: start, end of a case, signal.
TEXT ·blob(SB),NOSPLIT|NOFRAME,$0-0
	JMP start
	JMP caseEnd
	JMP signal

start:
	// mmap(ctlBase, pageSize, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED|MAP_POPULATE, 3, 0)
	MOVL $9, AX
	MOVL $const_ctlBase, DI
	MOVL $const_pageSize, SI
	MOVL $3, DX
	MOVL $0x8011, R10
	MOVL $3, R8
	XORL R9, R9
	SYSCALL
	MOVL $const_ctlSetup, BX

setup:
	MOVQ 0(BX), AX
	CMPQ AX, $-1
	JEQ  ring
	MOVQ 8(BX), DI
	MOVQ 16(BX), SI
	MOVQ 24(BX), DX
	MOVQ 32(BX), R10
	MOVQ 40(BX), R8
	MOVQ 48(BX), R9
	SYSCALL
	MOVQ AX, 0(BX)
	ADDQ $56, BX
	JMP  setup

	// Tell the parent that all is done, and wait for more.
ring:
	MOVL $1, AX
	MOVL $5, DI
	MOVL $const_ctlWord, SI
	MOVL $8, DX
	SYSCALL
	XORL AX, AX
	MOVL $4, DI
	MOVL $const_ctlWord, SI
	MOVL $8, DX
	SYSCALL
	CMPQ AX, $8
	JNE  leave
	JMP  run

leave:
	MOVL $60, AX
	XORL DI, DI
	SYSCALL
	INT  $3

	// The next case: BX is its record.
run:
	MOVQ const_ctlCurrent, BX
	CMPQ BX, const_ctlEnd
	JAE  ring

	// Data pages.
	MOVQ $const_shTemplate, SI
	MOVL $const_dataBase, DI
	MOVL $(const_dataSize / 8), CX
	REP
	MOVSQ
	MOVQ const_recPatches(BX), DX
	LEAQ const_recPatch(BX), SI

patch:
	TESTQ DX, DX
	JEQ   load
	MOVQ  0(SI), DI
	MOVQ  8(SI), CX
	ADDQ  $16, SI
	REP
	MOVSB
	ADDQ  $7, SI
	ANDQ  $-8, SI
	DECQ  DX
	JMP   patch

	// The state. Each POP takes one register from the record, RSP last.
load:
	CMPQ      const_ctlBases, $0
	JEQ       state
	MOVQ      const_recFS(BX), AX
	WRFSBASEQ AX
	MOVQ      const_recGS(BX), AX
	WRGSBASEQ AX

state:
	FXRSTOR64 const_recFX(BX)
	MOVQ      const_recTarget(BX), AX
	MOVQ      AX, const_ctlTarget
	LEAQ      const_recFlags(BX), SP
	POPFQ
	POPQ      AX
	POPQ      CX
	POPQ      DX
	POPQ      BX
	POPQ      BP
	POPQ      SI
	POPQ      DI
	POPQ      R8
	POPQ      R9
	POPQ      R10
	POPQ      R11
	POPQ      R12
	POPQ      R13
	POPQ      R14
	POPQ      R15
	POPQ      SP
	BYTE      $0xff; BYTE $0x24; BYTE $0x25; LONG $const_ctlTarget // JMP [ctlTarget], which the assembler does not know

	// A case came to its end: store the state into the record, from the end to its beginning.
caseEnd:
	MOVQ     SP, const_ctlSP
	MOVQ     const_ctlCurrent, SP
	LEAQ     (const_recOutFlags+0x88)(SP), SP
	PUSHQ    const_ctlSP
	PUSHQ    R15
	PUSHQ    R14
	PUSHQ    R13
	PUSHQ    R12
	PUSHQ    R11
	PUSHQ    R10
	PUSHQ    R9
	PUSHQ    R8
	PUSHQ    DI
	PUSHQ    SI
	PUSHQ    BP
	PUSHQ    BX
	PUSHQ    DX
	PUSHQ    CX
	PUSHQ    AX
	PUSHFQ
	MOVQ     const_ctlCurrent, BX
	FXSAVE64 const_recOutFX(BX)
	MOVQ     $0, const_recSignal(BX)
	JMP      after

	// A case raised a signal: DI is its number, SI the siginfo, DX the context, which has the state. We never return
	// from the handler; the signal is not blocked (SA_NODEFER).
signal:
	MOVQ const_ctlCurrent, BX
	MOVQ DI, const_recSignal(BX)
	LEAQ const_recInfo(BX), DI
	MOVL $6, CX
	REP
	MOVSQ
	LEAQ const_recContext(BX), DI
	LEAQ 40(DX), SI
	MOVL $23, CX
	REP
	MOVSQ
	LEAQ const_recOutFX(BX), DI
	MOVQ 224(DX), SI
	MOVL $58, CX                     // the last 48 bytes are the kernel's
	REP
	MOVSQ

	// Keep the data pages, in plain flags.
after:
	MOVQ  $const_shStack, SP
	PUSHQ $2
	POPFQ
	CMPQ  const_ctlBases, $0
	JEQ   data
	RDFSBASEQ AX
	MOVQ      AX, const_recOutFS(BX)
	RDGSBASEQ AX
	MOVQ      AX, const_recOutGS(BX)

data:
	MOVL $const_dataBase, SI
	LEAQ const_recData(BX), DI
	MOVL $(const_dataSize / 8), CX
	REP
	MOVSQ
	ADDQ $const_recordSize, BX
	MOVQ BX, const_ctlCurrent
	JMP  run

	// The marker of the end.
	BYTE $0x0f; BYTE $0xff; BYTE $0x0f; BYTE $0xff; BYTE $0x0f; BYTE $0xff; BYTE $0x0f; BYTE $0xff

// func blobAddr() uintptr
TEXT ·blobAddr(SB),NOSPLIT,$0-8
	LEAQ ·blob(SB), AX
	MOVQ AX, ret+0(FP)
	RET
