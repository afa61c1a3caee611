// Command linux is the kernel policy for Linux: package tables has what it says.
package main

import (
	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/plugins/linux/tables"
	"github.com/hybridbridge/emu/plugins/sdk"
)

func main() {
	sdk.ServePolicy(func(k policy.Kernel) policy.Policy { return tables.Policy(k.Bits) })
}
