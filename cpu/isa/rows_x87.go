package isa

// rowsX87 are the x87 floating-point instructions. See the head of rows.go for the notation.
const rowsX87 = `
# Arithmetic. DC and DE with a register turn the operand order round: FSUBR and FSUB change places there.
D8 /0   | FADD ST0,Md          |                   |         | FPU           | mix
DC /0   | FADD ST0,Mq          |                   |         | FPU           | mix
D8 C0+i | FADD ST0,STi         |                   |         | FPU           | mix
DA /0   | FIADD ST0,Md         |                   |         | FPU           | mix
DE /0   | FIADD ST0,Mw         |                   |         | FPU           | mix
D8 /1   | FMUL ST0,Md          |                   |         | FPU           | mix
DC /1   | FMUL ST0,Mq          |                   |         | FPU           | mix
D8 C8+i | FMUL ST0,STi         |                   |         | FPU           | mix
DA /1   | FIMUL ST0,Md         |                   |         | FPU           | mix
DE /1   | FIMUL ST0,Mw         |                   |         | FPU           | mix
D8 /2   | FCOM ST0:r,Md        | FSW:w             |         | FPU           | compare
DC /2   | FCOM ST0:r,Mq        | FSW:w             |         | FPU           | compare
D8 D0+i | FCOM ST0:r,STi       | FSW:w             |         | FPU           | compare
DA /2   | FICOM ST0:r,Md       | FSW:w             |         | FPU           | compare
DE /2   | FICOM ST0:r,Mw       | FSW:w             |         | FPU           | compare
D8 /3   | FCOMP ST0:r,Md       | FSW:w             |         | FPU pop       | compare
DC /3   | FCOMP ST0:r,Mq       | FSW:w             |         | FPU pop       | compare
D8 D8+i | FCOMP ST0:r,STi      | FSW:w             |         | FPU pop       | compare
DA /3   | FICOMP ST0:r,Md      | FSW:w             |         | FPU pop       | compare
DE /3   | FICOMP ST0:r,Mw      | FSW:w             |         | FPU pop       | compare
D8 /4   | FSUB ST0,Md          |                   |         | FPU           | mix
DC /4   | FSUB ST0,Mq          |                   |         | FPU           | mix
D8 E0+i | FSUB ST0,STi         |                   |         | FPU           | mix
DA /4   | FISUB ST0,Md         |                   |         | FPU           | mix
DE /4   | FISUB ST0,Mw         |                   |         | FPU           | mix
D8 /5   | FSUBR ST0,Md         |                   |         | FPU           | mix
DC /5   | FSUBR ST0,Mq         |                   |         | FPU           | mix
D8 E8+i | FSUBR ST0,STi        |                   |         | FPU           | mix
DA /5   | FISUBR ST0,Md        |                   |         | FPU           | mix
DE /5   | FISUBR ST0,Mw        |                   |         | FPU           | mix
D8 /6   | FDIV ST0,Md          |                   |         | FPU           | mix
DC /6   | FDIV ST0,Mq          |                   |         | FPU           | mix
D8 F0+i | FDIV ST0,STi         |                   |         | FPU           | mix
DA /6   | FIDIV ST0,Md         |                   |         | FPU           | mix
DE /6   | FIDIV ST0,Mw         |                   |         | FPU           | mix
D8 /7   | FDIVR ST0,Md         |                   |         | FPU           | mix
DC /7   | FDIVR ST0,Mq         |                   |         | FPU           | mix
D8 F8+i | FDIVR ST0,STi        |                   |         | FPU           | mix
DA /7   | FIDIVR ST0,Md        |                   |         | FPU           | mix
DE /7   | FIDIVR ST0,Mw        |                   |         | FPU           | mix
DC C0+i | FADD STi,ST0         |                   |         | FPU           | mix
DC C8+i | FMUL STi,ST0         |                   |         | FPU           | mix
DC E0+i | FSUBR STi,ST0        |                   |         | FPU           | mix
DC E8+i | FSUB STi,ST0         |                   |         | FPU           | mix
DC F0+i | FDIVR STi,ST0        |                   |         | FPU           | mix
DC F8+i | FDIV STi,ST0         |                   |         | FPU           | mix
DE C0+i | FADDP STi,ST0        |                   |         | FPU pop       | mix
DE C8+i | FMULP STi,ST0        |                   |         | FPU pop       | mix
DE E0+i | FSUBRP STi,ST0       |                   |         | FPU pop       | mix
DE E8+i | FSUBP STi,ST0        |                   |         | FPU pop       | mix
DE F0+i | FDIVRP STi,ST0       |                   |         | FPU pop       | mix
DE F8+i | FDIVP STi,ST0        |                   |         | FPU pop       | mix
DC D0+i | FCOM ST0:r,STi       | FSW:w             |         | FPU undoc     | compare
DC D8+i | FCOMP ST0:r,STi      | FSW:w             |         | FPU pop undoc | compare
DE D0+i | FCOMP ST0:r,STi      | FSW:w             |         | FPU pop undoc | compare
DE D9   | FCOMPP               | ST0:r,ST1:r,FSW:w |         | FPU pop2      | compare
DD E0+i | FUCOM ST0:r,STi      | FSW:w             |         | FPU           | compare
DD E8+i | FUCOMP ST0:r,STi     | FSW:w             |         | FPU pop       | compare
DA E9   | FUCOMPP              | ST0:r,ST1:r,FSW:w |         | FPU pop2      | compare
DB F0+i | FCOMI ST0:r,STi      |                   | >oszapc | CMOV          | compare
DF F0+i | FCOMIP ST0:r,STi     |                   | >oszapc | CMOV pop      | compare
DB E8+i | FUCOMI ST0:r,STi     |                   | >oszapc | CMOV          | compare
DF E8+i | FUCOMIP ST0:r,STi    |                   | >oszapc | CMOV pop      | compare
D9 E4   | FTST                 | ST0:r,FSW:w       |         | FPU           | compare
D9 E5   | FXAM                 | ST0:r,FSW:w       |         | FPU           | compare

# Loads and stores.
D9 /0   | FLD Md:r             | ST0:w             |         | FPU push      | mix
DD /0   | FLD Mq:r             | ST0:w             |         | FPU push      | mix
DB /5   | FLD Mt:r             | ST0:w             |         | FPU push      | copy
D9 C0+i | FLD STi:r            | ST0:w             |         | FPU push      | copy
D9 /2   | FST Md:w             | ST0:r             |         | FPU           | mix
DD /2   | FST Mq:w             | ST0:r             |         | FPU           | mix
DD D0+i | FST STi:w            | ST0:r             |         | FPU           | copy
D9 /3   | FSTP Md:w            | ST0:r             |         | FPU pop       | mix
DD /3   | FSTP Mq:w            | ST0:r             |         | FPU pop       | mix
DB /7   | FSTP Mt:w            | ST0:r             |         | FPU pop       | copy
DD D8+i | FSTP STi:w           | ST0:r             |         | FPU pop       | copy
D9 D8+i | FSTP STi:w           | ST0:r             |         | FPU pop undoc | copy
DF D0+i | FSTP STi:w           | ST0:r             |         | FPU pop undoc | copy
DF D8+i | FSTP STi:w           | ST0:r             |         | FPU pop undoc | copy
DF /0   | FILD Mw:r            | ST0:w             |         | FPU push      | mix
DB /0   | FILD Md:r            | ST0:w             |         | FPU push      | mix
DF /5   | FILD Mq:r            | ST0:w             |         | FPU push      | mix
DF /2   | FIST Mw:w            | ST0:r             |         | FPU           | mix
DB /2   | FIST Md:w            | ST0:r             |         | FPU           | mix
DF /3   | FISTP Mw:w           | ST0:r             |         | FPU pop       | mix
DB /3   | FISTP Md:w           | ST0:r             |         | FPU pop       | mix
DF /7   | FISTP Mq:w           | ST0:r             |         | FPU pop       | mix
DF /1   | FISTTP Mw:w          | ST0:r             |         | SSE3 pop      | mix
DB /1   | FISTTP Md:w          | ST0:r             |         | SSE3 pop      | mix
DD /1   | FISTTP Mq:w          | ST0:r             |         | SSE3 pop      | mix
DF /4   | FBLD Mt:r            | ST0:w             |         | FPU push      | mix
DF /6   | FBSTP Mt:w           | ST0:r             |         | FPU pop       | mix
D9 C8+i | FXCH ST0:rw,STi:rw   |                   |         | FPU           | exchange
DD C8+i | FXCH ST0:rw,STi:rw   |                   |         | FPU undoc     | exchange
DF C8+i | FXCH ST0:rw,STi:rw   |                   |         | FPU undoc     | exchange
DA C0+i | FCMOVB ST0:rw?,STi   |                   | c>      | CMOV          | select
DA C8+i | FCMOVE ST0:rw?,STi   |                   | z>      | CMOV          | select
DA D0+i | FCMOVBE ST0:rw?,STi  |                   | zc>     | CMOV          | select
DA D8+i | FCMOVU ST0:rw?,STi   |                   | p>      | CMOV          | select
DB C0+i | FCMOVNB ST0:rw?,STi  |                   | c>      | CMOV          | select
DB C8+i | FCMOVNE ST0:rw?,STi  |                   | z>      | CMOV          | select
DB D0+i | FCMOVNBE ST0:rw?,STi |                   | zc>     | CMOV          | select
DB D8+i | FCMOVNU ST0:rw?,STi  |                   | p>      | CMOV          | select

# Constants and functions of ST(0).
D9 E8   | FLD1                 | ST0:w             |         | FPU push      | none
D9 E9   | FLDL2T               | ST0:w             |         | FPU push      | none
D9 EA   | FLDL2E               | ST0:w             |         | FPU push      | none
D9 EB   | FLDPI                | ST0:w             |         | FPU push      | none
D9 EC   | FLDLG2               | ST0:w             |         | FPU push      | none
D9 ED   | FLDLN2               | ST0:w             |         | FPU push      | none
D9 EE   | FLDZ                 | ST0:w             |         | FPU push      | none
D9 E0   | FCHS                 | ST0:rw            |         | FPU           | bitwise
D9 E1   | FABS                 | ST0:rw            |         | FPU           | bitwise
D9 F0   | F2XM1                | ST0:rw            |         | FPU           | mix
D9 F1   | FYL2X                | ST0:r,ST1:rw      |         | FPU pop       | mix
D9 F2   | FPTAN                | ST0:rw            |         | FPU push      | mix
D9 F3   | FPATAN               | ST0:r,ST1:rw      |         | FPU pop       | mix
D9 F4   | FXTRACT              | ST0:rw            |         | FPU push      | mix
D9 F5   | FPREM1               | ST0:rw,ST1:r      |         | FPU           | mix
D9 F8   | FPREM                | ST0:rw,ST1:r      |         | FPU           | mix
D9 F9   | FYL2XP1              | ST0:r,ST1:rw      |         | FPU pop       | mix
D9 FA   | FSQRT                | ST0:rw            |         | FPU           | mix
D9 FB   | FSINCOS              | ST0:rw            |         | FPU push      | mix
D9 FC   | FRNDINT              | ST0:rw            |         | FPU           | mix
D9 FD   | FSCALE               | ST0:rw,ST1:r      |         | FPU           | mix
D9 FE   | FSIN                 | ST0:rw            |         | FPU           | mix
D9 FF   | FCOS                 | ST0:rw            |         | FPU           | mix

# Control. FINIT, FSTSW and kin are FWAIT followed by these. FENI, FDISI and FSETPM do nothing since the 80387.
9B      | FWAIT                |                   |         | FPU           | none
D9 D0   | FNOP                 |                   |         | FPU           | none
D9 F6   | FDECSTP              | FSW:rw            |         | FPU           | none
D9 F7   | FINCSTP              | FSW:rw            |         | FPU           | none
DD C0+i | FFREE STi:-          |                   |         | FPU           | none
DF C0+i | FFREEP STi:-         |                   |         | FPU pop undoc | none
DB E2   | FNCLEX               | FSW:rw            |         | FPU           | none
DB E3   | FNINIT               | FSW:w,FCW:w       |         | FPU           | none
DB E0   | FNENI                |                   |         | FPU undoc     | none
DB E1   | FNDISI               |                   |         | FPU undoc     | none
DB E4   | FNSETPM              |                   |         | FPU undoc     | none
D9 /5   | FLDCW Mw:r           | FCW:w             |         | FPU           | copy
D9 /7   | FNSTCW Mw:w          | FCW:r             |         | FPU           | copy
DD /7   | FNSTSW Mw:w          | FSW:r             |         | FPU           | copy
DF E0   | FNSTSW AX:w          | FSW:r             |         | FPU           | copy
D9 /4   | FLDENV Menv:r        | FSW:w,FCW:w       |         | FPU           | special
D9 /6   | FNSTENV Menv:w       | FSW:r,FCW:rw      |         | FPU           | special
DD /4   | FRSTOR Msav:r        | FSW:w,FCW:w       |         | FPU           | special
DD /6   | FNSAVE Msav:w        | FSW:rw,FCW:rw     |         | FPU           | special
`
