package kallsyms

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// The layout of the kallsyms tables (scripts/kallsyms.c, kernel/kallsyms.c). They have no symbols of their own in a
// stripped kernel, so they are found by their content. Each starts on a word boundary:
//
//	before 6.4: offsets, relative_base, num_syms, names, markers, [seqs_of_names,] token_table, token_index
//	since 6.4:  num_syms, names, markers, token_table, token_index, offsets, relative_base, seqs_of_names
type finder struct {
	b      []byte
	word   int // 4 or 8: size and alignment
	tokens [256]string
	table  int // token_table
	index  int // token_index
	uleb   bool
	fuel   int // bounds the search in hostile input
}

const (
	maxSymbols  = 4 << 20
	maxNames    = 64 << 20 // bytes before the token table in which the names must be
	searchFuel  = 1 << 24
	maxSymName  = 1024
	minSymbols  = 100
	symbolTypes = "aAbBcCdDgGiIlLnNpPrRsStTuUvVwW?"
)

// Find finds and reads the kallsyms tables in an unpacked kernel, an ELF file. Addresses are those it was linked for.
func Find(b []byte) ([]Symbol, error) {
	word := 8
	if len(b) > 4 && b[0] == 0x7f && b[4] == 1 {
		word = 4
	}
	return FindInMemory(b, word)
}

// FindInMemory is Find for a piece of memory that holds a running kernel of that word size, 4 or 8 bytes. Its symbols
// are where the kernel runs. b must be aligned as it was in memory.
func FindInMemory(b []byte, word int) ([]Symbol, error) {
	if len(b) > math.MaxInt32 {
		return nil, fmt.Errorf("kallsyms: %d bytes are too many for a kernel", len(b))
	}
	k := &finder{b: b, word: word, fuel: searchFuel}
	// Digits occur in symbols but never need a token of their own, so each stands for itself, in order.
	digits := []byte("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00")
	for from := 0; ; {
		i := bytes.Index(b[from:], digits)
		if i < 0 {
			return nil, fmt.Errorf("kallsyms: no token table in this kernel: %w", ErrNotFound)
		}
		from += i
		if k.findTokens(from) {
			for _, k.uleb = range []bool{true, false} {
				if t := k.findNames(); t != nil {
					return t, nil
				}
			}
		}
		if k.fuel <= 0 {
			return nil, fmt.Errorf("kallsyms: gave up: %w", ErrNotFound)
		}
		from++
	}
}

func (k *finder) align(n int) int { return (n + k.word - 1) &^ (k.word - 1) }

func (k *finder) u32(at int) uint32 { return binary.LittleEndian.Uint32(k.b[at:]) }

// findTokens looks for the start of the token table given where token '0' is, and confirms it with the token index, which
// follows.
func (k *finder) findTokens(zero int) bool {
	p := zero
	for n := 0; n < '0'; n++ { // to the end of token 0
		if p = bytes.LastIndexByte(k.b[max(0, p-maxSymName):p], 0) + max(0, p-maxSymName); p < 1 || k.b[p] != 0 {
			return false
		}
	}
	for s := p - 1; s >= 0 && p-s < maxSymName && k.b[s] != 0; s-- {
		if s%4 == 0 && k.checkTokens(s) {
			return true
		}
	}
	return false
}

func (k *finder) checkTokens(s int) bool {
	var at [256]int
	p := s
	for i := range k.tokens {
		n := bytes.IndexByte(k.b[p:min(len(k.b), p+maxSymName)], 0)
		if n < 0 {
			return false
		}
		at[i] = p - s
		k.tokens[i] = string(k.b[p : p+n])
		p += n + 1
	}
	k.table, k.index = s, k.align(p)
	if k.index+512 > len(k.b) {
		return false
	}
	for i, a := range at {
		if int(binary.LittleEndian.Uint16(k.b[k.index+2*i:])) != a {
			return false
		}
	}
	return true
}

// name returns where the symbol name at p ends and where its tokens start.
func (k *finder) name(p int) (start, end int, ok bool) {
	if p >= k.table {
		return 0, 0, false
	}
	n := int(k.b[p])
	p++
	if k.uleb && n >= 0x80 {
		n = n&0x7f | int(k.b[p])<<7
		p++
	}
	if n == 0 || p+n > k.table {
		return 0, 0, false
	}
	first := k.tokens[k.b[p]]
	return p, p + n, first != "" && bytes.IndexByte([]byte(symbolTypes), first[0]) >= 0
}

// findNames looks backwards from the token table for num_syms and the names after it, and confirms them with the markers,
// which follow the names and hold the offset of every 256th.
func (k *finder) findNames() []Symbol {
	for at := k.table &^ (k.word - 1); at > max(0, k.table-maxNames) && k.fuel > 0; {
		at -= k.word
		k.fuel--
		num := int(k.u32(at))
		// A symbol takes at least two bytes of names.
		if num < minSymbols || num > maxSymbols || num*2 > k.table-at || k.word == 8 && k.u32(at+4) != 0 {
			continue
		}
		names, p, ok := at+k.word, at+k.word, true
		var marks []int
		for i := 0; i < num && ok; i++ {
			if i%256 == 0 {
				marks = append(marks, p-names)
			}
			_, p, ok = k.name(p)
			k.fuel--
		}
		if !ok {
			continue
		}
		markers := k.align(p)
		if markers+4*len(marks) > k.table {
			continue
		}
		for i, m := range marks {
			ok = ok && int(k.u32(markers+4*i)) == m
		}
		if !ok {
			continue
		}
		if t := k.read(at, num); t != nil {
			return t
		}
	}
	return nil
}

// read finds the addresses that belong to the names and makes the table.
func (k *finder) read(numAt, num int) []Symbol {
	// Since 6.4: behind the token index. Before: in front of num_syms.
	after := k.align(k.index + 512)
	before := numAt - k.word - k.align(4*num)
	for _, place := range [][2]int{{after, k.align(after + 4*num)}, {before, numAt - k.word}} {
		if place[0] < 0 || place[1]+k.word > len(k.b) {
			continue
		}
		if addrs, abs := k.relative(place[0], place[1], num); addrs != nil {
			return k.expand(numAt, addrs, abs)
		}
	}
	// Without CONFIG_KALLSYMS_BASE_RELATIVE: full addresses.
	for _, at := range []int{after, numAt - k.word*num} {
		if at < 0 || at+k.word*num > len(k.b) {
			continue
		}
		addrs := make([]uint64, num)
		for i := range addrs {
			addrs[i] = k.pointer(at + k.word*i)
		}
		if k.plausible(addrs, nil) {
			return k.expand(numAt, addrs, nil)
		}
	}
	return nil
}

func (k *finder) pointer(at int) uint64 {
	if k.word == 4 {
		return uint64(k.u32(at))
	}
	return binary.LittleEndian.Uint64(k.b[at:])
}

// relative decodes kallsyms_offsets. With absolute per-CPU symbols (64-bit SMP kernels before 6.15), negative
// offsets count from the base down by one and others are the value itself.
func (k *finder) relative(offsets, baseAt, num int) (addrs []uint64, abs []bool) {
	base := k.pointer(baseAt)
	if k.word == 8 && base < 0xffff_8000_0000_0000 || base == 0 {
		return nil, nil
	}
	negative := 0
	for i := range num {
		if int32(k.u32(offsets+4*i)) < 0 {
			negative++
		}
	}
	addrs = make([]uint64, num)
	percpu := k.word == 8 && negative > num/2
	if percpu {
		abs = make([]bool, num)
	}
	for i := range addrs {
		off := k.u32(offsets + 4*i)
		switch {
		case !percpu:
			addrs[i] = base + uint64(off)
		case int32(off) < 0:
			addrs[i] = base - 1 - uint64(int64(int32(off)))
		default:
			addrs[i], abs[i] = uint64(off), true
		}
		if k.word == 4 {
			addrs[i] &= math.MaxUint32
		}
	}
	if !k.plausible(addrs, abs) {
		return nil, nil
	}
	return addrs, abs
}

// plausible says whether nearly all addresses ascend, as the build sorts them, and most are a kernel's.
func (k *finder) plausible(addrs []uint64, abs []bool) bool {
	low := uint64(0x4000_0000)
	if k.word == 8 {
		low = 0xffff_8000_0000_0000
	}
	bad, kernel := 0, 0
	for i, a := range addrs {
		if i > 0 && (abs == nil || abs[i] == abs[i-1]) && a < addrs[i-1] {
			bad++
		}
		if a >= low {
			kernel++
		}
	}
	return bad <= len(addrs)/50 && kernel > len(addrs)/2 && addrs[0] != addrs[len(addrs)-1]
}

// expand expands the names.
func (k *finder) expand(numAt int, addrs []uint64, abs []bool) []Symbol {
	syms := make([]Symbol, 0, len(addrs))
	text := make([]byte, 0, 32*len(addrs)) // of all names, which share it
	ends := make([]int, len(addrs))
	p := numAt + k.word
	for i := range addrs {
		start, end, ok := k.name(p)
		if !ok {
			return nil
		}
		at := len(text)
		for _, t := range k.b[start:end] {
			if text = append(text, k.tokens[t]...); len(text)-at > maxSymName {
				return nil
			}
		}
		if len(text) == at {
			return nil
		}
		p, ends[i] = end, len(text)
	}
	all, at := string(text), 0
	for i, a := range addrs {
		s := Symbol{Name: all[at+1 : ends[i]], Type: all[at], Address: a}
		at = ends[i]
		if abs != nil && abs[i] && !s.absolute() {
			s.Type = 'A'
		}
		syms = append(syms, s)
	}
	return syms
}
