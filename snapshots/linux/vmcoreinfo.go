package linux

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/hybridbridge/emu/snapshots"
)

// VMCoreInfo is the kernel's description of itself for dump tools (Documentation/admin-guide/kdump/vmcoreinfo.rst). The
// guest can write anything there.
type VMCoreInfo struct {
	Release string // OSRELEASE
	// BuildID is a hint at best: several stable kernels export garbage.
	BuildID string
	// KernelOffset is KERNELOFFSET, by how much KASLR moved the text; HasOffset says whether it was there.
	KernelOffset uint64
	HasOffset    bool
	Symbols      map[string]uint64 // SYMBOL(name), as the running kernel has them
	Numbers      map[string]int64  // NUMBER(name)
	Sizes        map[string]uint64 // SIZE(name) and LENGTH(name)
	Offsets      map[string]uint64 // OFFSET(type.field)
	Config       map[string]string // CONFIG_...
	Text         []byte            // as it was found
	// Address is the physical address at which the text was found, if in memory.
	Address uint64
}

const (
	vmcoreinfoStart = "OSRELEASE="
	// maxVMCoreInfo bounds the text; kernels write less than a page.
	maxVMCoreInfo = 64 << 10
)

// ParseVMCoreInfo reads the text, up to its first NUL. ok is false if there is no release or no page directory in it.
func ParseVMCoreInfo(text []byte) (v *VMCoreInfo, ok bool) {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	text = text[:min(len(text), maxVMCoreInfo)]
	v = &VMCoreInfo{
		Symbols: map[string]uint64{}, Numbers: map[string]int64{}, Sizes: map[string]uint64{},
		Offsets: map[string]uint64{}, Config: map[string]string{}, Text: text,
	}
	for line := range strings.Lines(string(text)) {
		key, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !found {
			continue
		}
		what, name, _ := strings.Cut(strings.TrimSuffix(key, ")"), "(")
		hexValue, hexErr := strconv.ParseUint(value, 16, 64)
		value10, err10 := strconv.ParseUint(value, 10, 64)
		switch {
		case key == "OSRELEASE":
			v.Release = value
		case key == "BUILD-ID":
			v.BuildID = value
		case key == "KERNELOFFSET" && hexErr == nil:
			v.KernelOffset, v.HasOffset = hexValue, true
		case what == "SYMBOL" && hexErr == nil:
			v.Symbols[name] = hexValue
		case what == "NUMBER":
			if n, err := strconv.ParseInt(value, 0, 64); err == nil {
				v.Numbers[name] = n
			}
		case (what == "SIZE" || what == "LENGTH") && err10 == nil:
			v.Sizes[name] = value10
		case what == "OFFSET" && err10 == nil:
			v.Offsets[name] = value10
		case strings.HasPrefix(key, "CONFIG_"):
			v.Config[key] = value
		}
	}
	return v, v.Release != "" && v.Symbols["swapper_pg_dir"] != 0
}

// SaneBuildID says whether BuildID looks like one: 20 bytes in hexadecimal.
func (v *VMCoreInfo) SaneBuildID() bool {
	b, err := hex.DecodeString(v.BuildID)
	return err == nil && len(b) == 20
}

// FindVMCoreInfo looks for the texts in memory and hands each to use until that returns true. The kernel keeps one in a
// page of its own, and a note with a copy; other copies, in the page cache or in user space, have no page directory or are
// found wanting by the caller.
func FindVMCoreInfo(s snapshots.Snapshot, use func(*VMCoreInfo) bool) error {
	const page = 4096
	buf := make([]byte, 1<<20)
	for _, r := range s.Ranges() {
		for off := uint64(0); off < r.Size; {
			pa := r.Base + off
			b := buf[:min(uint64(len(buf))-pa%uint64(len(buf)), r.Size-off)]
			if err := snapshots.ReadZeroed(s, b, pa); err != nil {
				return err
			}
			for at := (page - pa%page) % page; at+64 <= uint64(len(b)); at += page {
				text := uint64(0)
				if !bytes.HasPrefix(b[at:], []byte(vmcoreinfoStart)) {
					// A note: name and data sizes, type 0, "VMCOREINFO\0\0".
					if string(b[at+12:at+22]) != snapshots.NoteVMCoreInfo || !bytes.HasPrefix(b[at+24:], []byte(vmcoreinfoStart)) ||
						binary.LittleEndian.Uint32(b[at:]) != uint32(len(snapshots.NoteVMCoreInfo)+1) {
						continue
					}
					text = 24
				}
				t := make([]byte, min(2*page, r.Size-off-at))
				if err := snapshots.ReadZeroed(s, t, pa+at); err != nil {
					return err
				}
				if v, ok := ParseVMCoreInfo(t[text:]); ok {
					v.Address = pa + at + text
					if use(v) {
						return nil
					}
				}
			}
			off += uint64(len(b))
		}
	}
	return nil
}
