// Package softfloat is the floating-point arithmetic of an x86 processor: SSE's
// binary32 and binary64, and the x87's 80-bit double extended format, bit for bit and
// exception flag for exception flag. It knows values and flags, not registers: the
// instruction handlers of package cpu keep MXCSR, the x87 stack and the status word.
//
// Start with Env, the rounding and exception environment that every operation is
// a method of. An SSE operation takes and returns bits:
//
//	e := softfloat.Env{Masks: softfloat.AllFlags}
//	r := e.Add64(a, b)
//	raised := e.Flags
//
// The files follow the data. num.go takes operands apart, rounds results and
// computes in between; arith.go adds the rules for zeros, infinities and the priority of
// exceptions. sse32.go and sse64.go, convert.go and x87.go are the instructions, each with its
// unit's NaN rule. wide.go has 128-bit arithmetic and transcendental.go the instructions that need it.
//
// sse32.go and sse64.go use the host's own arithmetic where that is exact enough to
// know everything: rounding to nearest, operands normal or zero, the result normal. The
// flags then come from the residual. All else is integer arithmetic.
//
// # Unmasked exceptions
//
// Env tells how an unmasked exception differs. An unmasked overflow or underflow leaves its
// result scaled by 2^-24576 or 2^24576 in an x87 register, and nothing where
// the result would go to memory or an XMM register. SSE raises Inexact beside it, as the
// unbounded result would; an x87 store does not. A packed instruction runs its lanes one
// by one; if any lane raises an unmasked Invalid, Denormal or DivByZero, the
// instruction raises only what of these three its lanes raised.
//
// # Against silicon
//
// The tests run each operation on the host CPU. On an AMD Zen 5 all but the
// transcendental instructions agree in every bit and flag, C1 and FPREM's step included. Over
// 10^6 operands to nearest, the transcendental ones differ by one unit in the last place, never by more:
//
//	F2XM1 2.4 %, FYL2X 2.2 %, FYL2XP1 2.8 %, FPATAN 1.8 %,
//	FSIN 0.8 %, FCOS 0.6 %, FSINCOS 1.4 % (either), FPTAN 2.5 %
//
// Here they are correctly rounded in every rounding mode (reference_test.go), and it is
// the silicon that errs. That Zen 5, too, reduces angles by a pi of 66 bits. In directed modes
// it takes exact results for inexact ones: F2XM1(1) rounded down is 1 - 2^-64, where we
// return 1; both raise Inexact.
//
// Where the manuals leave a result open we do as that Zen 5 does: F2XM1 of |x| > 1 is x, FYL2XP1 of x <= -1
// is x. Intel's processors may differ there, and in the step of an incomplete FPREM.
package softfloat
