package oracle

import (
	"flag"
	"fmt"
	"regexp"
	"testing"
)

var zop = flag.String("zop", "", "")
var zn = flag.Uint64("zn", 200000, "")

func TestZTaint(t *testing.T) {
	seen := map[string]int{}
	n := 0
	p := TaintCampaign{Seed: 1, Cases: *zn, Failed: func(f *TaintFailure) bool {
		key := ""
		for _, in := range f.Case.Insts {
			key += in.Op.String() + " "
		}
		if len(f.Case.Insts) > 1 {
			key = "seq"
		}
		seen[key]++
		if seen[key] <= 2 && n < 60 {
			n++
			fmt.Println(f.N, f)
		}
		return true
	}}
	if *zop != "" {
		p.Filter = regexp.MustCompile(*zop)
	}
	r, err := p.Run()
	fmt.Println(err, r.Cases, r.Compared, r.Failures, seen)
}
