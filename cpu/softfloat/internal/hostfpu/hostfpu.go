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
