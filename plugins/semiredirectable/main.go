// Command semiredirectable is the handler of Semi instructions: those with an operand of each kind. They stay as they were observed.
package main

import "github.com/hybridbridge/emu/plugins/sdk"

func main() {
	sdk.ServeHandler(nil)
}
