package virtio

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/hybridbridge/emu/core/device"
)

const (
	rngQueue    = 64
	rngMaxReply = 64 << 10
)

// RNG is a virtio entropy device (virtio 1.2, section 5.4). What it gives is no secret: it follows from the seed, so
// that a run repeats exactly.
type RNG struct {
	Device
	seed uint64
	gen  *rand.ChaCha8
}

// NewRNG returns an entropy device that starts from seed.
func NewRNG(name string, mem device.Memory, seed uint64) *RNG {
	r := &RNG{seed: seed}
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	copy(key[8:], "emu virtio-rng")
	r.gen = rand.NewChaCha8(key)
	r.init(name, mem, r, rngQueue)
	return r
}

func (r *RNG) identity() (kind uint16, class uint32) { return 4, 0x00ff00 }

func (r *RNG) features() uint64 { return 0 }
func (r *RNG) config() []byte   { return nil }

// reset leaves the generator as it is: a second driver must not see the first one's numbers again.
func (r *RNG) reset() {}

func (r *RNG) serve(int) error {
	q := r.queues[0]
	for {
		c, err := q.pop()
		if err != nil || c == nil {
			return err
		}
		p := make([]byte, min(c.inBytes, rngMaxReply))
		_, _ = r.gen.Read(p) // never fails
		if err := q.write(c, p, 0); err != nil {
			return err
		}
		if err := q.push(c, uint32(len(p))); err != nil {
			return err
		}
	}
}

// SaveState implements device.Stateful.
func (r *RNG) SaveState() any {
	s := r.save()
	s.Generator, _ = r.gen.MarshalBinary() // never fails
	return s
}

// LoadState implements device.Stateful.
func (r *RNG) LoadState(decode func(any) error) error {
	var s State
	if err := decode(&s); err != nil {
		return err
	}
	if err := r.gen.UnmarshalBinary(s.Generator); err != nil {
		return err
	}
	return r.load(&s)
}
