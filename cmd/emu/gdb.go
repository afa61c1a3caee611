package main

import (
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/hybridbridge/emu/core/gdb"
)

// listenGDB makes the server for --gdb and says where gdb finds it.
func listenGDB(addr string, log hclog.Logger) (*gdb.Server, error) {
	s, err := gdb.Listen(addr, log)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "emu: waiting for gdb: target remote %s\r\n", s.Addr())
	return s, nil
}
