// Package pit is the 8254 interval timer of a PC with the part of system control port B (0x61) that belongs to it.
// Start at PIT. Counts are computed from guest time when somebody looks; one timer waits for the next change of
// channel 0's output. Source: Intel 8254 data sheet (231164-005).
package pit
