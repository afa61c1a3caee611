package virtio

import (
	"fmt"

	"github.com/hybridbridge/emu/core/block"
	"github.com/hybridbridge/emu/core/device"
)

// Device status bits (virtio 1.2, section 2.1).
const (
	statusDriverOK   = 4
	statusFeaturesOK = 8
	statusNeedsReset = 64
)

// Feature bits that all devices share (section 6).
const (
	featIndirect uint64 = 1 << 28
	featEventIdx uint64 = 1 << 29
	featVersion1 uint64 = 1 << 32

	common = featIndirect | featEventIdx | featVersion1
)

const noVector = 0xffff

// model is what makes a device a disk or a console.
type model interface {
	// identity is the device type (section 5) and the PCI class code.
	identity() (kind uint16, class uint32)
	// features are those of its own, without the common ones.
	features() uint64
	// config is the device-specific configuration; it does not change while the device runs.
	config() []byte
	// serve handles what is in queue n. An error that wraps errRing stops the device.
	serve(n int) error
	// reset returns to the state after power-on.
	reset()
}

// function is what a device needs of the PCI function that holds it.
type function interface {
	// MSIX sends the message of vector n. It reports false if MSI-X is not enabled.
	MSIX(n uint16) bool
	// SetINTx drives the interrupt pin; while MSI-X is enabled it stays low.
	SetINTx(level bool)
	// Vectors is how many MSI-X vectors there are.
	Vectors() int
	// BusMaster reports whether the device may access memory.
	BusMaster() bool
}

// Device is the part that all virtio devices share: negotiation, queues and interrupts, as the structures of a modern
// PCI function see it (section 4.1.4). It is used from the machine's goroutine only.
type Device struct {
	name   string
	mem    device.Memory
	model  model
	fn     function
	queues []*queue
	log    func(error)

	status       uint8
	featSelect   uint32
	driverSelect uint32
	driverFeat   uint64
	configVector uint16
	queueSelect  uint16
	isr          uint8
}

func (d *Device) init(name string, mem device.Memory, m model, sizes ...uint16) {
	d.name, d.mem, d.model, d.log = name, mem, m, func(error) {}
	for _, n := range sizes {
		d.queues = append(d.queues, &queue{mem: mem, max: n})
	}
	d.Reset()
}

// Name implements device.Stateful.
func (d *Device) Name() string { return d.name }

// OnError sets a function that is told what drivers and disks do wrong. The device goes on (or waits for a reset) by
// itself.
func (d *Device) OnError(f func(error)) { d.log = f }

// connect says which function holds the device. It is called once, before the machine runs.
func (d *Device) connect(f function) { d.fn = f }

// Reset returns the device to its state after power-on.
func (d *Device) Reset() {
	d.status, d.featSelect, d.driverSelect, d.driverFeat, d.queueSelect = 0, 0, 0, 0, 0
	d.configVector = noVector
	for _, q := range d.queues {
		q.reset()
	}
	d.setISR(0)
	d.model.reset()
}

func (d *Device) offered() uint64 { return common | d.model.features() }

func (d *Device) setISR(v uint8) {
	d.isr = v
	if d.fn != nil {
		d.fn.SetINTx(v != 0)
	}
}

// interrupt announces a used buffer (bit 0 of the ISR) or a configuration change (bit 1).
func (d *Device) interrupt(vector uint16, bit uint8) {
	if vector != noVector && d.fn.MSIX(vector) {
		return
	}
	// With MSI-X enabled but no vector mapped nothing is sent: the pin stays low then.
	d.setISR(d.isr | bit)
}

func (d *Device) fail(err error) {
	d.log(fmt.Errorf("%s: %w", d.name, err))
	d.status |= statusNeedsReset
	if d.status&statusDriverOK != 0 {
		d.interrupt(d.configVector, 2)
	}
}

func (d *Device) live(n int) bool {
	return n < len(d.queues) && d.queues[n].Enabled && d.fn != nil && d.fn.BusMaster() && d.status&(statusDriverOK|statusNeedsReset) == statusDriverOK
}

// kick serves a queue, as after a notification by the driver.
func (d *Device) kick(n int) {
	if !d.live(n) {
		return
	}
	err := d.model.serve(n)
	if err == nil {
		err = d.announce(n)
	}
	if err != nil {
		d.fail(err)
	}
}

// announce interrupts the driver if it wants to know what was returned.
func (d *Device) announce(n int) error {
	q := d.queues[n]
	want, err := q.wantsInterrupt()
	if want && err == nil {
		d.interrupt(q.Vector, 1)
	}
	return err
}

func (d *Device) setStatus(v uint8) {
	if v == 0 {
		d.Reset()
		return
	}
	if v&statusFeaturesOK != 0 && d.status&statusFeaturesOK == 0 {
		if d.driverFeat&^d.offered() != 0 || d.driverFeat&featVersion1 == 0 {
			v &^= statusFeaturesOK
		} else {
			for _, q := range d.queues {
				q.eventIdx = d.driverFeat&featEventIdx != 0
				q.indirect = d.driverFeat&featIndirect != 0
			}
		}
	}
	if (d.status|v)&statusFeaturesOK == 0 {
		v &^= statusDriverOK
	}
	// A driver sets bits one after the other and only takes them back all at once.
	d.status |= v & 0x8f
	if v&statusDriverOK != 0 {
		for n := range d.queues {
			d.kick(n)
		}
	}
}

// State is what every virtio device saves. Disk, Generator and Input belong to one kind of device each.
type State struct {
	Status         uint8
	FeatureSelect  uint32
	DriverSelect   uint32
	DriverFeatures uint64
	ConfigVector   uint16
	QueueSelect    uint16
	ISR            uint8
	Queues         []QueueState

	Disk      *block.OverlayState `json:",omitempty"` // what the guest wrote, if the disk keeps that in memory
	Generator []byte              `json:",omitempty"` // of random numbers
	Input     []byte              `json:",omitempty"` // that the guest has not read
}

func (d *Device) save() State {
	s := State{
		Status: d.status, FeatureSelect: d.featSelect, DriverSelect: d.driverSelect, DriverFeatures: d.driverFeat,
		ConfigVector: d.configVector, QueueSelect: d.queueSelect, ISR: d.isr,
	}
	for _, q := range d.queues {
		s.Queues = append(s.Queues, q.QueueState)
	}
	return s
}

func (d *Device) load(s *State) error {
	if len(s.Queues) != len(d.queues) {
		return fmt.Errorf("saved state has %d queues, the device %d", len(s.Queues), len(d.queues))
	}
	if s.DriverFeatures&^d.offered() != 0 && s.Status&statusFeaturesOK != 0 {
		return fmt.Errorf("saved state uses features %#x, which this device does not have", s.DriverFeatures&^d.offered())
	}
	for i, q := range d.queues {
		q.reset()
		q.QueueState = s.Queues[i]
		q.eventIdx = s.DriverFeatures&featEventIdx != 0 && s.Status&statusFeaturesOK != 0
		q.indirect = s.DriverFeatures&featIndirect != 0 && s.Status&statusFeaturesOK != 0
		if q.Enabled {
			if err := q.enable(); err != nil {
				return fmt.Errorf("saved state: queue %d: %w", i, err)
			}
		}
	}
	d.status, d.featSelect, d.driverSelect, d.driverFeat = s.Status, s.FeatureSelect, s.DriverSelect, s.DriverFeatures
	d.configVector, d.queueSelect = s.ConfigVector, s.QueueSelect
	d.setISR(s.ISR)
	return nil
}
