// Package uart is a 16550A serial port. Start at UART. Characters take no time to transmit. Input comes from a queue
// and moves on only while the guest asserts RTS, as over a cable with hardware handshake, so no byte that Receive
// took is lost to an overrun. The interrupt output goes through the OUT2 gate, as on a PC. Source: National
// Semiconductor PC16550D data sheet (1995).
package uart
