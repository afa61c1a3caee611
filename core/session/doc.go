// Package session runs commands in a trusted VM: argv goes in, and what the command writes comes out byte by byte, with its
// exit code.
//
// The guest's side is a shell script, Agent, that init ends in. It waits for a line on the serial port COM2 and runs the
// command in it with pipes for standard output and standard error, which two processes copy to COM3 and COM4. So a tool sees
// what it would see in "ssh host tool | cat": a pipe, and no terminal. Its standard input is a pipe too, if it has one: what the shell evaluates
// before it becomes the command starts a process that asks for it piece by piece (input.go). Start at Open and Run.
package session
