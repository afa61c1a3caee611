package oracle

import "math/bits"

// rng is a small fast generator (splitmix64): each case has its own, so that it can be made again from seed and number.
type rng struct{ state uint64 }

// newRNG returns the generator of case n of a seed.
func newRNG(seed, n uint64) rng {
	r := rng{seed*0x9e3779b97f4a7c15 ^ n*0xd1342543de82ef95}
	r.next()
	r.state ^= n
	return r
}

func (r *rng) next() uint64 {
	r.state += 0x9e3779b97f4a7c15
	z := r.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// n returns a number below n.
func (r *rng) n(n int) int {
	hi, _ := bits.Mul64(r.next(), uint64(n))
	return int(hi)
}

// in returns a number from lo to hi, both included.
func (r *rng) in(lo, hi int) int { return lo + r.n(hi-lo+1) }

// percent is true in p of 100 cases.
func (r *rng) percent(p int) bool { return r.n(100) < p }

// oneIn is true in one of n cases.
func (r *rng) oneIn(n int) bool { return r.n(n) == 0 }
