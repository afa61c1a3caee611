package cpu

// fastSIMD returns a handler made for the operand form of u, nil if there is none.
func fastSIMD(u *uop) handler { return nil }
