package apic

import "testing"

func TestDecodeMSI(t *testing.T) {
	for _, tt := range []struct {
		addr uint64
		data uint32
		want Message
		ok   bool
	}{
		{0xfee00000, 0x0041, Message{Vector: 0x41}, true},
		{0xfee0100c, 0xc131, Message{Dest: 1, Logical: true, Mode: LowestPriority, Vector: 0x31, Level: true}, true},
		{0xfeeff000, 0x0400, Message{Dest: 0xff, Mode: NMI}, true},
		{0xfed00000, 0x41, Message{}, false},
		{0x1_fee00000, 0x41, Message{}, false},
	} {
		got, ok := DecodeMSI(tt.addr, tt.data)
		if got != tt.want || ok != tt.ok {
			t.Errorf("DecodeMSI(%#x, %#x) = %+v, %v; want %+v, %v", tt.addr, tt.data, got, ok, tt.want, tt.ok)
		}
	}
}
