package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cachePath is where something is kept that was made of the image's other files.
func (i *Image) cachePath(name string, version int) string {
	return filepath.Join(i.Dir, fmt.Sprintf("%s.%d.cache", name, version))
}

// stamp says that a cache is whole and made of this image.
func (i *Image) stamp(b []byte) []byte {
	t := binary.LittleEndian.AppendUint64(nil, uint64(i.Created.UnixNano()))
	return binary.LittleEndian.AppendUint32(t, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// Cached returns what Keep kept under a name and version, and nil if there is nothing or if it is damaged.
func (i *Image) Cached(name string, version int) []byte {
	b, err := os.ReadFile(i.cachePath(name, version))
	const size = 12
	if err != nil || len(b) < size || !bytes.Equal(b[:size], i.stamp(b[size:])) {
		return nil
	}
	return b[size:]
}

// Map is Cached for something large of which little is looked at: it is valid until done is called.
func (i *Image) Map(name string, version int) (b []byte, done func()) {
	f, err := os.Open(i.cachePath(name, version))
	if err != nil {
		return nil, func() {}
	}
	defer f.Close()
	st, err := f.Stat()
	const size = 12
	if err != nil || st.Size() < size || st.Size() > math.MaxInt32 {
		return nil, func() {}
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, func() {}
	}
	done = func() { _ = unix.Munmap(m) } // it cannot fail for what Mmap returned
	if !bytes.Equal(m[:size], i.stamp(m[size:])) {
		done()
		return nil, func() {}
	}
	return m[size:], done
}

// Keep keeps beside the image what was made of its files and can be made again. Where that fails it is made again each time.
func (i *Image) Keep(name string, version int, b []byte) {
	f, err := os.CreateTemp(i.Dir, ".cache-*")
	if err != nil {
		return
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(i.stamp(b), b...))
	if f.Close() == nil && err == nil {
		_ = os.Rename(f.Name(), i.cachePath(name, version))
	}
}
