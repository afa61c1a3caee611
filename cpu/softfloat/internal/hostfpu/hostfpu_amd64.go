// Package hostfpu runs single floating-point instructions on the host CPU. It is
// the oracle of the tests of cpu/softfloat and nothing else imports it.
package hostfpu

// Case is one run of an instruction. Control goes into MXCSR or the x87 control
// word; Status is what MXCSR or the x87 status word held afterwards. A is xmm0, eax
// or st0; B is xmm1 or st1; memory operands are read from A and written to R.
type Case struct {
	A, B, R, R2     [16]byte
	Control, Status uint32
}

//go:noescape
func Add64(c *Case)

//go:noescape
func Mul64(c *Case)

//go:noescape
func Sub64(c *Case)

//go:noescape
func Min64(c *Case)

//go:noescape
func Div64(c *Case)

//go:noescape
func Max64(c *Case)

//go:noescape
func Sqrt64(c *Case)

//go:noescape
func Ucomi64(c *Case)

//go:noescape
func Comi64(c *Case)

//go:noescape
func Round64(c *Case)

//go:noescape
func RoundQuiet64(c *Case)

//go:noescape
func CvtToInt32From64(c *Case)

//go:noescape
func CvtToInt64From64(c *Case)

//go:noescape
func CvttToInt32From64(c *Case)

//go:noescape
func CvttToInt64From64(c *Case)

//go:noescape
func CvtInt32To64(c *Case)

//go:noescape
func CvtInt64To64(c *Case)

//go:noescape
func Add32(c *Case)

//go:noescape
func Mul32(c *Case)

//go:noescape
func Sub32(c *Case)

//go:noescape
func Min32(c *Case)

//go:noescape
func Div32(c *Case)

//go:noescape
func Max32(c *Case)

//go:noescape
func Sqrt32(c *Case)

//go:noescape
func Ucomi32(c *Case)

//go:noescape
func Comi32(c *Case)

//go:noescape
func Round32(c *Case)

//go:noescape
func RoundQuiet32(c *Case)

//go:noescape
func CvtToInt32From32(c *Case)

//go:noescape
func CvtToInt64From32(c *Case)

//go:noescape
func CvttToInt32From32(c *Case)

//go:noescape
func CvttToInt64From32(c *Case)

//go:noescape
func CvtInt32To32(c *Case)

//go:noescape
func CvtInt64To32(c *Case)

//go:noescape
func Cvt32To64(c *Case)

//go:noescape
func Cvt64To32(c *Case)

//go:noescape
func Fadd(c *Case)

//go:noescape
func Fsub(c *Case)

//go:noescape
func Fmul(c *Case)

//go:noescape
func Fdiv(c *Case)

//go:noescape
func Fsqrt(c *Case)

//go:noescape
func Fprem(c *Case)

//go:noescape
func Fprem1(c *Case)

//go:noescape
func Frndint(c *Case)

//go:noescape
func Fscale(c *Case)

//go:noescape
func Fxtract(c *Case)

//go:noescape
func Fcom(c *Case)

//go:noescape
func Fucom(c *Case)

//go:noescape
func Fxam(c *Case)

//go:noescape
func F2xm1(c *Case)

//go:noescape
func Fyl2x(c *Case)

//go:noescape
func Fyl2xp1(c *Case)

//go:noescape
func Fsin(c *Case)

//go:noescape
func Fcos(c *Case)

//go:noescape
func Fsincos(c *Case)

//go:noescape
func Fptan(c *Case)

//go:noescape
func Fpatan(c *Case)

//go:noescape
func Fld1(c *Case)

//go:noescape
func Fldl2t(c *Case)

//go:noescape
func Fldl2e(c *Case)

//go:noescape
func Fldpi(c *Case)

//go:noescape
func Fldlg2(c *Case)

//go:noescape
func Fldln2(c *Case)

//go:noescape
func Fstp32(c *Case)

//go:noescape
func Fstp64(c *Case)

//go:noescape
func Fistp16(c *Case)

//go:noescape
func Fistp32(c *Case)

//go:noescape
func Fistp64(c *Case)

//go:noescape
func Fisttp16(c *Case)

//go:noescape
func Fisttp32(c *Case)

//go:noescape
func Fisttp64(c *Case)

//go:noescape
func Fbstp(c *Case)

//go:noescape
func Fld32(c *Case)

//go:noescape
func Fld64(c *Case)

//go:noescape
func Fild64(c *Case)

//go:noescape
func Fbld(c *Case)
