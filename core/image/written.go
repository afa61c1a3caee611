package image

import (
	"encoding/binary"
	"path/filepath"
	"strings"

	"github.com/hybridbridge/emu/core/memory"
)

// Which pages of a state every command writes as it starts is kept beside the state, for a machine that is restored to have copies of them
// from the beginning: under KVM the first write to a page that the guest has read costs two faults in the host, and the copy with
// them. It is what REAP and FaaSnap do with the pages of functions.

const (
	writtenVersion = 1
	mostWritten    = 4096 // pages; a start writes some 300
)

// writtenName is the name of the cache for a state.
func writtenName(state string) string {
	return filepath.Join(dirStates, strings.TrimSuffix(filepath.Base(state), ".snapshot")+".written")
}

// Written returns which pages of a state commands write as they start; nil if that is not known.
func (i *Image) Written(state string) (pages []memory.Range) {
	b := i.Cached(writtenName(state), writtenVersion)
	at := uint64(0)
	for len(b) > 0 {
		gap, n := binary.Uvarint(b)
		size, k := binary.Uvarint(b[max(n, 0):])
		if n <= 0 || k <= 0 {
			return nil
		}
		b = b[n+k:]
		at += gap
		pages = append(pages, memory.Range{Base: at * memory.PageSize, Size: size * memory.PageSize})
		at += size
	}
	return pages
}

// KeepWritten keeps the answer of Written, which is in order, unless it is a lot.
func (i *Image) KeepWritten(state string, pages []memory.Range) {
	var b []byte
	at, n := uint64(0), uint64(0)
	for _, r := range pages {
		b = binary.AppendUvarint(b, r.Base/memory.PageSize-at)
		b = binary.AppendUvarint(b, r.Size/memory.PageSize)
		at = r.End() / memory.PageSize
		n += r.Size / memory.PageSize
	}
	if n <= mostWritten {
		i.Keep(writtenName(state), writtenVersion, b)
	}
}
