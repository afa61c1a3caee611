// Command nonredirectable is the handler of NR instructions: those all of whose memory operands are local. They stay as they were observed.
package main

import "github.com/hybridbridge/emu/plugins/sdk"

func main() {
	sdk.ServeHandler(nil)
}
