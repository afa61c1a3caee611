package legacytest

import (
	"fmt"
	"sort"
	"testing"
)

func compareAll(t *testing.T, cases []Case, about []About, results [3][]Result) {
	t.Helper()
	shown, other := 0, map[string]int{}
	examples := map[string]string{}
	vectors := map[string]map[uint32]int{}
	for i := range cases {
		if i >= len(results[0]) {
			break
		}
		emu, a := &results[0][i], &about[i]
		if vectors[a.Env] == nil {
			vectors[a.Env] = map[uint32]int{}
		}
		vectors[a.Env][emu.Vector]++
		var diff [3]string
		var have [3]bool
		for k := 1; k < 3; k++ {
			if i < len(results[k]) {
				have[k] = true
				diff[k] = differences(a, emu, &results[k][i])
			}
		}
		if diff[1] == "" && diff[2] == "" {
			continue
		}
		if why := allowed(&cases[i], a, emu, diff[1], diff[2], have[1]); why != "" {
			other[why]++
			continue
		}
		key := fmt.Sprintf("%v %s q:%v b:%v", a.Inst.Op, "", diff[1] != "", diff[2] != "")
		other[key]++
		if _, ok := examples[key]; !ok {
			examples[key] = fmt.Sprintf("case %d (%s): %v: %v vector %d error %x\n\tQEMU: %s\n\tBochs: %s", i, a.Env, a.Inst.Row.Enc, &cases[i], emu.Vector, emu.Error, diff[1], diff[2])
			if shown < *flagShow {
				shown++
				t.Errorf("%s", examples[key])
			}
		}
	}
	var keys []string
	for k := range other {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		t.Logf("%6d %s", other[k], k)
	}
	for _, e := range environments {
		t.Logf("%-15s %v", e.name, vectors[e.name])
	}
}
