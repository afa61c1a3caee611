package block

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
)

// WriteAt implements Disk.
func (q *qcow2) WriteAt(p []byte, off uint64) error {
	if q.readOnly {
		return ErrReadOnly
	}
	if err := inside(len(p), off, q.size); err != nil {
		return err
	}
	for len(p) > 0 {
		in := off & (q.cluster() - 1)
		n := min(uint64(len(p)), q.cluster()-in)
		if err := q.writeCluster(p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// writeCluster writes within one cluster: in place if the cluster is this image's alone, else to a new one that gets the rest of
// the old contents too.
func (q *qcow2) writeCluster(p []byte, off uint64) error {
	i1, i2 := q.split(off)
	t, err := q.ownTable(i1)
	if err != nil {
		return err
	}
	e := t.entries[i2]
	in := off & (q.cluster() - 1)
	plain := e&flagCompressed == 0
	zero := plain && q.version >= 3 && e&flagZero != 0
	if plain && !zero && e&flagCopied != 0 && e&offsetMask != 0 {
		if e&offsetMask%q.cluster() != 0 {
			return fmt.Errorf("qcow2: %w: L2 entry %#x for offset %#x", ErrCorrupt, e, off)
		}
		return q.put(p, e&offsetMask+in)
	}
	buf := q.scratch
	if uint64(len(p)) < q.cluster() {
		start := off - in
		n := min(q.cluster(), q.size-start)
		clear(buf[n:])
		if err := q.readCluster(buf[:n], start); err != nil {
			return err
		}
	}
	copy(buf[in:], p)
	host, err := q.refs.alloc()
	if err != nil {
		return err
	}
	if err := q.put(buf, host); err != nil {
		return err
	}
	t.entries[i2] = host | flagCopied
	q.mark(t)
	switch {
	case !plain:
		at, n := q.compressed(e)
		q.refs.releaseLater(at, n)
		q.forgetUnpacked()
	case e&offsetMask != 0:
		q.refs.releaseLater(e&offsetMask, q.cluster())
	}
	if q.dirty > maxDirtyL2 {
		return q.writeBack()
	}
	return nil
}

func (q *qcow2) mark(t *l2Table) {
	if !t.dirty {
		t.dirty = true
		q.dirty++
	}
}

// ownTable returns the L2 table i1, made or copied so that it may be changed in place.
func (q *qcow2) ownTable(i1 int) (*l2Table, error) {
	t, err := q.table(i1)
	if err != nil || t != nil && q.l1[i1]&flagCopied != 0 {
		return t, err
	}
	host, err := q.refs.alloc()
	if err != nil {
		return nil, err
	}
	old := q.l1[i1] & offsetMask
	if t == nil {
		t = &l2Table{entries: make([]uint64, q.cluster()/8)}
		if err := q.cache(i1, t); err != nil {
			return nil, err
		}
	} else {
		q.refs.releaseLater(old, q.cluster())
		// The clusters behind it are shared with the other table (an internal snapshot's) from its point of view; they have
		// their own refcounts, and their COPIED bits are clear already.
	}
	q.l1[i1] = host | flagCopied
	q.l1Dirty[i1] = true
	q.mark(t)
	return t, nil
}

// put writes to the file and keeps track of its size.
func (q *qcow2) put(p []byte, off uint64) error {
	if off > math.MaxInt64-uint64(len(p)) {
		return fmt.Errorf("qcow2: %w: offset %#x", ErrCorrupt, off)
	}
	if _, err := q.f.WriteAt(p, int64(off)); err != nil {
		return err
	}
	q.fileSize = max(q.fileSize, off+uint64(len(p)))
	return nil
}

// Flush implements Disk.
func (q *qcow2) Flush() error {
	if q.readOnly {
		return nil
	}
	return q.writeBack()
}

// writeBack makes everything durable, in the order that qcow2 describes.
func (q *qcow2) writeBack() error {
	if err := q.f.Sync(); err != nil {
		return err
	}
	if q.dirty > 0 || len(q.l1Dirty) > 0 {
		b := make([]byte, 0, q.cluster())
		order := slices.Clone(q.l2Order)
		slices.Sort(order)
		for _, i1 := range order {
			t := q.l2[i1]
			if t == nil || !t.dirty {
				continue
			}
			b = b[:0]
			for _, e := range t.entries {
				b = be.AppendUint64(b, e)
			}
			if err := q.put(b, q.l1[i1]&offsetMask); err != nil {
				return err
			}
			t.dirty = false
			q.dirty--
		}
		if len(q.l1Dirty) > 0 {
			if err := q.f.Sync(); err != nil {
				return err
			}
			for i1 := range q.l1Dirty {
				if err := q.put(be.AppendUint64(nil, q.l1[i1]), q.l1Offset+uint64(i1)*8); err != nil {
					return err
				}
			}
			clear(q.l1Dirty)
		}
		if err := q.f.Sync(); err != nil {
			return err
		}
	}
	return q.refs.releaseNow()
}

// refcounts is the two-level table that says how often each cluster of the file is used.
type refcounts struct {
	q      *qcow2
	order  uint
	offset uint64   // of the table
	table  []uint64 // offsets of blocks
	blocks map[int][]byte
	next   uint64   // cluster index where allocation looks next
	free   []uint64 // cluster indices that were released
	later  []uint64 // cluster indices to be released once nothing durable leads to them
}

// maxProbe bounds how many used clusters allocation passes over in an image whose refcounts lie.
const maxProbe = 1 << 22

func openRefcounts(q *qcow2, h *header) (*refcounts, error) {
	r := &refcounts{q: q, order: h.refOrder, offset: h.refOffset, blocks: map[int][]byte{}}
	n := uint64(h.refClusters) << q.clusterBits
	if h.refOffset == 0 || n == 0 || h.refOffset+n > q.fileSize {
		return nil, fmt.Errorf("qcow2: %w: refcount table at %#x is past the end of the file (%#x)", ErrCorrupt, h.refOffset, q.fileSize)
	}
	var err error
	if r.table, err = q.readTable(h.refOffset, int(n/8)); err != nil {
		return nil, err
	}
	r.next = (q.fileSize + q.cluster() - 1) >> q.clusterBits
	return r, nil
}

// perBlock is how many clusters one refcount block describes.
func (r *refcounts) perBlock() uint64 { return r.q.cluster() * 8 >> r.order }

func (r *refcounts) block(i int) ([]byte, error) {
	if b := r.blocks[i]; b != nil {
		return b, nil
	}
	off := r.table[i] &^ 511
	if off == 0 || off%r.q.cluster() != 0 || off >= r.q.fileSize {
		return nil, fmt.Errorf("qcow2: %w: refcount block %d at %#x", ErrCorrupt, i, off)
	}
	b := make([]byte, r.q.cluster())
	if err := readFull(r.q.f, b, off); err != nil {
		return nil, err
	}
	r.blocks[i] = b
	return b, nil
}

// get returns the refcount of cluster c, 0 where there is no block.
func (r *refcounts) get(c uint64) (uint64, error) {
	i := c / r.perBlock()
	if i >= uint64(len(r.table)) || r.table[i] == 0 {
		return 0, nil
	}
	b, err := r.block(int(i))
	if err != nil {
		return 0, err
	}
	return refGet(b, r.order, c%r.perBlock()), nil
}

// set changes a refcount, in memory and in the file. The block must exist.
func (r *refcounts) set(c, v uint64) error {
	i := int(c / r.perBlock())
	b, err := r.block(i)
	if err != nil {
		return err
	}
	n := c % r.perBlock()
	refSet(b, r.order, n, v)
	at := n << r.order / 8
	size := max(1, uint64(1)<<r.order/8)
	return r.q.put(b[at:at+size], r.table[i]&^511+at)
}

// refGet reads entry n of a block. Entries under a byte are numbered from the least significant bit.
func refGet(b []byte, order uint, n uint64) uint64 {
	switch order {
	case 3:
		return uint64(b[n])
	case 4:
		return uint64(be.Uint16(b[n*2:]))
	case 5:
		return uint64(be.Uint32(b[n*4:]))
	case 6:
		return be.Uint64(b[n*8:])
	}
	bit := n << order
	return uint64(b[bit/8]) >> (bit % 8) & (1<<(1<<order) - 1)
}

func refSet(b []byte, order uint, n, v uint64) {
	switch order {
	case 3:
		b[n] = byte(v)
	case 4:
		be.PutUint16(b[n*2:], uint16(v))
	case 5:
		be.PutUint32(b[n*4:], uint32(v))
	case 6:
		be.PutUint64(b[n*8:], v)
	default:
		bit := n << order
		mask := byte(1<<(1<<order)-1) << (bit % 8)
		b[bit/8] = b[bit/8]&^mask | byte(v)<<(bit%8)&mask
	}
}

// alloc takes a free cluster, sets its refcount to one and returns its offset. Its contents are whatever was there.
func (r *refcounts) alloc() (uint64, error) {
	for len(r.free) > 0 {
		c := r.free[len(r.free)-1]
		r.free = r.free[:len(r.free)-1]
		if n, err := r.get(c); err != nil {
			return 0, err
		} else if n == 0 && c != 0 {
			return c << r.q.clusterBits, r.set(c, 1)
		}
	}
	for range maxProbe {
		c := r.next
		i := c / r.perBlock()
		if i >= uint64(len(r.table)) {
			if err := r.grow(); err != nil {
				return 0, err
			}
			continue
		}
		r.next++
		if r.table[i] == 0 {
			if err := r.newBlock(int(i), c); err != nil {
				return 0, err
			}
			continue
		}
		n, err := r.get(c)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return c << r.q.clusterBits, r.set(c, 1)
		}
	}
	return 0, fmt.Errorf("qcow2: %w: no free cluster found", ErrCorrupt)
}

// newBlock makes cluster c the refcount block i, which describes c itself.
func (r *refcounts) newBlock(i int, c uint64) error {
	b := make([]byte, r.q.cluster())
	refSet(b, r.order, c%r.perBlock(), 1)
	off := c << r.q.clusterBits
	if err := r.q.put(b, off); err != nil {
		return err
	}
	// The block must be on disk before anything leads to it.
	if err := r.q.f.Sync(); err != nil {
		return err
	}
	r.blocks[i], r.table[i] = b, off
	return r.q.put(be.AppendUint64(nil, off), r.offset+uint64(i)*8)
}

// grow moves the refcount table to a larger place at the end of the file: first the blocks that describe the new place,
// then the table, and when both are durable, one write to the header.
func (r *refcounts) grow() error {
	q := r.q
	start := r.next
	clusters := uint64(len(r.table)) * 8 * 2 >> q.clusterBits // twice the size
	for clusters*q.cluster()/8*r.perBlock() <= start+clusters+64 {
		clusters *= 2
	}
	if clusters<<q.clusterBits > maxRefBytes {
		return errors.New("qcow2: the image is full: its refcount table would be too large")
	}
	// How many blocks the new place needs depends on how many clusters it has.
	firstBlock := start / r.perBlock()
	blocks := uint64(1)
	for (start+blocks+clusters-1)/r.perBlock()-firstBlock+1 > blocks {
		blocks++
	}
	table := make([]uint64, clusters*q.cluster()/8)
	copy(table, r.table)
	fresh := map[int][]byte{}
	for i := range blocks {
		table[firstBlock+i] = (start + i) << q.clusterBits
		fresh[int(firstBlock+i)] = make([]byte, q.cluster())
	}
	for c := start; c < start+blocks+clusters; c++ {
		refSet(fresh[int(c/r.perBlock())], r.order, c%r.perBlock(), 1)
	}
	for i, b := range fresh {
		if err := q.put(b, table[i]); err != nil {
			return err
		}
	}
	var raw []byte
	for _, e := range table {
		raw = be.AppendUint64(raw, e)
	}
	place := (start + blocks) << q.clusterBits
	if err := q.put(raw, place); err != nil {
		return err
	}
	if err := q.f.Sync(); err != nil {
		return err
	}
	if err := q.put(be.AppendUint32(be.AppendUint64(nil, place), uint32(clusters)), 48); err != nil {
		return err
	}
	if err := q.f.Sync(); err != nil {
		return err
	}
	oldOffset, oldSize := r.offset, uint64(len(r.table))*8
	r.offset, r.table = place, table
	for i, b := range fresh {
		r.blocks[i] = b
	}
	r.next = start + blocks + clusters
	r.releaseLater(oldOffset, oldSize)
	return nil
}

// releaseLater notes that one use of each cluster in [off, off+n) ends with the next flush.
func (r *refcounts) releaseLater(off, n uint64) {
	for c := off >> r.q.clusterBits; c <= (off+n-1)>>r.q.clusterBits; c++ {
		r.later = append(r.later, c)
	}
}

// releaseNow drops the noted uses. A wrong order here could only leak, never lose.
func (r *refcounts) releaseNow() error {
	later := r.later
	r.later = nil
	for _, c := range later {
		n, err := r.get(c)
		if err != nil {
			return err
		}
		if n == 0 || c == 0 {
			continue // a lying image; the cluster leaks
		}
		if err := r.set(c, n-1); err != nil {
			return err
		}
		if n == 1 {
			r.free = append(r.free, c)
		}
	}
	return nil
}

// CreateOptions says what kind of image CreateQcow2 makes.
type CreateOptions struct {
	Backing       string // name of the backing file as it is to be stored, "" for none
	BackingFormat string // "raw" or "qcow2"; needed with Backing
	ClusterBits   uint   // 0 for 16 (64 KiB)
	Version       int    // 2 or 3; 0 for 3
}

// CreateQcow2 makes an empty image of size bytes (rounded up to a sector). The file must not exist.
func CreateQcow2(path string, size uint64, o CreateOptions) error {
	if o.ClusterBits == 0 {
		o.ClusterBits = 16
	}
	if o.Version == 0 {
		o.Version = 3
	}
	cluster := uint64(1) << o.ClusterBits
	size = (size + SectorSize - 1) / SectorSize * SectorSize
	perL1 := cluster * cluster / 8
	switch {
	case o.ClusterBits < 9 || o.ClusterBits > 21:
		return fmt.Errorf("qcow2: cluster size 2^%d: want 512 bytes to 2 MiB", o.ClusterBits)
	case o.Version != 2 && o.Version != 3:
		return fmt.Errorf("qcow2: version %d", o.Version)
	case size == 0 || size > 1<<60 || (size+perL1-1)/perL1*8 > maxL1Bytes:
		return fmt.Errorf("qcow2: a disk of %d bytes can't be made with clusters of %d", size, cluster)
	case len(o.Backing) > maxBacking || 128+len(o.BackingFormat)+len(o.Backing)+16 > int(cluster):
		return fmt.Errorf("qcow2: backing file name of %d bytes is too long", len(o.Backing))
	case (o.Backing == "") != (o.BackingFormat == ""):
		return errors.New("qcow2: a backing file and its format go together")
	}
	l1 := (size + perL1 - 1) / perL1
	l1Clusters := (l1*8 + cluster - 1) / cluster
	// Header, refcount table, refcount block, L1. With tiny clusters the L1 table of a huge disk could need more
	// than one refcount block.
	used := 3 + l1Clusters
	if used > cluster*8/16 {
		return fmt.Errorf("qcow2: a disk of %d bytes needs clusters larger than %d", size, cluster)
	}
	b := make([]byte, used*cluster)
	copy(b, qcow2Magic)
	be.PutUint32(b[4:], uint32(o.Version))
	be.PutUint32(b[20:], uint32(o.ClusterBits))
	be.PutUint64(b[24:], size)
	be.PutUint32(b[36:], uint32(l1))
	be.PutUint64(b[40:], 3*cluster)
	be.PutUint64(b[48:], cluster)
	be.PutUint32(b[56:], 1)
	ext := b[72:72]
	if o.Version == 3 {
		be.PutUint32(b[96:], 4)
		be.PutUint32(b[100:], 104)
		ext = b[104:104]
	}
	if o.Backing != "" {
		ext = be.AppendUint32(ext, extBackingFm)
		ext = be.AppendUint32(ext, uint32(len(o.BackingFormat)))
		ext = append(ext, o.BackingFormat...)
		for len(ext)%8 != 0 {
			ext = append(ext, 0)
		}
		ext = be.AppendUint64(ext, extEnd)
		at := cap(b) - cap(ext) + len(ext)
		copy(b[at:], o.Backing)
		be.PutUint64(b[8:], uint64(at))
		be.PutUint32(b[16:], uint32(len(o.Backing)))
	}
	be.PutUint64(b[cluster:], 2*cluster)
	for i := range used {
		be.PutUint16(b[2*cluster+2*i:], 1)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("create disk image: %w", err)
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
