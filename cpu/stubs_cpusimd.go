package cpu

// Stubs until cpusys lands.

const (
	cr0PE         uint64 = 1 << 0
	cr0MP         uint64 = 1 << 1
	cr0EM         uint64 = 1 << 2
	cr0TS         uint64 = 1 << 3
	cr0NE         uint64 = 1 << 5
	cr4OSFXSR     uint64 = 1 << 9
	cr4OSXMMEXCPT uint64 = 1 << 10
	cr4OSXSAVE    uint64 = 1 << 18
)
