package snapshots

import (
	"errors"
	"fmt"
)

// Copy reads all the memory of a snapshot in ascending order and hands it to put in pieces of at most 1 MiB; first and
// last mark those at the ends of a range. What was not saved reads as zero. progress, unless nil, is told after each piece how
// many bytes are done; its error ends the copying. The slice is valid until put returns.
func Copy(s Snapshot, progress func(done uint64) error, put func(p []byte, pa uint64, first, last bool) error) error {
	buf := make([]byte, 1<<20)
	done := uint64(0)
	for _, r := range s.Ranges() {
		for off := uint64(0); off < r.Size; {
			pa := r.Base + off
			// Pieces end on their own multiple, so that compressed blocks are unpacked once.
			p := buf[:min(uint64(len(buf))-pa%uint64(len(buf)), r.Size-off)]
			if err := ReadZeroed(s, p, pa); err != nil {
				return err
			}
			if err := put(p, pa, off == 0, off+uint64(len(p)) == r.Size); err != nil {
				return err
			}
			off += uint64(len(p))
			if done += uint64(len(p)); progress != nil {
				if err := progress(done); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ReadZeroed is ReadPhysical with zeroes for pages that were not saved or are not there.
func ReadZeroed(r Reader, p []byte, pa uint64) error {
	err := r.ReadPhysical(p, pa)
	if !missing(err) {
		return err
	}
	const page = 4096
	for len(p) > 0 {
		n := min(page-pa%page, uint64(len(p)))
		if err := r.ReadPhysical(p[:n], pa); missing(err) {
			clear(p[:n])
		} else if err != nil {
			return fmt.Errorf("memory at %#x: %w", pa, err)
		}
		p, pa = p[n:], pa+n
	}
	return nil
}

func missing(err error) bool { return errors.Is(err, ErrNotSaved) || errors.Is(err, ErrNoMemory) }
