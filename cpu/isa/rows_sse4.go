package isa

// rowsSSE4 are SSSE3, SSE4 and the cipher instructions. See the head of rows.go for the notation.
const rowsSSE4 = `
# SSSE3.
NP 0F 38 00 /r | PSHUFB Pq,Qq                 |                   |         | SSSE3    | permute
66 0F 38 00 /r | PSHUFB Vdq,Wdq               |                   |         | SSSE3    | permute
NP 0F 38 01 /r | PHADDW Pq,Qq                 |                   |         | SSSE3    | mix
66 0F 38 01 /r | PHADDW Vdq,Wdq               |                   |         | SSSE3    | mix
NP 0F 38 02 /r | PHADDD Pq,Qq                 |                   |         | SSSE3    | mix
66 0F 38 02 /r | PHADDD Vdq,Wdq               |                   |         | SSSE3    | mix
NP 0F 38 03 /r | PHADDSW Pq,Qq                |                   |         | SSSE3    | mix
66 0F 38 03 /r | PHADDSW Vdq,Wdq              |                   |         | SSSE3    | mix
NP 0F 38 04 /r | PMADDUBSW Pq,Qq              |                   |         | SSSE3    | lane2
66 0F 38 04 /r | PMADDUBSW Vdq,Wdq            |                   |         | SSSE3    | lane2
NP 0F 38 05 /r | PHSUBW Pq,Qq                 |                   |         | SSSE3    | mix
66 0F 38 05 /r | PHSUBW Vdq,Wdq               |                   |         | SSSE3    | mix
NP 0F 38 06 /r | PHSUBD Pq,Qq                 |                   |         | SSSE3    | mix
66 0F 38 06 /r | PHSUBD Vdq,Wdq               |                   |         | SSSE3    | mix
NP 0F 38 07 /r | PHSUBSW Pq,Qq                |                   |         | SSSE3    | mix
66 0F 38 07 /r | PHSUBSW Vdq,Wdq              |                   |         | SSSE3    | mix
NP 0F 38 08 /r | PSIGNB Pq,Qq                 |                   |         | SSSE3    | lane1
66 0F 38 08 /r | PSIGNB Vdq,Wdq               |                   |         | SSSE3    | lane1
NP 0F 38 09 /r | PSIGNW Pq,Qq                 |                   |         | SSSE3    | lane2
66 0F 38 09 /r | PSIGNW Vdq,Wdq               |                   |         | SSSE3    | lane2
NP 0F 38 0A /r | PSIGND Pq,Qq                 |                   |         | SSSE3    | lane4
66 0F 38 0A /r | PSIGND Vdq,Wdq               |                   |         | SSSE3    | lane4
NP 0F 38 0B /r | PMULHRSW Pq,Qq               |                   |         | SSSE3    | lane2
66 0F 38 0B /r | PMULHRSW Vdq,Wdq             |                   |         | SSSE3    | lane2
NP 0F 38 1C /r | PABSB Pq:w,Qq                |                   |         | SSSE3    | lane1
66 0F 38 1C /r | PABSB Vdq:w,Wdq              |                   |         | SSSE3    | lane1
NP 0F 38 1D /r | PABSW Pq:w,Qq                |                   |         | SSSE3    | lane2
66 0F 38 1D /r | PABSW Vdq:w,Wdq              |                   |         | SSSE3    | lane2
NP 0F 38 1E /r | PABSD Pq:w,Qq                |                   |         | SSSE3    | lane4
66 0F 38 1E /r | PABSD Vdq:w,Wdq              |                   |         | SSSE3    | lane4
NP 0F 3A 0F /r | PALIGNR Pq,Qq,Ib             |                   |         | SSSE3    | permute
66 0F 3A 0F /r | PALIGNR Vdq,Wdq,Ib           |                   |         | SSSE3    | permute

# SSE4.1.
66 0F 38 10 /r | PBLENDVB Vdq,Wdq             | X0:r              |         | SSE41    | select
66 0F 38 14 /r | BLENDVPS Vps,Wps             | X0:r              |         | SSE41    | select
66 0F 38 15 /r | BLENDVPD Vpd,Wpd             | X0:r              |         | SSE41    | select
66 0F 38 17 /r | PTEST Vdq:r,Wdq              |                   | >oszapc | SSE41    | compare
66 0F 38 20 /r | PMOVSXBW Vdq:w,Wq            |                   |         | SSE41    | permute
66 0F 38 21 /r | PMOVSXBD Vdq:w,Wd            |                   |         | SSE41    | permute
66 0F 38 22 /r | PMOVSXBQ Vdq:w,Ww            |                   |         | SSE41    | permute
66 0F 38 23 /r | PMOVSXWD Vdq:w,Wq            |                   |         | SSE41    | permute
66 0F 38 24 /r | PMOVSXWQ Vdq:w,Wd            |                   |         | SSE41    | permute
66 0F 38 25 /r | PMOVSXDQ Vdq:w,Wq            |                   |         | SSE41    | permute
66 0F 38 28 /r | PMULDQ Vdq,Wdq               |                   |         | SSE41    | lane8
66 0F 38 29 /r | PCMPEQQ Vdq,Wdq              |                   |         | SSE41    | lane8
66 0F 38 2A /r | MOVNTDQA Vdq:w,Mdq           |                   |         | SSE41    | copy
66 0F 38 2B /r | PACKUSDW Vdq,Wdq             |                   |         | SSE41    | mix
66 0F 38 30 /r | PMOVZXBW Vdq:w,Wq            |                   |         | SSE41    | permute
66 0F 38 31 /r | PMOVZXBD Vdq:w,Wd            |                   |         | SSE41    | permute
66 0F 38 32 /r | PMOVZXBQ Vdq:w,Ww            |                   |         | SSE41    | permute
66 0F 38 33 /r | PMOVZXWD Vdq:w,Wq            |                   |         | SSE41    | permute
66 0F 38 34 /r | PMOVZXWQ Vdq:w,Wd            |                   |         | SSE41    | permute
66 0F 38 35 /r | PMOVZXDQ Vdq:w,Wq            |                   |         | SSE41    | permute
66 0F 38 38 /r | PMINSB Vdq,Wdq               |                   |         | SSE41    | lane1
66 0F 38 39 /r | PMINSD Vdq,Wdq               |                   |         | SSE41    | lane4
66 0F 38 3A /r | PMINUW Vdq,Wdq               |                   |         | SSE41    | lane2
66 0F 38 3B /r | PMINUD Vdq,Wdq               |                   |         | SSE41    | lane4
66 0F 38 3C /r | PMAXSB Vdq,Wdq               |                   |         | SSE41    | lane1
66 0F 38 3D /r | PMAXSD Vdq,Wdq               |                   |         | SSE41    | lane4
66 0F 38 3E /r | PMAXUW Vdq,Wdq               |                   |         | SSE41    | lane2
66 0F 38 3F /r | PMAXUD Vdq,Wdq               |                   |         | SSE41    | lane4
66 0F 38 40 /r | PMULLD Vdq,Wdq               |                   |         | SSE41    | lane4
66 0F 38 41 /r | PHMINPOSUW Vdq:w,Wdq         |                   |         | SSE41    | mix
66 0F 3A 08 /r | ROUNDPS Vps:w,Wps,Ib         |                   |         | SSE41 fp | lane4
66 0F 3A 09 /r | ROUNDPD Vpd:w,Wpd,Ib         |                   |         | SSE41 fp | lane8
66 0F 3A 0A /r | ROUNDSS Vss:w,Wss,Ib         |                   |         | SSE41 fp | lane4
66 0F 3A 0B /r | ROUNDSD Vsd:w,Wsd,Ib         |                   |         | SSE41 fp | lane8
66 0F 3A 0C /r | BLENDPS Vps,Wps,Ib           |                   |         | SSE41    | permute
66 0F 3A 0D /r | BLENDPD Vpd,Wpd,Ib           |                   |         | SSE41    | permute
66 0F 3A 0E /r | PBLENDW Vdq,Wdq,Ib           |                   |         | SSE41    | permute
66 0F 3A 14 /r | PEXTRB Rd/Mb:w,Vdq,Ib        |                   |         | SSE41    | permute
66 0F 3A 15 /r | PEXTRW Rd/Mw:w,Vdq,Ib        |                   |         | SSE41    | permute
66 0F 3A 16 /r | PEXTRD Ey:w,Vdq,Ib           |                   |         | SSE41    | permute
66 0F 3A 17 /r | EXTRACTPS Ed:w,Vdq,Ib        |                   |         | SSE41    | permute
66 0F 3A 20 /r | PINSRB Vdq,Rd/Mb,Ib          |                   |         | SSE41    | permute
66 0F 3A 21 /r | INSERTPS Vdq,Md,Ib           |                   |         | SSE41    | permute
66 0F 3A 21 /r | INSERTPS Vdq,Udq,Ib          |                   |         | SSE41    | permute
66 0F 3A 22 /r | PINSRD Vdq,Ey,Ib             |                   |         | SSE41    | permute
66 0F 3A 40 /r | DPPS Vps,Wps,Ib              |                   |         | SSE41 fp | mix
66 0F 3A 41 /r | DPPD Vpd,Wpd,Ib              |                   |         | SSE41 fp | mix
66 0F 3A 42 /r | MPSADBW Vdq,Wdq,Ib           |                   |         | SSE41    | mix

# SSE4.2. With REX.W the explicit lengths are in RAX and RDX.
66 0F 38 37 /r | PCMPGTQ Vdq,Wdq              |                   |         | SSE42    | lane8
66 0F 3A 60 /r | PCMPESTRM Vdq:r,Wdq,Ib       | yAX:r,yDX:r,X0:w  | >oszapc | SSE42 ua | mix
66 0F 3A 61 /r | PCMPESTRI Vdq:r,Wdq,Ib       | yAX:r,yDX:r,ECX:w | >oszapc | SSE42 ua | mix
66 0F 3A 62 /r | PCMPISTRM Vdq:r,Wdq,Ib       | X0:w              | >oszapc | SSE42 ua | mix
66 0F 3A 63 /r | PCMPISTRI Vdq:r,Wdq,Ib       | ECX:w             | >oszapc | SSE42 ua | mix

# Ciphers.
66 0F 3A 44 /r | PCLMULQDQ Vdq,Wdq,Ib         |                   |         | PCLMUL   | mix
66 0F 38 DB /r | AESIMC Vdq:w,Wdq             |                   |         | AES      | mix
66 0F 38 DC /r | AESENC Vdq,Wdq               |                   |         | AES      | mix
66 0F 38 DD /r | AESENCLAST Vdq,Wdq           |                   |         | AES      | mix
66 0F 38 DE /r | AESDEC Vdq,Wdq               |                   |         | AES      | mix
66 0F 38 DF /r | AESDECLAST Vdq,Wdq           |                   |         | AES      | mix
66 0F 3A DF /r | AESKEYGENASSIST Vdq:w,Wdq,Ib |                   |         | AES      | mix
`
