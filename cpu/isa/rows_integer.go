package isa

// rowsInteger are the general-purpose instructions. See the head of rows.go for the notation.
const rowsInteger = `
# Arithmetic and logic: the eight operations in their six classic forms.
00 /r           | ADD Eb,Gb         |                             | >oszapc        | lock             | carry
01 /r           | ADD Ev,Gv         |                             | >oszapc        | lock             | carry
02 /r           | ADD Gb,Eb         |                             | >oszapc        |                  | carry
03 /r           | ADD Gv,Ev         |                             | >oszapc        |                  | carry
04              | ADD AL,Ib         |                             | >oszapc        |                  | carry
05              | ADD rAX,Iz        |                             | >oszapc        |                  | carry
80 /0           | ADD Eb,Ib         |                             | >oszapc        | lock             | carry
81 /0           | ADD Ev,Iz         |                             | >oszapc        | lock             | carry
82 /0           | ADD Eb,Ib         |                             | >oszapc        | lock no64        | carry
83 /0           | ADD Ev,Ibs        |                             | >oszapc        | lock             | carry
08 /r           | OR Eb,Gb          |                             | >oszpc?a       | lock             | bitwise
09 /r           | OR Ev,Gv          |                             | >oszpc?a       | lock             | bitwise
0A /r           | OR Gb,Eb          |                             | >oszpc?a       |                  | bitwise
0B /r           | OR Gv,Ev          |                             | >oszpc?a       |                  | bitwise
0C              | OR AL,Ib          |                             | >oszpc?a       |                  | bitwise
0D              | OR rAX,Iz         |                             | >oszpc?a       |                  | bitwise
80 /1           | OR Eb,Ib          |                             | >oszpc?a       | lock             | bitwise
81 /1           | OR Ev,Iz          |                             | >oszpc?a       | lock             | bitwise
82 /1           | OR Eb,Ib          |                             | >oszpc?a       | lock no64        | bitwise
83 /1           | OR Ev,Ibs         |                             | >oszpc?a       | lock             | bitwise
10 /r           | ADC Eb,Gb         |                             | c>oszapc       | lock             | carry
11 /r           | ADC Ev,Gv         |                             | c>oszapc       | lock             | carry
12 /r           | ADC Gb,Eb         |                             | c>oszapc       |                  | carry
13 /r           | ADC Gv,Ev         |                             | c>oszapc       |                  | carry
14              | ADC AL,Ib         |                             | c>oszapc       |                  | carry
15              | ADC rAX,Iz        |                             | c>oszapc       |                  | carry
80 /2           | ADC Eb,Ib         |                             | c>oszapc       | lock             | carry
81 /2           | ADC Ev,Iz         |                             | c>oszapc       | lock             | carry
82 /2           | ADC Eb,Ib         |                             | c>oszapc       | lock no64        | carry
83 /2           | ADC Ev,Ibs        |                             | c>oszapc       | lock             | carry
18 /r           | SBB Eb,Gb         |                             | c>oszapc       | lock             | carry
19 /r           | SBB Ev,Gv         |                             | c>oszapc       | lock             | carry
1A /r           | SBB Gb,Eb         |                             | c>oszapc       |                  | carry
1B /r           | SBB Gv,Ev         |                             | c>oszapc       |                  | carry
1C              | SBB AL,Ib         |                             | c>oszapc       |                  | carry
1D              | SBB rAX,Iz        |                             | c>oszapc       |                  | carry
80 /3           | SBB Eb,Ib         |                             | c>oszapc       | lock             | carry
81 /3           | SBB Ev,Iz         |                             | c>oszapc       | lock             | carry
82 /3           | SBB Eb,Ib         |                             | c>oszapc       | lock no64        | carry
83 /3           | SBB Ev,Ibs        |                             | c>oszapc       | lock             | carry
20 /r           | AND Eb,Gb         |                             | >oszpc?a       | lock             | bitwise
21 /r           | AND Ev,Gv         |                             | >oszpc?a       | lock             | bitwise
22 /r           | AND Gb,Eb         |                             | >oszpc?a       |                  | bitwise
23 /r           | AND Gv,Ev         |                             | >oszpc?a       |                  | bitwise
24              | AND AL,Ib         |                             | >oszpc?a       |                  | bitwise
25              | AND rAX,Iz        |                             | >oszpc?a       |                  | bitwise
80 /4           | AND Eb,Ib         |                             | >oszpc?a       | lock             | bitwise
81 /4           | AND Ev,Iz         |                             | >oszpc?a       | lock             | bitwise
82 /4           | AND Eb,Ib         |                             | >oszpc?a       | lock no64        | bitwise
83 /4           | AND Ev,Ibs        |                             | >oszpc?a       | lock             | bitwise
28 /r           | SUB Eb,Gb         |                             | >oszapc        | lock             | carry
29 /r           | SUB Ev,Gv         |                             | >oszapc        | lock             | carry
2A /r           | SUB Gb,Eb         |                             | >oszapc        |                  | carry
2B /r           | SUB Gv,Ev         |                             | >oszapc        |                  | carry
2C              | SUB AL,Ib         |                             | >oszapc        |                  | carry
2D              | SUB rAX,Iz        |                             | >oszapc        |                  | carry
80 /5           | SUB Eb,Ib         |                             | >oszapc        | lock             | carry
81 /5           | SUB Ev,Iz         |                             | >oszapc        | lock             | carry
82 /5           | SUB Eb,Ib         |                             | >oszapc        | lock no64        | carry
83 /5           | SUB Ev,Ibs        |                             | >oszapc        | lock             | carry
30 /r           | XOR Eb,Gb         |                             | >oszpc?a       | lock             | bitwise
31 /r           | XOR Ev,Gv         |                             | >oszpc?a       | lock             | bitwise
32 /r           | XOR Gb,Eb         |                             | >oszpc?a       |                  | bitwise
33 /r           | XOR Gv,Ev         |                             | >oszpc?a       |                  | bitwise
34              | XOR AL,Ib         |                             | >oszpc?a       |                  | bitwise
35              | XOR rAX,Iz        |                             | >oszpc?a       |                  | bitwise
80 /6           | XOR Eb,Ib         |                             | >oszpc?a       | lock             | bitwise
81 /6           | XOR Ev,Iz         |                             | >oszpc?a       | lock             | bitwise
82 /6           | XOR Eb,Ib         |                             | >oszpc?a       | lock no64        | bitwise
83 /6           | XOR Ev,Ibs        |                             | >oszpc?a       | lock             | bitwise
38 /r           | CMP Eb:r,Gb       |                             | >oszapc        |                  | compare
39 /r           | CMP Ev:r,Gv       |                             | >oszapc        |                  | compare
3A /r           | CMP Gb:r,Eb       |                             | >oszapc        |                  | compare
3B /r           | CMP Gv:r,Ev       |                             | >oszapc        |                  | compare
3C              | CMP AL:r,Ib       |                             | >oszapc        |                  | compare
3D              | CMP rAX:r,Iz      |                             | >oszapc        |                  | compare
80 /7           | CMP Eb:r,Ib       |                             | >oszapc        |                  | compare
81 /7           | CMP Ev:r,Iz       |                             | >oszapc        |                  | compare
82 /7           | CMP Eb:r,Ib       |                             | >oszapc        | no64             | compare
83 /7           | CMP Ev:r,Ibs      |                             | >oszapc        |                  | compare
84 /r           | TEST Eb:r,Gb      |                             | >oszpc?a       |                  | compare
85 /r           | TEST Ev:r,Gv      |                             | >oszpc?a       |                  | compare
A8              | TEST AL:r,Ib      |                             | >oszpc?a       |                  | compare
A9              | TEST rAX:r,Iz     |                             | >oszpc?a       |                  | compare
F6 /0           | TEST Eb:r,Ib      |                             | >oszpc?a       |                  | compare
F6 /1           | TEST Eb:r,Ib      |                             | >oszpc?a       | undoc            | compare
F7 /0           | TEST Ev:r,Iz      |                             | >oszpc?a       |                  | compare
F7 /1           | TEST Ev:r,Iz      |                             | >oszpc?a       | undoc            | compare
40 +r           | INC Zv            |                             | >oszap         | no64             | carry
48 +r           | DEC Zv            |                             | >oszap         | no64             | carry
FE /0           | INC Eb            |                             | >oszap         | lock             | carry
FF /0           | INC Ev            |                             | >oszap         | lock             | carry
FE /1           | DEC Eb            |                             | >oszap         | lock             | carry
FF /1           | DEC Ev            |                             | >oszap         | lock             | carry
F6 /2           | NOT Eb            |                             |                | lock             | bitwise
F7 /2           | NOT Ev            |                             |                | lock             | bitwise
F6 /3           | NEG Eb            |                             | >oszapc        | lock             | carry
F7 /3           | NEG Ev            |                             | >oszapc        | lock             | carry
F6 /4           | MUL Eb:r          | AL:r,AX:w                   | >oc?szap       |                  | mix
F7 /4           | MUL Ev:r          | rAX:rw,rDX:w                | >oc?szap       |                  | mix
F6 /5           | IMUL1 Eb:r        | AL:r,AX:w                   | >oc?szap       |                  | mix
F7 /5           | IMUL1 Ev:r        | rAX:rw,rDX:w                | >oc?szap       |                  | mix
0F AF /r        | IMUL2 Gv,Ev       |                             | >oc?szap       |                  | mix
69 /r           | IMUL3 Gv:w,Ev,Iz  |                             | >oc?szap       |                  | mix
6B /r           | IMUL3 Gv:w,Ev,Ibs |                             | >oc?szap       |                  | mix
F6 /6           | DIV Eb:r          | AX:rw                       | ?oszapc        |                  | mix
F7 /6           | DIV Ev:r          | rAX:rw,rDX:rw               | ?oszapc        |                  | mix
F6 /7           | IDIV Eb:r         | AX:rw                       | ?oszapc        |                  | mix
F7 /7           | IDIV Ev:r         | rAX:rw,rDX:rw               | ?oszapc        |                  | mix
27              | DAA               | AL:rw                       | ac>szapc?o     | no64             | mix
2F              | DAS               | AL:rw                       | ac>szapc?o     | no64             | mix
37              | AAA               | AX:rw                       | a>ac?oszp      | no64             | mix
3F              | AAS               | AX:rw                       | a>ac?oszp      | no64             | mix
D4              | AAM Ib:r          | AL:r,AX:w                   | >szp?oac       | no64             | mix
D5              | AAD Ib:r          | AX:rw                       | >szp?oac       | no64             | mix
98              | CBW               | rAX:w,hAX:r                 |                |                  | signext
99              | CWD               | rAX:r,rDX:w                 |                |                  | mix

# Shifts and rotates; /6 is an undocumented twin of /4.
C0 /0           | ROL Eb,Ib         |                             | >oc?o          | u:rot            | rotate
C1 /0           | ROL Ev,Ib         |                             | >oc?o          | u:rot            | rotate
D0 /0           | ROL Eb,1          |                             | >oc            |                  | rotate
D1 /0           | ROL Ev,1          |                             | >oc            |                  | rotate
D2 /0           | ROL Eb,CL         |                             | >oc?o          | u:rot            | rotate
D3 /0           | ROL Ev,CL         |                             | >oc?o          | u:rot            | rotate
C0 /1           | ROR Eb,Ib         |                             | >oc?o          | u:rot            | rotate
C1 /1           | ROR Ev,Ib         |                             | >oc?o          | u:rot            | rotate
D0 /1           | ROR Eb,1          |                             | >oc            |                  | rotate
D1 /1           | ROR Ev,1          |                             | >oc            |                  | rotate
D2 /1           | ROR Eb,CL         |                             | >oc?o          | u:rot            | rotate
D3 /1           | ROR Ev,CL         |                             | >oc?o          | u:rot            | rotate
C0 /2           | RCL Eb,Ib         |                             | c>oc?o         | u:rot            | rotate
C1 /2           | RCL Ev,Ib         |                             | c>oc?o         | u:rot            | rotate
D0 /2           | RCL Eb,1          |                             | c>oc           |                  | rotate
D1 /2           | RCL Ev,1          |                             | c>oc           |                  | rotate
D2 /2           | RCL Eb,CL         |                             | c>oc?o         | u:rot            | rotate
D3 /2           | RCL Ev,CL         |                             | c>oc?o         | u:rot            | rotate
C0 /3           | RCR Eb,Ib         |                             | c>oc?o         | u:rot            | rotate
C1 /3           | RCR Ev,Ib         |                             | c>oc?o         | u:rot            | rotate
D0 /3           | RCR Eb,1          |                             | c>oc           |                  | rotate
D1 /3           | RCR Ev,1          |                             | c>oc           |                  | rotate
D2 /3           | RCR Eb,CL         |                             | c>oc?o         | u:rot            | rotate
D3 /3           | RCR Ev,CL         |                             | c>oc?o         | u:rot            | rotate
C0 /4           | SHL Eb,Ib         |                             | >oszpc?oac     | u:shift          | shl
C1 /4           | SHL Ev,Ib         |                             | >oszpc?oac     | u:shift          | shl
D0 /4           | SHL Eb,1          |                             | >oszpc?a       |                  | shl
D1 /4           | SHL Ev,1          |                             | >oszpc?a       |                  | shl
D2 /4           | SHL Eb,CL         |                             | >oszpc?oac     | u:shift          | shl
D3 /4           | SHL Ev,CL         |                             | >oszpc?oac     | u:shift          | shl
C0 /5           | SHR Eb,Ib         |                             | >oszpc?oac     | u:shift          | shr
C1 /5           | SHR Ev,Ib         |                             | >oszpc?oac     | u:shift          | shr
D0 /5           | SHR Eb,1          |                             | >oszpc?a       |                  | shr
D1 /5           | SHR Ev,1          |                             | >oszpc?a       |                  | shr
D2 /5           | SHR Eb,CL         |                             | >oszpc?oac     | u:shift          | shr
D3 /5           | SHR Ev,CL         |                             | >oszpc?oac     | u:shift          | shr
C0 /6           | SHL Eb,Ib         |                             | >oszpc?oac     | u:shift undoc    | shl
C1 /6           | SHL Ev,Ib         |                             | >oszpc?oac     | u:shift undoc    | shl
D0 /6           | SHL Eb,1          |                             | >oszpc?a       | undoc            | shl
D1 /6           | SHL Ev,1          |                             | >oszpc?a       | undoc            | shl
D2 /6           | SHL Eb,CL         |                             | >oszpc?oac     | u:shift undoc    | shl
D3 /6           | SHL Ev,CL         |                             | >oszpc?oac     | u:shift undoc    | shl
C0 /7           | SAR Eb,Ib         |                             | >oszpc?oa      | u:shift          | shr
C1 /7           | SAR Ev,Ib         |                             | >oszpc?oa      | u:shift          | shr
D0 /7           | SAR Eb,1          |                             | >oszpc?a       |                  | shr
D1 /7           | SAR Ev,1          |                             | >oszpc?a       |                  | shr
D2 /7           | SAR Eb,CL         |                             | >oszpc?oa      | u:shift          | shr
D3 /7           | SAR Ev,CL         |                             | >oszpc?oa      | u:shift          | shr
0F A4 /r        | SHLD Ev,Gv,Ib     |                             | >oszpc?oszapc  | u:shiftd         | shl
0F A5 /r        | SHLD Ev,Gv,CL     |                             | >oszpc?oszapc  | u:shiftd         | shl
0F AC /r        | SHRD Ev,Gv,Ib     |                             | >oszpc?oszapc  | u:shiftd         | shr
0F AD /r        | SHRD Ev,Gv,CL     |                             | >oszpc?oszapc  | u:shiftd         | shr

# Bits and bytes. With a register bit number and a memory operand, BT and kin reach beyond the operand.
0F A3 /r        | BT Ev:r,Gv        |                             | >c?osap        |                  | compare
0F BA /4        | BT Ev:r,Ib        |                             | >c?osap        |                  | compare
0F AB /r        | BTS Ev,Gv         |                             | >c?osap        | lock             | bitwise
0F BA /5        | BTS Ev,Ib         |                             | >c?osap        | lock             | bitwise
0F B3 /r        | BTR Ev,Gv         |                             | >c?osap        | lock             | bitwise
0F BA /6        | BTR Ev,Ib         |                             | >c?osap        | lock             | bitwise
0F BB /r        | BTC Ev,Gv         |                             | >c?osap        | lock             | bitwise
0F BA /7        | BTC Ev,Ib         |                             | >c?osap        | lock             | bitwise
F3 0F BC /r     | TZCNT Gv:w,Ev     |                             | >zc?osap       | BMI1             | mix
F3 0F BD /r     | LZCNT Gv:w,Ev     |                             | >zc?osap       | LZCNT            | mix
0F BC /r        | BSF Gv:rw?,Ev     |                             | >z?osapc       | u:bitscan        | mix
0F BD /r        | BSR Gv:rw?,Ev     |                             | >z?osapc       | u:bitscan        | mix
F3 0F B8 /r     | POPCNT Gv:w,Ev    |                             | >oszapc        | POPCNT           | mix
0F C8 +r        | BSWAP Zv          |                             |                | u:bswap16        | permute
NFx 0F 38 F0 /r | MOVBE Gv:w,Mv     |                             |                | MOVBE            | permute
NFx 0F 38 F1 /r | MOVBE Mv:w,Gv     |                             |                | MOVBE            | permute
F2 0F 38 F0 /r  | CRC32 Gy,Eb       |                             |                | SSE42            | mix
F2 0F 38 F1 /r  | CRC32 Gy,Ev       |                             |                | SSE42            | mix
66 0F 38 F6 /r  | ADCX Gy,Ey        |                             | c>c            | ADX              | carry
F3 0F 38 F6 /r  | ADOX Gy,Ey        |                             | o>o            | ADX              | carry

# Data movement.
88 /r           | MOV Eb:w,Gb       |                             |                |                  | copy
89 /r           | MOV Ev:w,Gv       |                             |                |                  | copy
8A /r           | MOV Gb:w,Eb       |                             |                |                  | copy
8B /r           | MOV Gv:w,Ev       |                             |                |                  | copy
A0              | MOV AL:w,Ob       |                             |                |                  | copy
A1              | MOV rAX:w,Ov      |                             |                |                  | copy
A2              | MOV Ob:w,AL       |                             |                |                  | copy
A3              | MOV Ov:w,rAX      |                             |                |                  | copy
B0 +r           | MOV Zb:w,Ib       |                             |                |                  | copy
B8 +r           | MOV Zv:w,Iv       |                             |                |                  | copy
C6 /0           | MOV Eb:w,Ib       |                             |                |                  | copy
C7 /0           | MOV Ev:w,Iz       |                             |                |                  | copy
0F B6 /r        | MOVZX Gv:w,Eb     |                             |                |                  | copy
0F B7 /r        | MOVZX Gv:w,Ew     |                             |                |                  | copy
0F BE /r        | MOVSX Gv:w,Eb     |                             |                |                  | signext
0F BF /r        | MOVSX Gv:w,Ew     |                             |                |                  | signext
63 /r           | MOVSXD Gv:w,Ez    |                             |                | only64           | signext
NP 0F C3 /r     | MOVNTI My:w,Gy    |                             |                | SSE2             | copy
8D /r           | LEA Gv:w,M:-      |                             |                |                  | address
86 /r           | XCHG Eb:rw,Gb:rw  |                             |                | lock             | exchange
87 /r           | XCHG Ev:rw,Gv:rw  |                             |                | lock             | exchange
F3 90           | PAUSE             |                             |                | norexb           | none
90              | NOP               |                             |                | norexb           | none
90 +r           | XCHG Zv:rw,rAX:rw |                             |                |                  | exchange
0F 40 +cc /r    | CMOVCC Gv:rw?,Ev  |                             | oszpc>         | CMOV             | select
0F 90 +cc /r    | SETCC Eb:w        |                             | oszpc>         |                  | setcc
0F B0 /r        | CMPXCHG Eb:rw,Gb  | AL:rw?                      | >oszapc        | lock             | select
0F B1 /r        | CMPXCHG Ev:rw,Gv  | rAX:rw?                     | >oszapc        | lock             | select
REX.W 0F C7 /1  | CMPXCHG16B Mdq:rw | RAX:rw?,RDX:rw?,RBX:r,RCX:r | >z             | CX16 lock only64 | select
0F C7 /1        | CMPXCHG8B Mq:rw   | EAX:rw?,EDX:rw?,EBX:r,ECX:r | >z             | CX8 lock         | select
0F C0 /r        | XADD Eb:rw,Gb:rw  |                             | >oszapc        | lock             | special
0F C1 /r        | XADD Ev:rw,Gv:rw  |                             | >oszapc        | lock             | special
D7              | XLAT AL:w,BBb     | AL:r,aBX:r                  |                |                  | select
D6              | SALC              | AL:w                        | c>             | no64 undoc       | setcc
9F              | LAHF              | AH:w                        | szapc>         | no64             | setcc
9F              | LAHF              | AH:w                        | szapc>         | only64 LAHF      | setcc
9E              | SAHF              | AH:r                        | >szapc         | no64             | compare
9E              | SAHF              | AH:r                        | >szapc         | only64 LAHF      | compare
F5              | CMC               |                             | c>c            |                  | none
F8              | CLC               |                             | >c             |                  | none
F9              | STC               |                             | >c             |                  | none
FC              | CLD               |                             | >d             |                  | none
FD              | STD               |                             | >d             |                  | none

# The stack.
50 +r           | PUSH Zv:r         | rSP:rw,stack:w              |                | d64              | copy
68              | PUSH Iz:r         | rSP:rw,stack:w              |                | d64              | copy
6A              | PUSH Ibs:r        | rSP:rw,stack:w              |                | d64              | copy
FF /6           | PUSH Ev:r         | rSP:rw,stack:w              |                | d64              | copy
58 +r           | POP Zv:w          | rSP:rw,stack:r              |                | d64              | copy
8F /0           | POP Ev:w          | rSP:rw,stack:r              |                | d64              | copy
60              | PUSHA             | rSP:rw,stack:w              |                | no64             | special
61              | POPA              | rSP:rw,stack:r              |                | no64             | special
9C              | PUSHF             | rSP:rw,stack:w              | *>             | d64              | special
9D              | POPF              | rSP:rw,stack:r              | >oszapcditnlkb | d64 ends         | special
C8              | ENTER Iw:r,Ib:r   | rSP:rw,rBP:rw,stack:rw      |                | d64              | special
C9              | LEAVE             | rSP:rw,rBP:rw,stack:r       |                | d64              | special

# Strings. The repeat count is rCX in the address size.
A4              | MOVS Yb:w,Xb      | aSI:rw,aDI:rw,aCX:rw?       | d>             | rep              | copy
A5              | MOVS Yv:w,Xv      | aSI:rw,aDI:rw,aCX:rw?       | d>             | rep              | copy
A6              | CMPS Xb:r,Yb      | aSI:rw,aDI:rw,aCX:rw?       | d>oszapc       | repe             | compare
A7              | CMPS Xv:r,Yv      | aSI:rw,aDI:rw,aCX:rw?       | d>oszapc       | repe             | compare
AA              | STOS Yb:w,AL      | aDI:rw,aCX:rw?              | d>             | rep              | copy
AB              | STOS Yv:w,rAX     | aDI:rw,aCX:rw?              | d>             | rep              | copy
AC              | LODS AL:w,Xb      | aSI:rw,aCX:rw?              | d>             | rep              | copy
AD              | LODS rAX:w,Xv     | aSI:rw,aCX:rw?              | d>             | rep              | copy
AE              | SCAS AL:r,Yb      | aDI:rw,aCX:rw?              | d>oszapc       | repe             | compare
AF              | SCAS rAX:r,Yv     | aDI:rw,aCX:rw?              | d>oszapc       | repe             | compare
6C              | INS Yb:w,DX       | aDI:rw,aCX:rw?              | d>             | rep sys          | none
6D              | INS Yz:w,DX       | aDI:rw,aCX:rw?              | d>             | rep z32 sys      | none
6E              | OUTS DX:r,Xb      | aSI:rw,aCX:rw?              | d>             | rep sys          | none
6F              | OUTS DX:r,Xz      | aSI:rw,aCX:rw?              | d>             | rep z32 sys      | none

# Branches.
70 +cc          | JCC Jb:r          |                             | oszpc>         | f64 ends         | none
0F 80 +cc       | JCC Jz:r          |                             | oszpc>         | f64 ends         | none
E0              | LOOPNE Jb:r       | aCX:rw                      | z>             | f64 ends         | carry
E1              | LOOPE Jb:r        | aCX:rw                      | z>             | f64 ends         | carry
E2              | LOOP Jb:r         | aCX:rw                      |                | f64 ends         | carry
E3              | JCXZ Jb:r         | aCX:r                       |                | f64 ends         | none
E8              | CALL Jz:r         | rSP:rw,stack:w              |                | f64 ends         | none
FF /2           | CALL_IND Ev:r     | rSP:rw,stack:w              |                | f64 ends         | none
E9              | JMP Jz:r          |                             |                | f64 ends         | none
EB              | JMP Jb:r          |                             |                | f64 ends         | none
FF /4           | JMP_IND Ev:r      |                             |                | f64 ends         | none
C2              | RET Iw:r          | rSP:rw,stack:r              |                | f64 ends         | none
C3              | RET               | rSP:rw,stack:r              |                | f64 ends         | none

# No operation. 0F 18-1F are hints: where nothing better is known they do nothing, at any operand.
0F 0D /1        | PREFETCHW Mb:-    |                             |                |                  | none
0F 0D /r        | PREFETCH Mb:-     |                             |                |                  | none
0F 18 /0        | PREFETCHNTA Mb:-  |                             |                | SSE              | none
0F 18 /1        | PREFETCHT0 Mb:-   |                             |                | SSE              | none
0F 18 /2        | PREFETCHT1 Mb:-   |                             |                | SSE              | none
0F 18 /3        | PREFETCHT2 Mb:-   |                             |                | SSE              | none
0F 18 /r        | NOP Ev:-          |                             |                | CMOV             | none
0F 19 /r        | NOP Ev:-          |                             |                | CMOV             | none
0F 1A /r        | NOP Ev:-          |                             |                | CMOV             | none
0F 1B /r        | NOP Ev:-          |                             |                | CMOV             | none
0F 1C /r        | NOP Ev:-          |                             |                | CMOV             | none
0F 1D /r        | NOP Ev:-          |                             |                | CMOV             | none
0F 1E /r        | NOP Ev:-          |                             |                | CMOV             | none
0F 1F /r        | NOP Ev:-          |                             |                | CMOV             | none
NP 0F AE /5     | LFENCE            |                             |                | SSE2 reg         | none
NP 0F AE /6     | MFENCE            |                             |                | SSE2 reg         | none
NP 0F AE /7     | SFENCE            |                             |                | SSE reg          | none
NP 0F AE /7     | CLFLUSH Mb:r      |                             |                | CLFSH            | none
66 0F AE /7     | CLFLUSHOPT Mb:r   |                             |                | CLFLUSHOPT       | none
66 0F AE /6     | CLWB Mb:r         |                             |                | CLWB             | none
NFx 0F C7 /6    | RDRAND Rv:w       |                             | >oszapc        | RDRAND sys       | none
NFx 0F C7 /7    | RDSEED Rv:w       |                             | >oszapc        | RDSEED sys       | none
`
