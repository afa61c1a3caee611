package legacytest

// allowed returns why a difference is the reference's own fault, or "".
func allowed(c *Case, a *About, emu *Result, diff [3]string, have [3]bool) string {
	return ""
}
