// Command neutral is the handler of N instructions: those without memory operands. They stay as they were observed.
package main

import "github.com/hybridbridge/emu/plugins/sdk"

func main() {
	sdk.ServeHandler(nil)
}
