package apic

// Mode is the delivery mode of an interrupt message.
type Mode uint8

// Delivery modes (SDM vol. 3A, 11.6.1).
const (
	Fixed          Mode = 0
	LowestPriority Mode = 1
	SMI            Mode = 2
	NMI            Mode = 4
	INIT           Mode = 5
	StartUp        Mode = 6
	ExtINT         Mode = 7
)

// Message is one interrupt message.
type Message struct {
	Dest    uint8 // APIC ID, or a set in the form that LDR and DFR give if Logical
	Logical bool
	Mode    Mode
	Vector  uint8
	Level   bool // level-triggered: the receiver broadcasts its EOI
}

// Target takes interrupt messages.
type Target interface {
	// Deliver reports whether some local APIC accepted m.
	Deliver(m Message) bool
}

// MSI address range (SDM vol. 3A, 11.11.1).
const (
	MSIBase uint64 = 0xfee00000
	MSIMask uint64 = ^uint64(0xfffff)
)

// DecodeMSI returns the message that a device's write of data to addr sends. It reports false for an address that is
// not in the MSI range.
func DecodeMSI(addr uint64, data uint32) (Message, bool) {
	if addr&MSIMask != MSIBase {
		return Message{}, false
	}
	return Message{
		Dest:    uint8(addr >> 12),
		Logical: addr&(1<<2) != 0, // DM; RH (bit 3) makes no difference with one processor
		Mode:    Mode(data >> 8 & 7),
		Vector:  uint8(data),
		Level:   data&(1<<15) != 0,
	}, true
}
