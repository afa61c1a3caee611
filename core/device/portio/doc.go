// Package portio splits port accesses for devices whose registers are one byte wide. An ISA bridge turns a 16- or
// 32-bit access to an 8-bit device into consecutive byte accesses, lowest address first; Read and Write do that.
package portio
