package cpu

// buildTracked chooses the handlers that execute b in tracking mode.
func (c *CPU) buildTracked(b *block) {
	b.tracked = make([]handler, len(b.ops))
	for i := range b.ops {
		b.tracked[i] = trackGeneral
	}
}
