package isa

// rowsSystem are instructions of systems code: segments, far transfers, ports, descriptor tables, machine state. See the head of rows.go for the notation.
const rowsSystem = `
# Segment registers and far pointers.
06             | PUSH_SEG ES:r           | rSP:rw,stack:w              |                   | no64 sys                 | copy
0E             | PUSH_SEG CS:r           | rSP:rw,stack:w              |                   | no64 sys                 | copy
16             | PUSH_SEG SS:r           | rSP:rw,stack:w              |                   | no64 sys                 | copy
1E             | PUSH_SEG DS:r           | rSP:rw,stack:w              |                   | no64 sys                 | copy
0F A0          | PUSH_SEG FS:r           | rSP:rw,stack:w              |                   | d64 sys                  | copy
0F A8          | PUSH_SEG GS:r           | rSP:rw,stack:w              |                   | d64 sys                  | copy
07             | POP_SEG ES:w            | rSP:rw,stack:r              |                   | no64 sys ends            | none
17             | POP_SEG SS:w            | rSP:rw,stack:r              |                   | no64 sys ends            | none
1F             | POP_SEG DS:w            | rSP:rw,stack:r              |                   | no64 sys ends            | none
0F A1          | POP_SEG FS:w            | rSP:rw,stack:r              |                   | d64 sys ends             | none
0F A9          | POP_SEG GS:w            | rSP:rw,stack:r              |                   | d64 sys ends             | none
8C /r          | MOV_FROM_SEG Rv/Mw:w,Sw |                             |                   | sys                      | copy
8E /r          | MOV_TO_SEG Sw:w,Ew      |                             |                   | sys ends                 | none
C4 /r          | LES Gv:w,Mp             | ES:w                        |                   | no64 sys ends            | copy
C5 /r          | LDS Gv:w,Mp             | DS:w                        |                   | no64 sys ends            | copy
0F B2 /r       | LSS Gv:w,Mp             | SS:w                        |                   | sys ends                 | copy
0F B4 /r       | LFS Gv:w,Mp             | FS:w                        |                   | sys ends                 | copy
0F B5 /r       | LGS Gv:w,Mp             | GS:w                        |                   | sys ends                 | copy
9A             | CALL_FAR Ap:r           | rSP:rw,stack:w,CS:rw        |                   | no64 sys ends            | none
FF /3          | CALL_FAR Mp:r           | rSP:rw,stack:w,CS:rw        |                   | sys ends                 | none
EA             | JMP_FAR Ap:r            | CS:w                        |                   | no64 sys ends            | none
FF /5          | JMP_FAR Mp:r            | CS:w                        |                   | sys ends                 | none
CA             | RET_FAR Iw:r            | rSP:rw,stack:r,CS:w         |                   | sys ends                 | none
CB             | RET_FAR                 | rSP:rw,stack:r,CS:w         |                   | sys ends                 | none
CF             | IRET                    | rSP:rw,stack:r,CS:w         | n>oszapcditnlkbrv | sys ends                 | none

# Interrupts by instruction.
CC             | INT3                    |                             | *>itnrv           | sys ends                 | none
CD             | INT Ib:r                |                             | *>itnrv           | sys ends                 | none
CE             | INTO                    |                             | *>itnrv           | no64 sys ends            | none
F1             | INT1                    |                             | *>itnrv           | sys ends undoc           | none
62 /r          | BOUND Gv:r,Ma           |                             |                   | no64 sys                 | none
0F FF /r       | UD0 Gv:-,Ev:-           |                             |                   | sys ends                 | none
0F B9 /r       | UD1 Gv:-,Ev:-           |                             |                   | sys ends                 | none
0F 0B          | UD2                     |                             |                   | sys ends                 | none

# System calls and returns.
NP 0F 05       | SYSCALL                 | RCX:w,R11:w,CS:w,SS:w       | *>oszapcditnlkbrv | SYSCALL only64 sys ends  | none
NP 0F 07       | SYSRET                  | RCX:r,R11:r,CS:w,SS:w       | >oszapcditnlkbrv  | SYSCALL only64 priv ends | none
NP 0F 34       | SYSENTER                | rSP:w,CS:w,SS:w             | >irv              | SEP pm sys ends          | none
NP 0F 35       | SYSEXIT                 | RCX:r,RDX:r,rSP:w,CS:w,SS:w |                   | SEP pm priv ends         | none

# Ports, interrupts flag, halting.
E4             | IN AL:w,Ib              |                             |                   | sys                      | none
E5             | IN eAX:w,Ib             |                             |                   | z32 sys                  | none
EC             | IN AL:w,DX              |                             |                   | sys                      | none
ED             | IN eAX:w,DX             |                             |                   | z32 sys                  | none
E6             | OUT Ib:r,AL             |                             |                   | sys                      | none
E7             | OUT Ib:r,eAX            |                             |                   | z32 sys                  | none
EE             | OUT DX:r,AL             |                             |                   | sys                      | none
EF             | OUT DX:r,eAX            |                             |                   | z32 sys                  | none
F4             | HLT                     |                             |                   | priv ends                | none
FA             | CLI                     |                             | l>i               | sys                      | none
FB             | STI                     |                             | l>i               | sys ends                 | none

# Descriptor tables and protection (opcode extension groups 6 and 7).
0F 00 /0       | SLDT Rv/Mw:w            |                             |                   | pm sys                   | none
0F 00 /1       | STR Rv/Mw:w             |                             |                   | pm sys                   | none
0F 00 /2       | LLDT Ew:r               |                             |                   | pm priv                  | none
0F 00 /3       | LTR Ew:r                |                             |                   | pm priv                  | none
0F 00 /4       | VERR Ew:r               |                             | >z                | pm sys                   | compare
0F 00 /5       | VERW Ew:r               |                             | >z                | pm sys                   | compare
0F 02 /r       | LAR Gv:rw?,Ew           |                             | >z                | pm sys                   | mix
0F 03 /r       | LSL Gv:rw?,Ew           |                             | >z                | pm sys                   | mix
63 /r          | ARPL Ew,Gw              |                             | >z                | no64 pm sys              | mix
0F 01 /0       | SGDT Ms:w               |                             |                   | f64 sys                  | none
0F 01 /1       | SIDT Ms:w               |                             |                   | f64 sys                  | none
0F 01 /2       | LGDT Ms:r               |                             |                   | f64 priv ends            | none
0F 01 /3       | LIDT Ms:r               |                             |                   | f64 priv ends            | none
0F 01 /4       | SMSW Rv/Mw:w            |                             |                   | sys                      | none
0F 01 /6       | LMSW Ew:r               |                             |                   | priv ends                | none
0F 01 /7       | INVLPG Mb:-             |                             |                   | priv ends                | none
0F 01 C1       | VMCALL                  |                             |                   | VMX sys ends             | none
0F 01 D9       | VMMCALL                 |                             |                   | SVM sys ends             | none
NP 0F 01 C8    | MONITOR BAb:r           | RCX:r,RDX:r                 |                   | MONITOR priv             | none
NP 0F 01 C9    | MWAIT                   | RAX:r,RCX:r                 |                   | MONITOR priv ends        | none
NP 0F 01 CA    | CLAC                    |                             | >k                | SMAP priv                | none
NP 0F 01 CB    | STAC                    |                             | >k                | SMAP priv                | none
NP 0F 01 D0    | XGETBV                  | ECX:r,EAX:w,EDX:w           |                   | XSAVE sys                | none
NP 0F 01 D1    | XSETBV                  | ECX:r,EAX:r,EDX:r           |                   | XSAVE priv ends          | none
NP 0F 01 EE    | RDPKRU                  | ECX:r,EAX:w,EDX:w           |                   | PKU sys                  | none
NP 0F 01 EF    | WRPKRU                  | ECX:r,EAX:r,EDX:r           |                   | PKU sys                  | none
0F 01 F8       | SWAPGS                  |                             |                   | only64 priv              | none
0F 01 F9       | RDTSCP                  | EAX:w,EDX:w,ECX:w           |                   | RDTSCP sys               | none

# Control and debug registers: whatever mod says, the operand is a register.
0F 20 /r       | MOV_FROM_CR Ry:w,Cy     |                             | ?oszapc           | anymod f64 priv          | none
0F 21 /r       | MOV_FROM_DR Ry:w,Dy     |                             | ?oszapc           | anymod f64 priv          | none
0F 22 /r       | MOV_TO_CR Cy:w,Ry       |                             | ?oszapc           | anymod f64 priv ends     | none
0F 23 /r       | MOV_TO_DR Dy:w,Ry       |                             | ?oszapc           | anymod f64 priv ends     | none
0F 06          | CLTS                    |                             |                   | priv ends                | none
0F 08          | INVD                    |                             |                   | priv                     | none
0F 09          | WBINVD                  |                             |                   | priv                     | none
66 0F 38 82 /r | INVPCID Gy:r,Mdq        |                             |                   | INVPCID f64 ua priv ends | none
0F AA          | RSM                     |                             | >oszapcditnlkbrv  | priv ends                | none

# Machine-specific registers, counters, identification, FS and GS bases.
0F 30          | WRMSR                   | ECX:r,EAX:r,EDX:r           |                   | MSR priv ends            | none
0F 32          | RDMSR                   | ECX:r,EAX:w,EDX:w           |                   | MSR priv                 | none
0F 31          | RDTSC                   | EAX:w,EDX:w                 |                   | TSC sys                  | none
0F 33          | RDPMC                   | ECX:r,EAX:w,EDX:w           |                   | sys                      | none
0F A2          | CPUID                   | EAX:rw,ECX:rw,EDX:w,EBX:w   |                   | sys                      | special
F3 0F C7 /7    | RDPID Ry:w              |                             |                   | RDPID f64 sys            | none
F3 0F AE /0    | RDFSBASE Ry:w           |                             |                   | FSGSBASE only64 sys      | none
F3 0F AE /1    | RDGSBASE Ry:w           |                             |                   | FSGSBASE only64 sys      | none
F3 0F AE /2    | WRFSBASE Ry:r           |                             |                   | FSGSBASE only64 sys      | none
F3 0F AE /3    | WRGSBASE Ry:r           |                             |                   | FSGSBASE only64 sys      | none

# Saving and restoring the vector and x87 state; with REX.W these are the "64" forms.
NP 0F AE /0    | FXSAVE Mfx:w            |                             |                   | FXSR                     | special
NP 0F AE /1    | FXRSTOR Mfx:r           |                             |                   | FXSR                     | special
NP 0F AE /4    | XSAVE Mxs:rw            | EAX:r,EDX:r                 |                   | XSAVE sys                | special
NP 0F AE /5    | XRSTOR Mxs:r            | EAX:r,EDX:r                 |                   | XSAVE sys                | special
NP 0F AE /6    | XSAVEOPT Mxs:rw         | EAX:r,EDX:r                 |                   | XSAVEOPT sys             | special
NP 0F C7 /4    | XSAVEC Mxs:w            | EAX:r,EDX:r                 |                   | XSAVEC sys               | special
NP 0F C7 /3    | XRSTORS Mxs:r           | EAX:r,EDX:r                 |                   | XSAVES priv              | special
NP 0F C7 /5    | XSAVES Mxs:w            | EAX:r,EDX:r                 |                   | XSAVES priv              | special
NP 0F AE /2    | LDMXCSR Md:r            | MXCSR:w                     |                   | SSE                      | copy
NP 0F AE /3    | STMXCSR Md:w            | MXCSR:r                     |                   | SSE                      | copy
`
