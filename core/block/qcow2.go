package block

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// The qcow2 format, versions 2 and 3: QEMU's docs/interop/qcow2.rst. All numbers are big-endian.
const (
	qcow2Magic = "QFI\xfb"

	incompatDirty, incompatCorrupt, incompatData, incompatCompression, incompatExtL2 = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4

	flagCopied     = 1 << 63 // of L1 and L2 entries: the refcount is exactly one
	flagCompressed = 1 << 62 // of L2 entries
	flagZero       = 1 << 0  // of L2 entries, version 3
	offsetMask     = 0x00ff_ffff_ffff_fe00

	maxL1Bytes   = 32 << 20 // QEMU's own limits
	maxRefBytes  = 8 << 20
	maxBacking   = 1023
	maxChain     = 64
	maxL2Cached  = 16 << 20 // bytes of cached L2 tables
	maxUnpacked  = 4 << 20  // bytes of cached decompressed clusters
	maxDirtyL2   = 64       // tables; more are written back without waiting for a flush
	extEnd       = 0
	extBackingFm = 0xe2792aca
)

var be = binary.BigEndian

// qcow2 is an open image. Data clusters and refcounts are written at once; L2 and L1 entries that lead to new clusters are
// kept in memory until Flush has made those clusters durable, and clusters that are no longer used are released only after that.
// So at every moment the file is a valid image that holds at least what the last flush promised; a crash only leaks.
type qcow2 struct {
	f           *os.File
	readOnly    bool
	version     int
	clusterBits uint
	size        uint64
	incompat    uint64
	zstd        bool
	fileSize    uint64

	l1       []uint64
	l1Offset uint64
	l1Dirty  map[int]bool
	l2       map[int]*l2Table // by index in l1
	l2Order  []int            // in which they were loaded
	dirty    int              // dirty tables in l2

	refs *refcounts // nil if read-only

	backing  Disk
	unpacked map[uint64][]byte // decompressed clusters by L2 entry
	unpOrder []uint64
	scratch  []byte
	decoder  *zstd.Decoder
}

type l2Table struct {
	entries []uint64
	dirty   bool
}

// chain is what is known about the images from the one that the user named down to the current one.
type chain struct {
	files []os.FileInfo
}

func (c *chain) add(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := c.check(st); err != nil {
		return err
	}
	if c.files = append(c.files, st); len(c.files) > maxChain {
		return fmt.Errorf("more than %d backing files", maxChain)
	}
	return nil
}

func (c *chain) check(st os.FileInfo) error {
	for _, s := range c.files {
		if os.SameFile(s, st) {
			return errors.New("the chain of backing files leads back to itself")
		}
	}
	return nil
}

// header is the parsed first cluster.
type header struct {
	version       int
	clusterBits   uint
	size          uint64
	incompat      uint64
	autoclear     uint64
	compression   byte
	l1Size        uint32
	l1Offset      uint64
	refOffset     uint64
	refClusters   uint32
	refOrder      uint
	backing       string
	backingFormat string
}

// parseHeader checks the header as far as it can be checked by itself. b is the start of the file, at least as much
// as the first cluster holds.
func parseHeader(b []byte) (*header, error) {
	if len(b) < 72 {
		return nil, fmt.Errorf("qcow2: truncated header (%d bytes)", len(b))
	}
	if string(b[:4]) != qcow2Magic {
		return nil, errors.New("not a qcow2 image")
	}
	h := &header{
		version:     int(be.Uint32(b[4:])),
		clusterBits: uint(be.Uint32(b[20:])),
		size:        be.Uint64(b[24:]),
		l1Size:      be.Uint32(b[36:]),
		l1Offset:    be.Uint64(b[40:]),
		refOffset:   be.Uint64(b[48:]),
		refClusters: be.Uint32(b[56:]),
		refOrder:    4,
	}
	if h.version != 2 && h.version != 3 {
		return nil, fmt.Errorf("qcow2: version %d: only 2 and 3 are known", h.version)
	}
	switch crypt := be.Uint32(b[32:]); crypt {
	case 0:
	case 1, 2:
		return nil, fmt.Errorf("qcow2: the image is encrypted (%s): not supported", []string{"AES", "LUKS"}[crypt-1])
	default:
		return nil, fmt.Errorf("qcow2: unknown encryption method %d", crypt)
	}
	headerLen := uint32(72)
	if h.version == 3 {
		if len(b) < 104 {
			return nil, fmt.Errorf("qcow2: truncated header (%d bytes)", len(b))
		}
		h.incompat, h.autoclear = be.Uint64(b[72:]), be.Uint64(b[88:])
		h.refOrder = uint(be.Uint32(b[96:]))
		headerLen = be.Uint32(b[100:])
		if headerLen > 104 && len(b) > 104 {
			h.compression = b[104]
		}
	}
	switch {
	case h.clusterBits < 9 || h.clusterBits > 21:
		return nil, fmt.Errorf("qcow2: cluster size 2^%d: want 512 bytes to 2 MiB", h.clusterBits)
	case h.refOrder > 6:
		return nil, fmt.Errorf("qcow2: refcounts of 2^%d bits", h.refOrder)
	case h.incompat&incompatData != 0:
		return nil, errors.New("qcow2: the image keeps its data in an external file: not supported")
	case h.incompat&incompatExtL2 != 0:
		return nil, errors.New("qcow2: extended L2 entries (subclusters) are not supported; qemu-img convert makes an image without")
	case h.incompat&^(incompatDirty|incompatCorrupt|incompatCompression) != 0:
		return nil, fmt.Errorf("qcow2: the image needs unknown features (incompatible bits %#x)", h.incompat)
	case h.incompat&incompatCompression == 0 && h.compression != 0, h.incompat&incompatCompression != 0 && h.compression != 1:
		return nil, fmt.Errorf("qcow2: unknown compression type %d", h.compression)
	}
	cluster := uint64(1) << h.clusterBits
	perL2 := cluster / 8
	switch {
	case h.size > 1<<62 || uint64(h.l1Size)*8 > maxL1Bytes:
		return nil, fmt.Errorf("qcow2: disk of %d bytes with %d L1 entries is too large", h.size, h.l1Size)
	case (h.size+cluster-1)/cluster > uint64(h.l1Size)*perL2:
		return nil, fmt.Errorf("qcow2: %w: %d L1 entries are too few for %d bytes", ErrCorrupt, h.l1Size, h.size)
	case h.l1Offset%cluster != 0 || h.l1Offset > math.MaxInt64/2, h.refOffset%cluster != 0 || h.refOffset > math.MaxInt64/2:
		return nil, fmt.Errorf("qcow2: %w: table offsets %#x and %#x", ErrCorrupt, h.l1Offset, h.refOffset)
	case uint64(h.refClusters)*cluster > maxRefBytes:
		return nil, fmt.Errorf("qcow2: refcount table of %d clusters is too large", h.refClusters)
	}
	if off, n := be.Uint64(b[8:]), be.Uint32(b[16:]); off != 0 {
		if n == 0 || n > maxBacking || off > cluster || off+uint64(n) > uint64(len(b)) {
			return nil, fmt.Errorf("qcow2: %w: backing file name of %d bytes at %#x", ErrCorrupt, n, off)
		}
		h.backing = string(b[off:][:n])
	}
	if uint64(headerLen) > min(cluster, uint64(len(b))) || headerLen < 72 {
		return nil, fmt.Errorf("qcow2: %w: header length %d", ErrCorrupt, headerLen)
	}
	for p := b[headerLen:]; len(p) >= 8; {
		kind, n := be.Uint32(p), uint64(be.Uint32(p[4:]))
		if kind == extEnd || n > uint64(len(p)-8) {
			break
		}
		if kind == extBackingFm {
			h.backingFormat = string(p[8:][:n])
		}
		p = p[min(uint64(len(p)), 8+(n+7)&^7):]
	}
	return h, nil
}

func openQcow2(f *os.File, path string, readOnly bool, seen *chain) (Disk, error) {
	if err := seen.add(f); err != nil {
		return nil, err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	first := make([]byte, min(end, 2<<20))
	if err := readFull(f, first, 0); err != nil {
		return nil, err
	}
	h, err := parseHeader(first)
	if err != nil {
		return nil, err
	}
	cluster := uint64(1) << h.clusterBits
	q := &qcow2{
		f: f, readOnly: readOnly, version: h.version, clusterBits: h.clusterBits, incompat: h.incompat,
		size: (h.size + SectorSize - 1) / SectorSize * SectorSize, fileSize: uint64(end), zstd: h.compression == 1,
		l1Offset: h.l1Offset, l1Dirty: map[int]bool{}, l2: map[int]*l2Table{}, unpacked: map[uint64][]byte{},
		scratch: make([]byte, cluster),
	}
	if h.size == 0 {
		return nil, errors.New("qcow2: the disk has no size")
	}
	if !readOnly {
		switch {
		case h.incompat&incompatCorrupt != 0:
			return nil, fmt.Errorf("qcow2: %w: marked so by an earlier user; it can only be opened read-only", ErrCorrupt)
		case h.incompat&incompatDirty != 0:
			return nil, errors.New("qcow2: the image was not closed properly (dirty bit): run qemu-img check -r all, or open it read-only")
		}
	}
	if h.l1Offset+uint64(h.l1Size)*8 > q.fileSize {
		return nil, fmt.Errorf("qcow2: L1 table at %#x is past the end of the file (%#x): truncated?", h.l1Offset, q.fileSize)
	}
	if q.l1, err = q.readTable(h.l1Offset, int(h.l1Size)); err != nil {
		return nil, err
	}
	for i, e := range q.l1 {
		if e&offsetMask%cluster != 0 {
			return nil, fmt.Errorf("qcow2: %w: L1 entry %d is %#x", ErrCorrupt, i, e)
		}
	}
	if !readOnly {
		if q.refs, err = openRefcounts(q, h); err != nil {
			return nil, err
		}
		if h.autoclear != 0 { // what these describe (dirty bitmaps) will no longer be true
			if _, err := f.WriteAt(make([]byte, 8), 88); err != nil {
				return nil, err
			}
		}
	}
	if h.backing != "" {
		if q.backing, err = openBacking(h, path, seen); err != nil {
			return nil, fmt.Errorf("backing file %q: %w", h.backing, err)
		}
	}
	return q, nil
}

// openBacking opens the image that h names, read-only. Names are relative to the directory of the image that holds
// them. Only files: no protocols, no options.
func openBacking(h *header, path string, seen *chain) (Disk, error) {
	name := strings.TrimPrefix(h.backing, "file:")
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
		return nil, errors.New("the name holds control characters")
	}
	if i := strings.IndexByte(name, ':'); i > 0 && !strings.ContainsAny(name[:i], "/.") {
		return nil, fmt.Errorf("protocol %q is not supported", name[:i])
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(path), name)
	}
	// Before it is opened: an image that names itself would find itself locked.
	if st, err := os.Stat(name); err == nil {
		if err := seen.check(st); err != nil {
			return nil, err
		}
	}
	f, err := openFile(name, true)
	if err != nil {
		return nil, err
	}
	var d Disk
	isQcow2, err := hasMagic(f)
	switch {
	case err != nil:
	case h.backingFormat == "raw" || h.backingFormat == "" && !isQcow2:
		if err = seen.add(f); err == nil {
			d, err = newRaw(f, true, false)
		}
	case h.backingFormat == "qcow2" || h.backingFormat == "":
		d, err = openQcow2(f, name, true, seen)
	default:
		err = fmt.Errorf("format %q is not supported", h.backingFormat)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

// readTable reads n big-endian numbers.
func (q *qcow2) readTable(off uint64, n int) ([]uint64, error) {
	b := make([]byte, n*8)
	if err := readFull(q.f, b, off); err != nil {
		return nil, err
	}
	t := make([]uint64, n)
	for i := range t {
		t[i] = be.Uint64(b[i*8:])
	}
	return t, nil
}

func (q *qcow2) cluster() uint64 { return 1 << q.clusterBits }
func (q *qcow2) Size() uint64    { return q.size }
func (q *qcow2) ReadOnly() bool  { return q.readOnly }

// split returns where the mapping of off is: the L1 index and the index in the L2 table.
func (q *qcow2) split(off uint64) (i1, i2 int) {
	l2Bits := q.clusterBits - 3
	c := off >> q.clusterBits
	return int(c >> l2Bits), int(c & (1<<l2Bits - 1))
}

// table returns the L2 table i1, or nil if there is none.
func (q *qcow2) table(i1 int) (*l2Table, error) {
	if t := q.l2[i1]; t != nil {
		return t, nil
	}
	off := q.l1[i1] & offsetMask
	if off == 0 {
		return nil, nil
	}
	if off >= q.fileSize {
		return nil, fmt.Errorf("qcow2: %w: L2 table at %#x is past the end of the file (%#x)", ErrCorrupt, off, q.fileSize)
	}
	e, err := q.readTable(off, int(q.cluster()/8))
	if err != nil {
		return nil, err
	}
	t := &l2Table{entries: e}
	return t, q.cache(i1, t)
}

// cache remembers a table and forgets old ones when there are too many.
func (q *qcow2) cache(i1 int, t *l2Table) error {
	q.l2[i1] = t
	q.l2Order = append(q.l2Order, i1)
	if limit := int(maxL2Cached >> q.clusterBits); len(q.l2Order) > max(limit, 4) {
		if q.dirty > 0 {
			if err := q.writeBack(); err != nil {
				return err
			}
		}
		drop := q.l2Order[0]
		q.l2Order = q.l2Order[1:]
		delete(q.l2, drop)
	}
	return nil
}

// ReadAt implements Disk.
func (q *qcow2) ReadAt(p []byte, off uint64) error {
	if err := inside(len(p), off, q.size); err != nil {
		return err
	}
	for len(p) > 0 {
		in := off & (q.cluster() - 1)
		n := min(uint64(len(p)), q.cluster()-in)
		if err := q.readCluster(p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// readCluster reads within one cluster.
func (q *qcow2) readCluster(p []byte, off uint64) error {
	i1, i2 := q.split(off)
	t, err := q.table(i1)
	if err != nil {
		return err
	}
	var e uint64
	if t != nil {
		e = t.entries[i2]
	}
	in := off & (q.cluster() - 1)
	switch {
	case e&flagCompressed != 0:
		b, err := q.unpack(e)
		if err != nil {
			return err
		}
		copy(p, b[in:])
		return nil
	case q.version >= 3 && e&flagZero != 0:
		clear(p)
		return nil
	case e&offsetMask == 0:
		return q.readBacking(p, off)
	case e&offsetMask%q.cluster() != 0:
		return fmt.Errorf("qcow2: %w: L2 entry %#x for offset %#x", ErrCorrupt, e, off)
	}
	return readFull(q.f, p, e&offsetMask+in)
}

func (q *qcow2) readBacking(p []byte, off uint64) error {
	clear(p)
	if q.backing == nil || off >= q.backing.Size() {
		return nil
	}
	return q.backing.ReadAt(p[:min(uint64(len(p)), q.backing.Size()-off)], off)
}

// compressed returns where the data of a compressed cluster is.
func (q *qcow2) compressed(e uint64) (off, n uint64) {
	x := 62 - (q.clusterBits - 8)
	off = e & (1<<x - 1)
	sectors := e >> x & (1<<(62-x) - 1)
	return off, (sectors+1)*512 - off%512
}

// unpack decompresses the cluster of an L2 entry. The result is shared: don't change it.
func (q *qcow2) unpack(e uint64) ([]byte, error) {
	if b := q.unpacked[e]; b != nil {
		return b, nil
	}
	off, n := q.compressed(e)
	if off >= q.fileSize {
		return nil, fmt.Errorf("qcow2: %w: compressed cluster at %#x is past the end of the file (%#x)", ErrCorrupt, off, q.fileSize)
	}
	in := make([]byte, n)
	if err := readFull(q.f, in, off); err != nil {
		return nil, err
	}
	out := make([]byte, q.cluster())
	var r io.Reader
	if q.zstd {
		if q.decoder == nil {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20), zstd.WithDecoderLowmem(true))
			if err != nil {
				return nil, err
			}
			q.decoder = d
		}
		if err := q.decoder.Reset(bytes.NewReader(in)); err != nil {
			return nil, fmt.Errorf("qcow2: %w: compressed cluster at %#x: %w", ErrCorrupt, off, err)
		}
		r = q.decoder
	} else {
		r = flate.NewReader(bytes.NewReader(in))
	}
	if _, err := io.ReadFull(r, out); err != nil {
		return nil, fmt.Errorf("qcow2: %w: compressed cluster at %#x: %w", ErrCorrupt, off, err)
	}
	q.unpacked[e] = out
	if q.unpOrder = append(q.unpOrder, e); len(q.unpOrder) > max(2, maxUnpacked>>q.clusterBits) {
		delete(q.unpacked, q.unpOrder[0])
		q.unpOrder = q.unpOrder[1:]
	}
	return out, nil
}

// forgetUnpacked drops the cache: a released compressed cluster may be allocated anew.
func (q *qcow2) forgetUnpacked() {
	clear(q.unpacked)
	q.unpOrder = q.unpOrder[:0]
}

// Close implements Disk.
func (q *qcow2) Close() error {
	errs := []error{q.Flush()}
	if q.backing != nil {
		errs = append(errs, q.backing.Close())
	}
	if q.decoder != nil {
		q.decoder.Close()
	}
	return errors.Join(append(errs, q.f.Close())...)
}
