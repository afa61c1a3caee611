// Package clock keeps guest time: a queue of timers ordered by deadline. Devices set timers on it; the machine
// lets the vCPU run until the earliest one. Start at Queue.
package clock
