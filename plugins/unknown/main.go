// Command unknown is the handler of U instructions: those of which it was not seen what their operands are. It ends the run,
// since any answer would be a guess.
package main

import (
	"fmt"

	"github.com/hybridbridge/emu/core/policy"
	"github.com/hybridbridge/emu/plugins/sdk"
)

func main() {
	sdk.ServeHandler(plan)
}

func plan(s policy.Site) policy.Plan {
	return policy.Plan{Trap: fmt.Sprintf("it is not known whether %q in scope %q means the trusted VM or the snapshot; "+
		"train with a tool that executes it, or install a handler of category U that decides", s.Disassembly, s.Scope)}
}
