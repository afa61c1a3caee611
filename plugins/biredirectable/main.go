// Command biredirectable is the handler of Bi instructions: those whose operand is now local, now the snapshot's. They stay as they were observed.
package main

import "github.com/hybridbridge/emu/plugins/sdk"

func main() {
	sdk.ServeHandler(nil)
}
