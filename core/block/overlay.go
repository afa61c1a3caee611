package block

import (
	"fmt"
	"slices"
)

const overlayBlock = 4096

// Overlay is a disk whose writes stay in memory, over a base that it only reads. With it a run does not change what the
// next run reads. Its state is part of a machine's saved state.
type Overlay struct {
	base   Disk
	size   uint64
	blocks map[uint64]*[overlayBlock]byte
}

// NewOverlay returns an overlay with nothing written. It takes over base.
func NewOverlay(base Disk) *Overlay {
	return &Overlay{base: base, size: base.Size(), blocks: map[uint64]*[overlayBlock]byte{}}
}

// NewMemory returns an empty disk in memory; size is rounded up to a sector.
func NewMemory(size uint64) *Overlay {
	return NewOverlay(zeroDisk((size + SectorSize - 1) / SectorSize * SectorSize))
}

// Size implements Disk.
func (o *Overlay) Size() uint64 { return o.size }

// ReadOnly implements Disk; an overlay is always writable.
func (o *Overlay) ReadOnly() bool { return false }

// Flush implements Disk; there is nothing to do.
func (o *Overlay) Flush() error { return nil }

// Close drops what was written and closes the base.
func (o *Overlay) Close() error {
	o.blocks = nil
	return o.base.Close()
}

// Written returns how many bytes of memory the writes take.
func (o *Overlay) Written() uint64 { return uint64(len(o.blocks)) * overlayBlock }

// ReadAt implements Disk.
func (o *Overlay) ReadAt(p []byte, off uint64) error {
	if err := inside(len(p), off, o.size); err != nil {
		return err
	}
	for len(p) > 0 {
		in := off % overlayBlock
		n := min(uint64(len(p)), overlayBlock-in)
		if b := o.blocks[off/overlayBlock]; b != nil {
			copy(p[:n], b[in:])
		} else {
			// Read runs of unwritten blocks at once.
			for n < uint64(len(p)) && o.blocks[(off+n)/overlayBlock] == nil {
				n = min(uint64(len(p)), n+overlayBlock)
			}
			if err := o.base.ReadAt(p[:n], off); err != nil {
				return err
			}
		}
		p, off = p[n:], off+n
	}
	return nil
}

// WriteAt implements Disk.
func (o *Overlay) WriteAt(p []byte, off uint64) error {
	if err := inside(len(p), off, o.size); err != nil {
		return err
	}
	for len(p) > 0 {
		in := off % overlayBlock
		n := min(uint64(len(p)), overlayBlock-in)
		b := o.blocks[off/overlayBlock]
		if b == nil {
			b = new([overlayBlock]byte)
			if start := off - in; n < overlayBlock {
				if err := o.base.ReadAt(b[:min(overlayBlock, o.size-start)], start); err != nil {
					return err
				}
			}
			o.blocks[off/overlayBlock] = b
		}
		copy(b[in:], p[:n])
		p, off = p[n:], off+n
	}
	return nil
}

// OverlayState is what an overlay saves: the size of the disk and the blocks that were written, in ascending order.
type OverlayState struct {
	Size   uint64
	Index  []uint64 // in units of 4096 bytes
	Blocks []byte   // concatenated
}

// SaveState returns an OverlayState.
func (o *Overlay) SaveState() any {
	s := OverlayState{Size: o.size, Blocks: make([]byte, 0, len(o.blocks)*overlayBlock)}
	for i := range o.blocks {
		s.Index = append(s.Index, i)
	}
	slices.Sort(s.Index)
	for _, i := range s.Index {
		s.Blocks = append(s.Blocks, o.blocks[i][:]...)
	}
	return s
}

// LoadState replaces what was written with a saved state. The base must be the one that the state was saved over.
func (o *Overlay) LoadState(decode func(any) error) error {
	var s OverlayState
	if err := decode(&s); err != nil {
		return err
	}
	return o.Restore(s)
}

// Restore is LoadState with a state that is decoded already.
func (o *Overlay) Restore(s OverlayState) error {
	switch {
	case s.Size != o.size:
		return fmt.Errorf("saved state is for a disk of %d bytes, this one has %d", s.Size, o.size)
	case len(s.Blocks) != len(s.Index)*overlayBlock:
		return fmt.Errorf("saved disk state has %d bytes for %d blocks", len(s.Blocks), len(s.Index))
	}
	blocks := make(map[uint64]*[overlayBlock]byte, len(s.Index))
	for n, i := range s.Index {
		if i > o.size/overlayBlock || i*overlayBlock >= o.size || blocks[i] != nil {
			return fmt.Errorf("saved disk state: block %d is out of range or there twice", i)
		}
		b := new([overlayBlock]byte)
		copy(b[:], s.Blocks[n*overlayBlock:])
		blocks[i] = b
	}
	o.blocks = blocks
	return nil
}

// zeroDisk is an empty disk of a size.
type zeroDisk uint64

func (z zeroDisk) Size() uint64   { return uint64(z) }
func (z zeroDisk) ReadOnly() bool { return true }
func (z zeroDisk) Flush() error   { return nil }
func (z zeroDisk) Close() error   { return nil }
func (z zeroDisk) ReadAt(p []byte, off uint64) error {
	clear(p)
	return inside(len(p), off, uint64(z))
}
func (z zeroDisk) WriteAt([]byte, uint64) error { return ErrReadOnly }

// OverlayOf returns the overlay that d is, or that it wraps (by a method Unwrap() Disk); nil if there is none.
func OverlayOf(d Disk) *Overlay {
	for {
		switch w := d.(type) {
		case *Overlay:
			return w
		case interface{ Unwrap() Disk }:
			d = w.Unwrap()
		default:
			return nil
		}
	}
}
