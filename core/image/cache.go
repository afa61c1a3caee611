package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
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
