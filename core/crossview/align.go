package crossview

// entry is what the truths say about one line.
type entry struct {
	before, after *line // one may be nil
	required      bool
	moved         bool // the truths disagree about its place
}

// line is the entry as one of the truths has it.
func (e entry) line() *line {
	if e.before != nil {
		return e.before
	}
	return e.after
}

// align finds a heaviest common subsequence: pairs of indices in order, in which weight(i, j) is above 0.
func align(n, m int, weight func(i, j int) int32) [][2]int {
	var pairs [][2]int
	lo := 0
	for lo < n && lo < m && weight(lo, lo) > 1 {
		pairs = append(pairs, [2]int{lo, lo})
		lo++
	}
	hi := 0
	for hi < n-lo && hi < m-lo && weight(n-1-hi, m-1-hi) > 1 {
		hi++
	}
	rows, columns := n-lo-hi, m-lo-hi
	// best[i][j] is the weight of what is left from (i, j) on.
	width := columns + 1
	best := make([]int32, (rows+1)*width)
	for i := rows - 1; i >= 0; i-- {
		for j := columns - 1; j >= 0; j-- {
			b := max(best[(i+1)*width+j], best[i*width+j+1])
			if w := weight(lo+i, lo+j); w > 0 {
				b = max(b, w+best[(i+1)*width+j+1])
			}
			best[i*width+j] = b
		}
	}
	for i, j := 0, 0; i < rows && j < columns; {
		w := weight(lo+i, lo+j)
		switch b := best[i*width+j]; {
		case w > 0 && b == w+best[(i+1)*width+j+1]:
			pairs = append(pairs, [2]int{lo + i, lo + j})
			i++
			j++
		case b == best[(i+1)*width+j]:
			i++
		default:
			j++
		}
	}
	for k := hi; k > 0; k-- {
		pairs = append(pairs, [2]int{n - k, m - k})
	}
	return pairs
}

// merge joins the truths. What both have is required.
func merge(before, after []line) []entry {
	// A line that is the same weighs more than one that differs in numbers, and that more than one of the same key.
	pairs := align(len(before), len(after), func(i, j int) int32 {
		b, a := &before[i], &after[j]
		switch {
		case b.key != a.key:
			return 0
		case b.masked == a.masked:
			return 8
		case b.shape == a.shape:
			return 5
		case b.key != "":
			return 1
		}
		return 0
	})
	var entries []entry
	i, j := 0, 0
	for _, p := range append(pairs, [2]int{len(before), len(after)}) {
		for ; i < p[0]; i++ {
			entries = append(entries, entry{before: &before[i]})
		}
		for ; j < p[1]; j++ {
			entries = append(entries, entry{after: &after[j]})
		}
		if i < len(before) && j < len(after) {
			entries = append(entries, entry{before: &before[i], after: &after[j], required: true})
			i++
			j++
		}
	}
	return joinMoved(entries)
}

// joinMoved pairs what both truths have at places whose order differs.
func joinMoved(entries []entry) []entry {
	type identity struct{ key, shape string }
	of := func(l *line) identity {
		if l.key != "" {
			return identity{key: l.key, shape: l.shape}
		}
		return identity{shape: l.masked}
	}
	waiting := map[identity][]int{}
	for i, e := range entries {
		if !e.required && e.before != nil {
			waiting[of(e.before)] = append(waiting[of(e.before)], i)
		}
	}
	kept := entries[:0]
	var gone []bool
	for range entries {
		gone = append(gone, false)
	}
	for i, e := range entries {
		if e.required || e.after == nil {
			continue
		}
		id := of(e.after)
		if w := waiting[id]; len(w) > 0 {
			waiting[id] = w[1:]
			entries[w[0]].after = e.after
			entries[w[0]].required, entries[w[0]].moved = true, true
			gone[i] = true
		}
	}
	for i, e := range entries {
		if !gone[i] {
			kept = append(kept, e)
		}
	}
	return kept
}
