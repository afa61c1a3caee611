package boot

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
)

// MaxUnpacked bounds the size of an unpacked kernel, in bytes.
const MaxUnpacked = 512 << 20

var errTooLarge = fmt.Errorf("unpacks to more than %d MiB", MaxUnpacked>>20)

// ErrPacking is wrapped by errors about a payload that emu cannot unpack, though the kernel's own stub may.
var ErrPacking = errors.New("emu cannot unpack this payload")

// Compression returns the name of the compression of a bzImage's payload ("lz4", "xz", ...), or "" if there is none.
func (im *Image) Compression() string {
	if im.Format != BzImage {
		return ""
	}
	for _, m := range payloadMagic {
		if bytes.HasPrefix(im.setup.payload, []byte(m.magic)) {
			return m.name
		}
	}
	return ""
}

// What can be in a bzImage (arch/x86/boot/compressed/Makefile). The last two have no decoder here: such a kernel
// boots through its own stub.
var payloadMagic = []struct{ magic, name string }{
	{"\x02\x21\x4c\x18", "lz4"},
	{"\x28\xb5\x2f\xfd", "zstd"},
	{"\xfd7zXZ\x00", "xz"},
	{"\x1f\x8b", "gzip"},
	{"BZh", "bzip2"},
	{"\x5d\x00\x00", "lzma"},
	{"\x89LZO", "lzo"},
}

// Unpack returns the kernel inside a bzImage, an ELF file (vmlinux, stripped, perhaps followed by relocations). It
// is what symbols and the kernel's banner are read from; an ELF image returns itself.
func (im *Image) Unpack() ([]byte, error) {
	if im.Format != BzImage {
		return im.data, nil
	}
	p := im.setup.payload
	if len(p) == 0 {
		return nil, fmt.Errorf("bzImage: the header names no payload (boot protocol before 2.08): %w", ErrPacking)
	}
	var out []byte
	var err error
	name := im.Compression()
	switch name {
	case "lz4":
		out, err = unpackLZ4(p)
	case "zstd":
		var r *zstd.Decoder
		if r, err = zstd.NewReader(bytes.NewReader(p), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxUnpacked), zstd.WithDecoderMaxWindow(128<<20)); err == nil {
			out, err = readAll(r, p)
			r.Close()
		}
	case "xz":
		var r *xz.Reader
		if r, err = xz.NewReader(bytes.NewReader(p), 128<<20); err == nil {
			r.Multistream(false)
			out, err = readAll(r, p)
		}
	case "gzip":
		var r *gzip.Reader
		if r, err = gzip.NewReader(bytes.NewReader(p)); err == nil {
			r.Multistream(false)
			out, err = readAll(r, p)
		}
	case "bzip2":
		out, err = readAll(bzip2.NewReader(bytes.NewReader(p)), p)
	case "":
		return nil, fmt.Errorf("bzImage: payload starts with % x, no known compression: %w", p[:min(len(p), 6)], ErrPacking)
	default:
		return nil, fmt.Errorf("bzImage: payload is compressed with %s: %w", name, ErrPacking)
	}
	if err != nil {
		return nil, fmt.Errorf("bzImage: unpack %s payload: %w", name, err)
	}
	return out, nil
}

// appendedSize is the size that the build appends to payloads of formats that don't hold it.
func appendedSize(p []byte) int64 {
	if len(p) < 4 {
		return -1
	}
	return int64(binary.LittleEndian.Uint32(p[len(p)-4:]))
}

// sizeHint is the appended size as far as it is credible enough to allocate for.
func sizeHint(p []byte) int {
	if n := appendedSize(p); n > 0 && n <= MaxUnpacked && n <= int64(len(p))*20 {
		return int(n)
	}
	return 0
}

// readAll reads r to its end. Some decoders complain about the appended size once everything is out.
func readAll(r io.Reader, p []byte) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(sizeHint(p) + bytes.MinRead)
	n, err := io.Copy(&out, io.LimitReader(r, MaxUnpacked+1))
	switch {
	case n > MaxUnpacked:
		return nil, errTooLarge
	case err != nil && n != appendedSize(p):
		return nil, err
	}
	return out.Bytes(), nil
}

// unpackLZ4 reads a legacy frame: blocks of at most 8 MiB, each behind its compressed size, up to the end of the input.
func unpackLZ4(p []byte) ([]byte, error) {
	const maxBlock = 8 << 20
	out := make([]byte, 0, sizeHint(p))
	for rest := p[4:]; ; {
		if len(rest) <= 4 { // the size at the end
			return out, nil
		}
		n := binary.LittleEndian.Uint32(rest)
		rest = rest[4:]
		if uint64(n) > uint64(len(rest)) {
			return nil, fmt.Errorf("block of %d bytes where %d are left", n, len(rest))
		}
		if len(out)+maxBlock > MaxUnpacked {
			return nil, errTooLarge
		}
		if cap(out)-len(out) < maxBlock {
			// Exact when the block is the last one and the hint is right, else a new buffer.
			if m, err := lz4.UncompressBlock(rest[:n], out[len(out):cap(out)]); err == nil && m > 0 {
				out, rest = out[:len(out)+m], rest[n:]
				continue
			}
			grown := make([]byte, len(out), 2*cap(out)+maxBlock)
			copy(grown, out)
			out = grown
		}
		m, err := lz4.UncompressBlock(rest[:n], out[len(out):len(out)+maxBlock])
		if err != nil {
			return nil, err
		}
		out, rest = out[:len(out)+m], rest[n:]
	}
}
