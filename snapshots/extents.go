package snapshots

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
)

// Extent is a piece of memory that lies in a file as it is.
type Extent struct {
	Base   uint64 // physical address
	Size   uint64 // bytes of memory
	Offset int64  // in the file; negative: the memory is there and was not saved
}

// Extents is memory that lies in a file, sorted by address and disjoint. Make one with NewExtents.
type Extents []Extent

// MaxExtents bounds how many pieces a file may be cut into.
const MaxExtents = 64 << 20

// NewExtents sorts extents. Where several cover an address, the one that comes first in the argument counts. The slice is
// reused. Neighbours that continue each other in memory and in the file are joined.
func NewExtents(e []Extent) (Extents, error) {
	if len(e) > MaxExtents {
		return nil, fmt.Errorf("%w: %d pieces of memory", ErrCorrupt, len(e))
	}
	overlap := false
	for i, x := range e {
		if x.Base+x.Size < x.Base || x.Offset >= 0 && uint64(x.Offset)+x.Size > 1<<63 {
			return nil, fmt.Errorf("%w: piece of memory at %#x has impossible size %#x", ErrCorrupt, x.Base, x.Size)
		}
		overlap = overlap || i > 0 && x.Base < e[i-1].Base+e[i-1].Size
	}
	e = slices.DeleteFunc(e, func(x Extent) bool { return x.Size == 0 })
	if overlap {
		e = flatten(e)
	}
	out := e[:0]
	for _, x := range e {
		if n := len(out); n > 0 {
			p := &out[n-1]
			if p.Base+p.Size == x.Base && (p.Offset < 0 && x.Offset < 0 || p.Offset >= 0 && p.Offset+int64(p.Size) == x.Offset) {
				p.Size += x.Size
				continue
			}
		}
		out = append(out, x)
	}
	return Extents(slices.Clip(out)), nil
}

// active is a heap of the extents that cover the sweep's position, the first in the argument on top.
type active struct {
	e    []Extent
	rank []int
	heap []int // indexes into e and rank
}

func (a *active) Len() int           { return len(a.heap) }
func (a *active) Less(i, j int) bool { return a.rank[a.heap[i]] < a.rank[a.heap[j]] }
func (a *active) Swap(i, j int)      { a.heap[i], a.heap[j] = a.heap[j], a.heap[i] }
func (a *active) Push(x any)         { a.heap = append(a.heap, x.(int)) }
func (a *active) Pop() any {
	x := a.heap[len(a.heap)-1]
	a.heap = a.heap[:len(a.heap)-1]
	return x
}

// flatten sorts extents and cuts away what an earlier one covers.
func flatten(in []Extent) []Extent {
	order := make([]int, len(in))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(in[a].Base, in[b].Base) })
	a := &active{e: make([]Extent, len(in)), rank: order}
	for i, k := range order {
		a.e[i] = in[k]
	}
	var out []Extent
	emit := func(x Extent, from, to uint64) {
		if to <= from {
			return
		}
		off := x.Offset
		if off >= 0 {
			off += int64(from - x.Base)
			if n := len(out); n > 0 { // the same piece goes on
				if p := &out[n-1]; p.Base+p.Size == from && p.Offset >= 0 && p.Offset+int64(p.Size) == off {
					p.Size += to - from
					return
				}
			}
		}
		out = append(out, Extent{Base: from, Size: to - from, Offset: off})
	}
	at := uint64(0)
	for next := 0; next < len(a.e) || a.Len() > 0; {
		for a.Len() > 0 { // drop those that have ended
			if top := a.e[a.heap[0]]; top.Base+top.Size > at {
				break
			}
			heap.Pop(a)
		}
		if a.Len() == 0 {
			if next == len(a.e) {
				break
			}
			at = a.e[next].Base
		} else {
			top := a.e[a.heap[0]]
			end := top.Base + top.Size
			if next < len(a.e) {
				end = min(end, a.e[next].Base)
			}
			emit(top, at, end)
			at = max(at, end)
		}
		for next < len(a.e) && a.e[next].Base <= at {
			heap.Push(a, next)
			next++
		}
	}
	return out
}

// Find returns the number of the extent that holds pa.
func (e Extents) Find(pa uint64) (int, bool) {
	i := sort.Search(len(e), func(i int) bool { return e[i].Base+e[i].Size > pa })
	return i, i < len(e) && e[i].Base <= pa
}

// ReadFrom reads memory at physical address pa from the file r.
func (e Extents) ReadFrom(r io.ReaderAt, p []byte, pa uint64) error {
	for len(p) > 0 {
		i, ok := e.Find(pa)
		if !ok {
			return fmt.Errorf("physical address %#x: %w", pa, ErrNoMemory)
		}
		x := e[i]
		if x.Offset < 0 {
			return fmt.Errorf("physical address %#x: %w", pa, ErrNotSaved)
		}
		n := int(min(uint64(len(p)), x.Base+x.Size-pa))
		if err := ReadFull(r, p[:n], x.Offset+int64(pa-x.Base)); err != nil {
			return fmt.Errorf("physical address %#x: %w", pa, err)
		}
		p, pa = p[n:], pa+uint64(n)
	}
	return nil
}

// Mapping is Mapper's method for these extents.
func (e Extents) Mapping(pa uint64) (offset int64, length uint64, ok bool) {
	i, ok := e.Find(pa)
	if !ok || e[i].Offset < 0 {
		return 0, 0, false
	}
	return e[i].Offset + int64(pa-e[i].Base), e[i].Base + e[i].Size - pa, true
}

// Ranges returns the memory that is in the file, joined where it touches.
func (e Extents) Ranges() []Range {
	var out []Range
	for _, x := range e {
		if x.Offset < 0 {
			continue
		}
		out = AppendRange(out, x.Base, x.Size)
	}
	return out
}

// AppendRange appends a range that starts at or after the end of the last one, joining it where it touches.
func AppendRange(to []Range, base, size uint64) []Range {
	if size == 0 {
		return to
	}
	if n := len(to); n > 0 && to[n-1].Base+to[n-1].Size == base {
		to[n-1].Size += size
		return to
	}
	return append(to, Range{base, size})
}

// Check says whether all of the memory lies within a file of size bytes.
func (e Extents) Check(size int64) error {
	for _, x := range e {
		if x.Offset >= 0 && (x.Offset > size || x.Size > uint64(size-x.Offset)) {
			return fmt.Errorf("%w: memory at %#x should lie at %#x-%#x of a file of %#x bytes", ErrTruncated,
				x.Base, x.Offset, uint64(x.Offset)+x.Size, size)
		}
	}
	return nil
}

// ReadFull fills p from offset off of r. The end of the file is ErrTruncated.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if off < 0 {
		return fmt.Errorf("%w: file offset %#x", ErrCorrupt, off)
	}
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %d bytes at %#x", ErrTruncated, len(p), off)
	}
	return err
}
