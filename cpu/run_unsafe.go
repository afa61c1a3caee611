package cpu

import "unsafe"

// execute runs n instructions (at least one) that lie one after the other from u. It returns the one whose handler
// returned false, nil if none did. The loop is kept this small so that nothing but c, u and n lives across the calls.
func (c *CPU) execute(u *uop, n uint64) *uop {
	for {
		if !u.exec(c, u) {
			return u
		}
		if n--; n == 0 {
			return nil
		}
		u = (*uop)(unsafe.Add(unsafe.Pointer(u), unsafe.Sizeof(uop{})))
	}
}
