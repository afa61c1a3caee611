// Command linux is the kernel policy for Linux: package tables has what it says.
package main

import (
	"github.com/hybridbridge/emu/plugins/linux/tables"
	"github.com/hybridbridge/emu/plugins/sdk"
)

func main() {
	sdk.ServePolicy(tables.Policy)
}
