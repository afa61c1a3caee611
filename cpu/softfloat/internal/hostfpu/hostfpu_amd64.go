package hostfpu

// Add64 runs ADDSD.
//
//go:noescape
func Add64(c *Case)

// Mul64 runs MULSD.
//
//go:noescape
func Mul64(c *Case)

// Sub64 runs SUBSD.
//
//go:noescape
func Sub64(c *Case)

// Min64 runs MINSD.
//
//go:noescape
func Min64(c *Case)

// Div64 runs DIVSD.
//
//go:noescape
func Div64(c *Case)

// Max64 runs MAXSD.
//
//go:noescape
func Max64(c *Case)

// Sqrt64 runs SQRTSD.
//
//go:noescape
func Sqrt64(c *Case)

// Ucomi64 runs UCOMISD; R gets the flags, as LAHF has them, in its second byte.
//
//go:noescape
func Ucomi64(c *Case)

// Comi64 runs COMISD, as Ucomi64.
//
//go:noescape
func Comi64(c *Case)

// Round64 runs ROUNDSD by MXCSR.RC.
//
//go:noescape
func Round64(c *Case)

// RoundQuiet64 runs ROUNDSD by MXCSR.RC without Inexact.
//
//go:noescape
func RoundQuiet64(c *Case)

// CvtToInt32From64 runs CVTSD2SI.
//
//go:noescape
func CvtToInt32From64(c *Case)

// CvtToInt64From64 runs CVTSD2SI.
//
//go:noescape
func CvtToInt64From64(c *Case)

// CvttToInt32From64 runs CVTTSD2SI.
//
//go:noescape
func CvttToInt32From64(c *Case)

// CvttToInt64From64 runs CVTTSD2SI.
//
//go:noescape
func CvttToInt64From64(c *Case)

// CvtInt32To64 runs CVTSI2SD.
//
//go:noescape
func CvtInt32To64(c *Case)

// CvtInt64To64 runs CVTSI2SD.
//
//go:noescape
func CvtInt64To64(c *Case)

// Add32 runs ADDSS.
//
//go:noescape
func Add32(c *Case)

// Mul32 runs MULSS.
//
//go:noescape
func Mul32(c *Case)

// Sub32 runs SUBSS.
//
//go:noescape
func Sub32(c *Case)

// Min32 runs MINSS.
//
//go:noescape
func Min32(c *Case)

// Div32 runs DIVSS.
//
//go:noescape
func Div32(c *Case)

// Max32 runs MAXSS.
//
//go:noescape
func Max32(c *Case)

// Sqrt32 runs SQRTSS.
//
//go:noescape
func Sqrt32(c *Case)

// Ucomi32 runs UCOMISS; R gets the flags, as LAHF has them, in its second byte.
//
//go:noescape
func Ucomi32(c *Case)

// Comi32 runs COMISS, as Ucomi32.
//
//go:noescape
func Comi32(c *Case)

// Round32 runs ROUNDSS by MXCSR.RC.
//
//go:noescape
func Round32(c *Case)

// RoundQuiet32 runs ROUNDSS by MXCSR.RC without Inexact.
//
//go:noescape
func RoundQuiet32(c *Case)

// CvtToInt32From32 runs CVTSS2SI.
//
//go:noescape
func CvtToInt32From32(c *Case)

// CvtToInt64From32 runs CVTSS2SI.
//
//go:noescape
func CvtToInt64From32(c *Case)

// CvttToInt32From32 runs CVTTSS2SI.
//
//go:noescape
func CvttToInt32From32(c *Case)

// CvttToInt64From32 runs CVTTSS2SI.
//
//go:noescape
func CvttToInt64From32(c *Case)

// CvtInt32To32 runs CVTSI2SS.
//
//go:noescape
func CvtInt32To32(c *Case)

// CvtInt64To32 runs CVTSI2SS.
//
//go:noescape
func CvtInt64To32(c *Case)

// Cvt32To64 runs CVTSS2SD.
//
//go:noescape
func Cvt32To64(c *Case)

// Cvt64To32 runs CVTSD2SS.
//
//go:noescape
func Cvt64To32(c *Case)

// Fadd runs FADD st0, st1.
//
//go:noescape
func Fadd(c *Case)

// Fsub runs FSUB st0, st1.
//
//go:noescape
func Fsub(c *Case)

// Fmul runs FMUL st0, st1.
//
//go:noescape
func Fmul(c *Case)

// Fdiv runs FDIV st0, st1.
//
//go:noescape
func Fdiv(c *Case)

// Fsqrt runs FSQRT.
//
//go:noescape
func Fsqrt(c *Case)

// Fprem runs FPREM.
//
//go:noescape
func Fprem(c *Case)

// Fprem1 runs FPREM1.
//
//go:noescape
func Fprem1(c *Case)

// Frndint runs FRNDINT.
//
//go:noescape
func Frndint(c *Case)

// Fscale runs FSCALE.
//
//go:noescape
func Fscale(c *Case)

// Fxtract runs FXTRACT.
//
//go:noescape
func Fxtract(c *Case)

// Fcom runs FCOM.
//
//go:noescape
func Fcom(c *Case)

// Fucom runs FUCOM.
//
//go:noescape
func Fucom(c *Case)

// Fxam runs FXAM.
//
//go:noescape
func Fxam(c *Case)

// F2xm1 runs F2XM1.
//
//go:noescape
func F2xm1(c *Case)

// Fyl2x runs FYL2X.
//
//go:noescape
func Fyl2x(c *Case)

// Fyl2xp1 runs FYL2XP1.
//
//go:noescape
func Fyl2xp1(c *Case)

// Fsin runs FSIN.
//
//go:noescape
func Fsin(c *Case)

// Fcos runs FCOS.
//
//go:noescape
func Fcos(c *Case)

// Fsincos runs FSINCOS.
//
//go:noescape
func Fsincos(c *Case)

// Fptan runs FPTAN.
//
//go:noescape
func Fptan(c *Case)

// Fpatan runs FPATAN.
//
//go:noescape
func Fpatan(c *Case)

// Fld1 runs FLD1.
//
//go:noescape
func Fld1(c *Case)

// Fldl2t runs FLDL2T.
//
//go:noescape
func Fldl2t(c *Case)

// Fldl2e runs FLDL2E.
//
//go:noescape
func Fldl2e(c *Case)

// Fldpi runs FLDPI.
//
//go:noescape
func Fldpi(c *Case)

// Fldlg2 runs FLDLG2.
//
//go:noescape
func Fldlg2(c *Case)

// Fldln2 runs FLDLN2.
//
//go:noescape
func Fldln2(c *Case)

// Fstp32 runs FSTP m32fp.
//
//go:noescape
func Fstp32(c *Case)

// Fstp64 runs FSTP m64fp.
//
//go:noescape
func Fstp64(c *Case)

// Fistp16 runs FISTP m16int.
//
//go:noescape
func Fistp16(c *Case)

// Fistp32 runs FISTP m32int.
//
//go:noescape
func Fistp32(c *Case)

// Fistp64 runs FISTP m64int.
//
//go:noescape
func Fistp64(c *Case)

// Fisttp16 runs FISTTP m16int.
//
//go:noescape
func Fisttp16(c *Case)

// Fisttp32 runs FISTTP m32int.
//
//go:noescape
func Fisttp32(c *Case)

// Fisttp64 runs FISTTP m64int.
//
//go:noescape
func Fisttp64(c *Case)

// Fbstp runs FBSTP.
//
//go:noescape
func Fbstp(c *Case)

// Fld32 runs FLD m32fp.
//
//go:noescape
func Fld32(c *Case)

// Fld64 runs FLD m64fp.
//
//go:noescape
func Fld64(c *Case)

// Fild64 runs FILD m64int.
//
//go:noescape
func Fild64(c *Case)

// Fbld runs FBLD.
//
//go:noescape
func Fbld(c *Case)
