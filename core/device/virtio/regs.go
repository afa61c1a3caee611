package virtio

// The layout of the memory BAR. The four structures of section 4.1.4 have a page each.
const (
	barCommon  = 0x0000
	barISR     = 0x1000
	barConfig  = 0x2000
	barNotify  = 0x3000
	barSize    = 0x4000
	notifyStep = 4 // notify_off_multiplier
	commonSize = 0x38
)

// Offsets in the common configuration structure (section 4.1.4.3).
const (
	regFeatSelect   = 0x00
	regFeat         = 0x04
	regDriverSelect = 0x08
	regDriverFeat   = 0x0c
	regConfigVector = 0x10
	regNumQueues    = 0x12
	regStatus       = 0x14
	regGeneration   = 0x15
	regQueueSelect  = 0x16
	regQueueSize    = 0x18
	regQueueVector  = 0x1a
	regQueueEnable  = 0x1c
	regQueueNotify  = 0x1e
	regQueueDesc    = 0x20
	regQueueDriver  = 0x28
	regQueueUsed    = 0x30
)

// ReadMMIO implements device.MMIO for the BAR.
func (d *Device) ReadMMIO(off uint64, size int) uint64 {
	switch page, off := off&^0xfff, off&0xfff; page {
	case barCommon:
		var b [commonSize + 8]byte
		d.commonRegs(b[:])
		return field(b[:], off, size)
	case barISR:
		v := d.isr
		if off == 0 {
			d.setISR(0)
			return uint64(v)
		}
	case barConfig:
		return field(d.model.config(), off, size)
	}
	return 0
}

// field reads little-endian bytes; past the end they are zero.
func field(b []byte, off uint64, size int) uint64 {
	var w [8]byte
	if off < uint64(len(b)) {
		copy(w[:min(size, 8)], b[off:])
	}
	return le.Uint64(w[:])
}

func (d *Device) selected() *queue {
	if int(d.queueSelect) < len(d.queues) {
		return d.queues[d.queueSelect]
	}
	return nil
}

func (d *Device) commonRegs(b []byte) {
	le.PutUint32(b[regFeatSelect:], d.featSelect)
	if d.featSelect < 2 {
		le.PutUint32(b[regFeat:], uint32(d.offered()>>(32*d.featSelect)))
	}
	le.PutUint32(b[regDriverSelect:], d.driverSelect)
	if d.driverSelect < 2 {
		le.PutUint32(b[regDriverFeat:], uint32(d.driverFeat>>(32*d.driverSelect)))
	}
	le.PutUint16(b[regConfigVector:], d.configVector)
	le.PutUint16(b[regNumQueues:], uint16(len(d.queues)))
	b[regStatus] = d.status
	le.PutUint16(b[regQueueSelect:], d.queueSelect)
	if q := d.selected(); q != nil {
		le.PutUint16(b[regQueueSize:], q.Size)
		le.PutUint16(b[regQueueVector:], q.Vector)
		if q.Enabled {
			b[regQueueEnable] = 1
		}
		le.PutUint16(b[regQueueNotify:], d.queueSelect)
		le.PutUint64(b[regQueueDesc:], q.Desc)
		le.PutUint64(b[regQueueDriver:], q.Driver)
		le.PutUint64(b[regQueueUsed:], q.Used)
	} else {
		le.PutUint16(b[regQueueVector:], noVector)
	}
}

// WriteMMIO implements device.MMIO for the BAR.
func (d *Device) WriteMMIO(off uint64, size int, v uint64) {
	switch page, off := off&^0xfff, off&0xfff; page {
	case barCommon:
		d.writeCommon(off, size, v)
	case barNotify:
		// The notified queue is told by the address; what is written is the same number.
		d.kick(int(off / notifyStep))
	}
}

// vector returns v if it is a vector that there is, else "none", which tells the driver that mapping it failed.
func (d *Device) vector(v uint64) uint16 {
	if d.fn != nil && v < uint64(d.fn.Vectors()) {
		return uint16(v)
	}
	return noVector
}

func (d *Device) writeCommon(off uint64, size int, v uint64) {
	switch off {
	case regFeatSelect:
		d.featSelect = uint32(v)
	case regDriverSelect:
		d.driverSelect = uint32(v)
	case regDriverFeat:
		if d.driverSelect < 2 && d.status&statusFeaturesOK == 0 {
			shift := 32 * d.driverSelect
			d.driverFeat = d.driverFeat&^(0xffffffff<<shift) | (v&0xffffffff)<<shift
		}
	case regConfigVector:
		d.configVector = d.vector(v & 0xffff)
	case regStatus:
		d.setStatus(uint8(v))
	case regQueueSelect:
		d.queueSelect = uint16(v)
	}
	q := d.selected()
	if q == nil {
		return
	}
	if off == regQueueVector {
		q.Vector = d.vector(v & 0xffff)
		return
	}
	if q.Enabled { // the driver must not change it any more
		return
	}
	switch off {
	case regQueueSize:
		q.Size = uint16(v)
	case regQueueEnable:
		if v&0xffff == 1 {
			if err := q.enable(); err != nil {
				d.fail(err)
			}
		}
	case regQueueDesc, regQueueDesc + 4:
		setHalf(&q.Desc, off-regQueueDesc, size, v)
	case regQueueDriver, regQueueDriver + 4:
		setHalf(&q.Driver, off-regQueueDriver, size, v)
	case regQueueUsed, regQueueUsed + 4:
		setHalf(&q.Used, off-regQueueUsed, size, v)
	}
}

// setHalf writes a 64-bit register as a whole or by halves.
func setHalf(reg *uint64, off uint64, size int, v uint64) {
	switch {
	case size == 8 && off == 0:
		*reg = v
	case off == 0:
		*reg = *reg&^0xffffffff | v&0xffffffff
	default:
		*reg = *reg&0xffffffff | v<<32
	}
}
