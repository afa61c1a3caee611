package elfcore

import (
	"encoding/binary"
	"io"

	"github.com/hybridbridge/emu/snapshots"
)

// page is what memory is aligned to in a file that Write makes, so that it can be mapped.
const page = 4096

// Write writes a snapshot as an ELF64 core file of the form that QEMU writes without paging: notes for the processors that
// have state, then those of notes that are not about processors, then the memory. What the source has not saved is
// written as zeroes. progress, unless nil, is told how many bytes of memory are done.
func Write(w io.Writer, s snapshots.Snapshot, notes []snapshots.Note, progress func(done uint64) error) error {
	le := binary.LittleEndian
	var n []byte
	for i, c := range s.CPUs() {
		for _, note := range snapshots.NotesOfCPU(c, i+1) {
			n = snapshots.AppendNote(n, note)
		}
	}
	for _, note := range notes {
		n = snapshots.AppendNote(n, note)
	}
	ranges := s.Ranges()
	phnum := uint64(len(ranges) + 1)
	const ehsize, shsize, phsize = 64, 64, 56
	h := make([]byte, ehsize)
	copy(h, magic+"\x02\x01\x01")
	le.PutUint16(h[16:], etCore)
	le.PutUint16(h[18:], emX86_64)
	le.PutUint32(h[20:], 1)
	phoff := uint64(ehsize)
	le.PutUint16(h[52:], ehsize)
	le.PutUint16(h[54:], phsize)
	le.PutUint16(h[56:], uint16(phnum))
	if phnum >= pnXNum {
		le.PutUint16(h[56:], pnXNum)
		le.PutUint64(h[40:], ehsize)
		le.PutUint16(h[58:], shsize)
		le.PutUint16(h[60:], 1)
		sh := make([]byte, shsize)
		le.PutUint32(sh[44:], uint32(phnum))
		h = append(h, sh...)
		phoff += shsize
	}
	le.PutUint64(h[32:], phoff)
	ph := func(typ uint32, off, vaddr, paddr, size uint64) {
		h = le.AppendUint32(h, typ)
		h = le.AppendUint32(h, 7*(typ&1)) // rwx for memory
		for _, v := range []uint64{off, vaddr, paddr, size, size, 0} {
			h = le.AppendUint64(h, v)
		}
	}
	at := phoff + phnum*phsize
	ph(ptNote, at, 0, 0, uint64(len(n)))
	up := func(n uint64) uint64 { return (n + page - 1) &^ (page - 1) }
	off := up(at + uint64(len(n)))
	for _, r := range ranges {
		off += r.Base % page // congruent with the address, for mapping
		ph(ptLoad, off, 0, r.Base, r.Size)
		off = up(off + r.Size)
	}
	h = append(h, n...)
	zero := make([]byte, page)
	if _, err := w.Write(append(h, zero[:up(uint64(len(h)))-uint64(len(h))]...)); err != nil {
		return err
	}
	return snapshots.Copy(s, progress, func(p []byte, pa uint64, first, last bool) error {
		if first {
			if _, err := w.Write(zero[:pa%page]); err != nil {
				return err
			}
		}
		if _, err := w.Write(p); err != nil || !last {
			return err
		}
		end := pa + uint64(len(p))
		_, err := w.Write(zero[:up(end)-end])
		return err
	})
}
