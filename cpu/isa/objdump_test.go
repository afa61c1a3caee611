package isa

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"
)

// objdumpSlot is the room that each instruction gets in objdump's input; nops after it bring objdump back in step.
const objdumpSlot = 32

// objdump disassembles the codes and returns the length and text of the first instruction in each.
func objdump(t *testing.T, mode Mode, codes [][]byte) (lens []int, texts []string) {
	t.Helper()
	tool, err := exec.LookPath("objdump")
	if err != nil {
		t.Skip("needs objdump of binutils")
	}
	var input bytes.Buffer
	for _, c := range codes {
		input.Write(c)
		input.Write(bytes.Repeat([]byte{0x90}, objdumpSlot-len(c)))
	}
	file := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(file, input.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	machine := map[Mode]string{Mode16: "i8086", Mode32: "i386", Mode64: "x86-64"}[mode]
	cmd := exec.Command(tool, "-D", "-w", "-z", "-b", "binary", "-m", "i386", "-M", "intel,"+machine, file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lens, texts = make([]int, len(codes)), make([]string, len(codes))
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		cols := strings.Split(lines.Text(), "\t")
		if len(cols) != 3 {
			continue
		}
		at, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(cols[0]), ":"), 16, 64)
		if err != nil || at%objdumpSlot != 0 {
			continue
		}
		i := at / objdumpSlot
		lens[i] = len(strings.Fields(cols[1]))
		texts[i] = strings.TrimSpace(cols[2])
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return lens, texts
}

// errBad stands for an instruction that objdump shows as bad.
var errBad = errors.New("bad")

type objdumpMismatch struct {
	reason string
	match  func(p *pair, text string) bool
}

// objdumpMismatches are the differences from objdump that are right, with the reason. "host" is as in mismatches.
var objdumpMismatches = []objdumpMismatch{
	{"undocumented twins of other encodings work (host)", func(p *pair, text string) bool {
		return p.err == nil && p.in.Row.Attr&Undocumented != 0
	}},
	{"MOV to CS, and segment registers 6 and 7, are #UD (host)", func(p *pair, text string) bool {
		return p.err == ErrInvalid && (p.code[0] == 0x8e || p.code[0] == 0x8c)
	}},
	{"there are no test registers any more, nor CR1, CR5 to CR7, DR8 to DR15 (host)", func(p *pair, text string) bool {
		return p.err == ErrInvalid && p.code[0] == 0x0f && p.code[1]&0xf8 == 0x20
	}},
	{"NP and NFx rows are #UD after these prefixes (host)", func(p *pair, text string) bool { return p.refusedPrefix() }},
	{"without MPX its instructions are NOPs (host)", func(p *pair, text string) bool {
		return p.err == nil && p.in.Op == NOP && strings.Contains(text, "bnd")
	}},
	{"LFENCE, MFENCE, SFENCE with any rm (host)", func(p *pair, text string) bool { return p.onlyWe(LFENCE, MFENCE, SFENCE) }},
	{"VMMCALL takes prefixes (AMD APM 3, VMMCALL)", func(p *pair, text string) bool { return p.onlyWe(VMMCALL) }},
	{"features that no row has", func(p *pair, text string) bool {
		return p.err == ErrInvalid && strings.Contains(" "+text, " v") ||
			p.err == ErrInvalid && (strings.Contains(text, "xabort") || strings.Contains(text, "xbegin") || strings.Contains(text, "xend") ||
				strings.Contains(text, "xtest") || strings.Contains(text, "sha") || strings.Contains(text, "movnts"))
	}},
}

// TestObjdumpWhereX86asmDiffers asks a second referee about the encodings in which x86asm and Decode differ.
func TestObjdumpWhereX86asmDiffers(t *testing.T) {
	if testing.Short() {
		t.Skip("enumerates millions of encodings")
	}
	met := make([]int, len(objdumpMismatches))
	total := 0
	for _, mode := range []Mode{Mode16, Mode32, Mode64} {
		var codes [][]byte
		var prefixes []string
		seen := map[string]bool{}
		enumerate(mode, func(p string, code []byte) {
			if strings.Contains(p, "\xf0") { // objdump lets LOCK precede everything
				return
			}
			in, err := Decode(code, mode, AllFeatures)
			ref, referr := x86asm.Decode(code, int(mode))
			if referr == nil && ref.Op == 0 {
				referr = x86asm.ErrUnrecognized
			}
			if sameAsX86asm(&in, err, &ref, referr) {
				return
			}
			rest := code[len(p):]
			modrm := rest[1]
			if rest[0] == 0x0f {
				modrm = rest[2]
			}
			// One of each: prefix, opcode, reg field, memory or register.
			key := fmt.Sprintf("%x %x %x %d %d", p, rest[:1], rest[1:3], modrm>>3&7, modrm/0xc0)
			if rest[0] != 0x0f {
				key = fmt.Sprintf("%x %x %d %d", p, rest[:1], modrm>>3&7, modrm/0xc0)
			} else if rest[1] != 0x38 && rest[1] != 0x3a {
				key = fmt.Sprintf("%x %x %d %d", p, rest[:2], modrm>>3&7, modrm/0xc0)
			}
			if !seen[key] {
				seen[key] = true
				codes = append(codes, bytes.Clone(code))
				prefixes = append(prefixes, p)
			}
		})
		total += len(codes)
		lens, texts := objdump(t, mode, codes)
		for i, code := range codes {
			in, err := Decode(code, mode, AllFeatures)
			bad := strings.Contains(texts[i], "(bad)")
			if err != nil && bad || err == nil && !bad && int(in.Len) == lens[i] {
				continue
			}
			p := pair{mode: mode, code: code[len(prefixes[i]):], prefix: prefixes[i], in: &in, err: err}
			if bad {
				p.referr = errBad
			}
			if j := slices.IndexFunc(objdumpMismatches, func(m objdumpMismatch) bool { return m.match(&p, texts[i]) }); j >= 0 {
				met[j]++
				continue
			}
			t.Errorf("mode %d: % x: %v/%d (%v), objdump: %s/%d", mode, code, in.Op, in.Len, err, texts[i], lens[i])
		}
	}
	for i, n := range met {
		if n == 0 {
			t.Errorf("allowed mismatch is not met: %s", objdumpMismatches[i].reason)
		}
	}
	t.Logf("%d encodings", total)
}
