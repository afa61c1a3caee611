package isa

// rowsFloat are floating-point instructions of SSE, SSE2 and SSE3. See the head of rows.go for the notation.
const rowsFloat = `
# Moves of floating-point data. A scalar load clears the rest of its register; a move between registers keeps it.
NP 0F 10 /r | MOVUPS Vps:w,Wps    |  |         | SSE ua  | copy
NP 0F 11 /r | MOVUPS Wps:w,Vps    |  |         | SSE ua  | copy
66 0F 10 /r | MOVUPD Vpd:w,Wpd    |  |         | SSE2 ua | copy
66 0F 11 /r | MOVUPD Wpd:w,Vpd    |  |         | SSE2 ua | copy
F3 0F 10 /r | MOVSS Vdq:w,Md      |  |         | SSE     | copy
F3 0F 10 /r | MOVSS Vss:w,Uss     |  |         | SSE     | copy
F3 0F 11 /r | MOVSS Wss:w,Vss     |  |         | SSE     | copy
F2 0F 10 /r | MOVSD Vdq:w,Mq      |  |         | SSE2    | copy
F2 0F 10 /r | MOVSD Vsd:w,Usd     |  |         | SSE2    | copy
F2 0F 11 /r | MOVSD Wsd:w,Vsd     |  |         | SSE2    | copy
NP 0F 28 /r | MOVAPS Vps:w,Wps    |  |         | SSE     | copy
NP 0F 29 /r | MOVAPS Wps:w,Vps    |  |         | SSE     | copy
66 0F 28 /r | MOVAPD Vpd:w,Wpd    |  |         | SSE2    | copy
66 0F 29 /r | MOVAPD Wpd:w,Vpd    |  |         | SSE2    | copy
NP 0F 12 /r | MOVLPS Vq:w,Mq      |  |         | SSE     | copy
NP 0F 12 /r | MOVHLPS Vq:w,Udq    |  |         | SSE     | permute
NP 0F 13 /r | MOVLPS Mq:w,Vq      |  |         | SSE     | copy
66 0F 12 /r | MOVLPD Vq:w,Mq      |  |         | SSE2    | copy
66 0F 13 /r | MOVLPD Mq:w,Vq      |  |         | SSE2    | copy
NP 0F 16 /r | MOVHPS Vdq,Mq       |  |         | SSE     | permute
NP 0F 16 /r | MOVLHPS Vdq,Uq      |  |         | SSE     | permute
NP 0F 17 /r | MOVHPS Mq:w,Vdq     |  |         | SSE     | permute
66 0F 16 /r | MOVHPD Vdq,Mq       |  |         | SSE2    | permute
66 0F 17 /r | MOVHPD Mq:w,Vdq     |  |         | SSE2    | permute
F3 0F 12 /r | MOVSLDUP Vps:w,Wps  |  |         | SSE3    | permute
F3 0F 16 /r | MOVSHDUP Vps:w,Wps  |  |         | SSE3    | permute
F2 0F 12 /r | MOVDDUP Vpd:w,Wq    |  |         | SSE3    | permute
F2 0F F0 /r | LDDQU Vdq:w,Mdq     |  |         | SSE3 ua | copy
NP 0F 2B /r | MOVNTPS Mps:w,Vps   |  |         | SSE     | copy
66 0F 2B /r | MOVNTPD Mpd:w,Vpd   |  |         | SSE2    | copy
NP 0F 50 /r | MOVMSKPS Gd:w,Ups   |  |         | SSE     | mix
66 0F 50 /r | MOVMSKPD Gd:w,Upd   |  |         | SSE2    | mix
NP 0F 14 /r | UNPCKLPS Vps,Wps    |  |         | SSE     | permute
66 0F 14 /r | UNPCKLPD Vpd,Wpd    |  |         | SSE2    | permute
NP 0F 15 /r | UNPCKHPS Vps,Wps    |  |         | SSE     | permute
66 0F 15 /r | UNPCKHPD Vpd,Wpd    |  |         | SSE2    | permute
NP 0F C6 /r | SHUFPS Vps,Wps,Ib   |  |         | SSE     | permute
66 0F C6 /r | SHUFPD Vpd,Wpd,Ib   |  |         | SSE2    | permute

# Arithmetic.
NP 0F 51 /r | SQRTPS Vps:w,Wps    |  |         | SSE fp  | lane4
66 0F 51 /r | SQRTPD Vpd:w,Wpd    |  |         | SSE2 fp | lane8
F3 0F 51 /r | SQRTSS Vss:w,Wss    |  |         | SSE fp  | lane4
F2 0F 51 /r | SQRTSD Vsd:w,Wsd    |  |         | SSE2 fp | lane8
NP 0F 52 /r | RSQRTPS Vps:w,Wps   |  |         | SSE     | lane4
F3 0F 52 /r | RSQRTSS Vss:w,Wss   |  |         | SSE     | lane4
NP 0F 53 /r | RCPPS Vps:w,Wps     |  |         | SSE     | lane4
F3 0F 53 /r | RCPSS Vss:w,Wss     |  |         | SSE     | lane4
NP 0F 54 /r | ANDPS Vps,Wps       |  |         | SSE     | bitwise
66 0F 54 /r | ANDPD Vpd,Wpd       |  |         | SSE2    | bitwise
NP 0F 55 /r | ANDNPS Vps,Wps      |  |         | SSE     | bitwise
66 0F 55 /r | ANDNPD Vpd,Wpd      |  |         | SSE2    | bitwise
NP 0F 56 /r | ORPS Vps,Wps        |  |         | SSE     | bitwise
66 0F 56 /r | ORPD Vpd,Wpd        |  |         | SSE2    | bitwise
NP 0F 57 /r | XORPS Vps,Wps       |  |         | SSE     | bitwise
66 0F 57 /r | XORPD Vpd,Wpd       |  |         | SSE2    | bitwise
NP 0F 58 /r | ADDPS Vps,Wps       |  |         | SSE fp  | lane4
66 0F 58 /r | ADDPD Vpd,Wpd       |  |         | SSE2 fp | lane8
F3 0F 58 /r | ADDSS Vss,Wss       |  |         | SSE fp  | lane4
F2 0F 58 /r | ADDSD Vsd,Wsd       |  |         | SSE2 fp | lane8
NP 0F 59 /r | MULPS Vps,Wps       |  |         | SSE fp  | lane4
66 0F 59 /r | MULPD Vpd,Wpd       |  |         | SSE2 fp | lane8
F3 0F 59 /r | MULSS Vss,Wss       |  |         | SSE fp  | lane4
F2 0F 59 /r | MULSD Vsd,Wsd       |  |         | SSE2 fp | lane8
NP 0F 5C /r | SUBPS Vps,Wps       |  |         | SSE fp  | lane4
66 0F 5C /r | SUBPD Vpd,Wpd       |  |         | SSE2 fp | lane8
F3 0F 5C /r | SUBSS Vss,Wss       |  |         | SSE fp  | lane4
F2 0F 5C /r | SUBSD Vsd,Wsd       |  |         | SSE2 fp | lane8
NP 0F 5D /r | MINPS Vps,Wps       |  |         | SSE fp  | lane4
66 0F 5D /r | MINPD Vpd,Wpd       |  |         | SSE2 fp | lane8
F3 0F 5D /r | MINSS Vss,Wss       |  |         | SSE fp  | lane4
F2 0F 5D /r | MINSD Vsd,Wsd       |  |         | SSE2 fp | lane8
NP 0F 5E /r | DIVPS Vps,Wps       |  |         | SSE fp  | lane4
66 0F 5E /r | DIVPD Vpd,Wpd       |  |         | SSE2 fp | lane8
F3 0F 5E /r | DIVSS Vss,Wss       |  |         | SSE fp  | lane4
F2 0F 5E /r | DIVSD Vsd,Wsd       |  |         | SSE2 fp | lane8
NP 0F 5F /r | MAXPS Vps,Wps       |  |         | SSE fp  | lane4
66 0F 5F /r | MAXPD Vpd,Wpd       |  |         | SSE2 fp | lane8
F3 0F 5F /r | MAXSS Vss,Wss       |  |         | SSE fp  | lane4
F2 0F 5F /r | MAXSD Vsd,Wsd       |  |         | SSE2 fp | lane8
NP 0F C2 /r | CMPPS Vps,Wps,Ib    |  |         | SSE fp  | lane4
66 0F C2 /r | CMPPD Vpd,Wpd,Ib    |  |         | SSE2 fp | lane8
F3 0F C2 /r | CMPSS Vss,Wss,Ib    |  |         | SSE fp  | lane4
F2 0F C2 /r | CMPSD Vsd,Wsd,Ib    |  |         | SSE2 fp | lane8
NP 0F 2E /r | UCOMISS Vss:r,Wss   |  | >oszapc | SSE fp  | compare
66 0F 2E /r | UCOMISD Vsd:r,Wsd   |  | >oszapc | SSE2 fp | compare
NP 0F 2F /r | COMISS Vss:r,Wss    |  | >oszapc | SSE fp  | compare
66 0F 2F /r | COMISD Vsd:r,Wsd    |  | >oszapc | SSE2 fp | compare
F2 0F D0 /r | ADDSUBPS Vps,Wps    |  |         | SSE3 fp | lane4
66 0F D0 /r | ADDSUBPD Vpd,Wpd    |  |         | SSE3 fp | lane8
F2 0F 7C /r | HADDPS Vps,Wps      |  |         | SSE3 fp | mix
66 0F 7C /r | HADDPD Vpd,Wpd      |  |         | SSE3 fp | mix
F2 0F 7D /r | HSUBPS Vps,Wps      |  |         | SSE3 fp | mix
66 0F 7D /r | HSUBPD Vpd,Wpd      |  |         | SSE3 fp | mix

# Conversions.
NP 0F 2A /r | CVTPI2PS Vq:w,Qq    |  |         | SSE fp  | lane4
66 0F 2A /r | CVTPI2PD Vdq:w,Qq   |  |         | SSE2 fp | mix
F3 0F 2A /r | CVTSI2SS Vss:w,Ey   |  |         | SSE fp  | mix
F2 0F 2A /r | CVTSI2SD Vsd:w,Ey   |  |         | SSE2 fp | mix
NP 0F 2C /r | CVTTPS2PI Pq:w,Wq   |  |         | SSE fp  | lane4
66 0F 2C /r | CVTTPD2PI Pq:w,Wpd  |  |         | SSE2 fp | mix
F3 0F 2C /r | CVTTSS2SI Gy:w,Wss  |  |         | SSE fp  | mix
F2 0F 2C /r | CVTTSD2SI Gy:w,Wsd  |  |         | SSE2 fp | mix
NP 0F 2D /r | CVTPS2PI Pq:w,Wq    |  |         | SSE fp  | lane4
66 0F 2D /r | CVTPD2PI Pq:w,Wpd   |  |         | SSE2 fp | mix
F3 0F 2D /r | CVTSS2SI Gy:w,Wss   |  |         | SSE fp  | mix
F2 0F 2D /r | CVTSD2SI Gy:w,Wsd   |  |         | SSE2 fp | mix
NP 0F 5A /r | CVTPS2PD Vpd:w,Wq   |  |         | SSE2 fp | mix
66 0F 5A /r | CVTPD2PS Vps:w,Wpd  |  |         | SSE2 fp | mix
F3 0F 5A /r | CVTSS2SD Vsd:w,Wss  |  |         | SSE2 fp | mix
F2 0F 5A /r | CVTSD2SS Vss:w,Wsd  |  |         | SSE2 fp | mix
NP 0F 5B /r | CVTDQ2PS Vps:w,Wdq  |  |         | SSE2 fp | lane4
66 0F 5B /r | CVTPS2DQ Vdq:w,Wps  |  |         | SSE2 fp | lane4
F3 0F 5B /r | CVTTPS2DQ Vdq:w,Wps |  |         | SSE2 fp | lane4
66 0F E6 /r | CVTTPD2DQ Vdq:w,Wpd |  |         | SSE2 fp | mix
F3 0F E6 /r | CVTDQ2PD Vpd:w,Wq   |  |         | SSE2 fp | mix
F2 0F E6 /r | CVTPD2DQ Vdq:w,Wpd  |  |         | SSE2 fp | mix
`
