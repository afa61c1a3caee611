package metadata_test

import (
	"math/rand"
	"path/filepath"
	"testing"

	"github.com/hybridbridge/emu/core/metadata"
	"github.com/hybridbridge/emu/core/policy"
)

// large is about what ps teaches: 20,000 sites in 40 scopes, each in 4 contexts of 12 return addresses; every tenth
// site is Bi.
func large(b *testing.B) *metadata.Set {
	b.Helper()
	set := &metadata.Set{}
	for i := range uint64(40) {
		var sites []metadata.Site
		for j := range uint64(500) {
			s := site(policy.Unknown)
			s.Offset, s.Bytes = j*7, []byte{0x48, 0x8b, 0x80, 0x20, 0x02, 0, 0}
			for c := range uint64(4) {
				route := policy.Snapshot
				if j%10 == 0 && c%2 == 0 {
					route = policy.Local
				}
				returns := make([]uint64, 12)
				for k := range returns {
					returns[k] = uint64(k)<<12 | j/20<<4 | c
				}
				s.Contexts = append(s.Contexts, from(route, returns...))
			}
			set.AddSymbol(s.Location, metadata.Symbol{Function: "function", Offset: j * 7})
			sites = append(sites, s)
		}
		if err := set.Add(metadata.ScopeID{Syscall: string(rune('a' + i))}, sites...); err != nil {
			b.Fatal(err)
		}
	}
	return set
}

func BenchmarkEncode(b *testing.B) {
	set := large(b)
	for b.Loop() {
		b.ReportMetric(float64(len(encode(b, set))), "bytes")
	}
}

func BenchmarkDecode(b *testing.B) {
	code := encode(b, large(b))
	for b.Loop() {
		decode(b, code)
	}
}

func BenchmarkStoreMerge(b *testing.B) {
	s := metadata.Store{Path: filepath.Join(b.TempDir(), "m.db")}
	set := large(b)
	for b.Loop() {
		if _, err := s.Merge(testKey, set, training); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewIndex(b *testing.B) {
	set := large(b)
	for b.Loop() {
		metadata.NewIndex(set)
	}
}

func BenchmarkDecide(b *testing.B) {
	x := metadata.NewIndex(large(b)).Scope(metadata.ScopeID{Syscall: "a"})
	code := []byte{0x48, 0x8b, 0x80, 0x20, 0x02, 0, 0}
	for b.Loop() {
		e := x.Site(metadata.Location{Offset: 70}, code)
		if e.Decide(func(depth uint32) metadata.Location { return metadata.Location{Offset: 0xb<<12 | 1} }) == nil {
			b.Fatal("undecided")
		}
	}
}

// BenchmarkNewTree is of a site of vsnprintf or the like: 200 contexts, some of them through the same callers.
func BenchmarkNewTree(b *testing.B) {
	rng := rand.New(rand.NewSource(1))
	var contexts []metadata.Context
	for range 200 {
		var returns []uint64
		for k := range uint64(5 + rng.Intn(12)) {
			returns = append(returns, k<<8|uint64(rng.Intn(4)))
		}
		c := from(policy.Route(rng.Intn(2)), returns...)
		for i := range c.Path {
			c.Path[i].Depth += uint32(8 * (len(c.Path) - i) * rng.Intn(2))
		}
		contexts = append(contexts, c)
	}
	for b.Loop() {
		t, groups := metadata.NewTree(contexts)
		b.ReportMetric(float64(t.Tests()), "tests")
		b.ReportMetric(float64(len(groups)), "conflicts")
	}
}
