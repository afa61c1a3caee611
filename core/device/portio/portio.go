package portio

// Read reads size consecutive byte registers and puts them together, lowest address in the lowest bits.
func Read(port uint16, size int, read func(port uint16) uint8) uint32 {
	var v uint32
	for i := 0; i < size && i < 4; i++ {
		v |= uint32(read(port+uint16(i))) << (8 * i)
	}
	return v
}

// Write writes size consecutive byte registers, lowest address first.
func Write(port uint16, size int, v uint32, write func(port uint16, v uint8)) {
	for i := 0; i < size && i < 4; i++ {
		write(port+uint16(i), uint8(v>>(8*i)))
	}
}
