// Command redirectable is the handler of R instructions: those all of whose memory operands are the snapshot's. They stay as they were observed.
package main

import "github.com/hybridbridge/emu/plugins/sdk"

func main() {
	sdk.ServeHandler(nil)
}
