package softfloat

// Flags is a set of floating-point exceptions. The bits lie as in the x87
// status word and in MXCSR (SDM vol. 1, 4.9.1).
type Flags uint8

// The six exceptions, in the order of their status bits.
const (
	Invalid   Flags = 1 << iota // IE
	Denormal                    // DE
	DivByZero                   // ZE
	Overflow                    // OE
	Underflow                   // UE
	Inexact                     // PE
)

// AllFlags is every exception: as Masks, the default environment of both units.
const AllFlags = Invalid | Denormal | DivByZero | Overflow | Underflow | Inexact

// preFlags are found before an operation computes. Unmasked, they stop it (SDM vol. 1, 4.9.2).
const preFlags = Invalid | Denormal | DivByZero

// Rounding is the rounding control field, encoded as the hardware does (SDM vol. 1, 4.8.4).
type Rounding uint8

// The rounding modes.
const (
	NearestEven Rounding = iota
	Down
	Up
	TowardZero
)

// Order is the outcome of a comparison.
type Order uint8

// The four outcomes (SDM vol. 2, FCOM and COMISD).
const (
	Less Order = iota
	Equal
	Greater
	Unordered
)

// Env is the rounding and exception environment of one operation.
//
// Flags accumulates. An operation that meets an unmasked Invalid, Denormal or
// DivByZero stops there: it raises no further flag, and what it returns must
// not be stored. To learn what one operation raised, start it with Flags zero;
// leaving only Inexact set is allowed and saves the search for it.
type Env struct {
	Rounding  Rounding
	Flags     Flags
	Masks     Flags // set: the exception is masked
	FTZ       bool  // MXCSR.FZ
	DAZ       bool  // MXCSR.DAZ
	Precision uint8 // x87 precision control in bits: 24, 53 or 64; 0 means 64
	RoundedUp bool  // x87 C1: the last result was rounded away from zero
}

// raise adds flags and reports whether one of them is unmasked.
func (e *Env) raise(f Flags) bool {
	e.Flags |= f
	return f&^e.Masks != 0
}

// F80 is the double extended format (SDM vol. 1, 4.2.2): SE holds sign and
// exponent, Mant the significand with its explicit integer bit.
type F80 struct {
	Mant uint64
	SE   uint16
}

// The default NaNs, "real indefinite" (SDM vol. 1, table 4-3), and the integer indefinites (4.2.1).
const (
	Indefinite32  uint32 = 0xFFC00000
	Indefinite64  uint64 = 0xFFF8000000000000
	IndefiniteI16 int16  = -1 << 15
	IndefiniteI32 int32  = -1 << 31
	IndefiniteI64 int64  = -1 << 63
)

// Indefinite80 returns the x87 real indefinite, a negative quiet NaN.
func Indefinite80() F80 { return F80{0xC000000000000000, 0xFFFF} }
