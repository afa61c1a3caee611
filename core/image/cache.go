package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// cachePath is where something is kept that was made of the image's other files.
func (i *Image) cachePath(name string, version int) string {
	return filepath.Join(i.Dir, fmt.Sprintf("%s.%d.cache", name, version))
}

// stampSize is the length of a stamp.
const stampSize = 24

// stamp says that a cache is whole and made of this image.
func (i *Image) stamp(b []byte) []byte {
	first, second := fletcher(b)
	t := binary.LittleEndian.AppendUint64(nil, uint64(i.Created.UnixNano()))
	t = binary.LittleEndian.AppendUint64(t, first)
	return binary.LittleEndian.AppendUint64(t, second)
}

// fletcher returns Fletcher's two sums of the words of 32 bits and of what is left, in 64 bits each, as ZFS has them ("fletcher4" without its
// last two). It is made of nothing but additions: all symbols of a kernel take 2 ms where an instruction for CRC-32 is emulated, and
// that CRC takes 30.
func fletcher(b []byte) (first, second uint64) {
	n := uint64(len(b))
	for ; len(b) >= 8; b = b[8:] {
		w := binary.LittleEndian.Uint64(b)
		first += w & 0xffffffff
		second += first
		first += w >> 32
		second += first
	}
	for _, c := range b {
		first += uint64(c)
		second += first
	}
	return first + n, second
}

// Cached returns what Keep kept under a name and version, and nil if there is nothing or if it is damaged.
func (i *Image) Cached(name string, version int) []byte {
	b, err := os.ReadFile(i.cachePath(name, version))
	if err != nil || len(b) < stampSize || !bytes.Equal(b[:stampSize], i.stamp(b[stampSize:])) {
		return nil
	}
	return b[stampSize:]
}

// Map is Cached for something large of which little is looked at: it is valid until done is called.
func (i *Image) Map(name string, version int) (b []byte, done func()) {
	f, err := os.Open(i.cachePath(name, version))
	if err != nil {
		return nil, func() {}
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() < stampSize || st.Size() > math.MaxInt32 {
		return nil, func() {}
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return nil, func() {}
	}
	done = func() { _ = unix.Munmap(m) } // it cannot fail for what Mmap returned
	if !bytes.Equal(m[:stampSize], i.stamp(m[stampSize:])) {
		done()
		return nil, func() {}
	}
	return m[stampSize:], done
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
