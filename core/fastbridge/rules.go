package fastbridge

import (
	"encoding/binary"
	"strings"

	"github.com/hybridbridge/emu/core/fastbridge/monitor"
	"github.com/hybridbridge/emu/core/slowbridge"
)

// pathRules are the lists by which the monitor finds the scope of a system call that hangs on a path.
type pathRules struct {
	pages
	used  int
	lists int
	// slots are where a list has a scope of a system call, by its name; that which is for no scope, the last one, has none.
	slots map[ruleSlot]int
}

type ruleSlot struct {
	nr   uint64
	name string
}

// rulePages is how much there is for lists.
const rulePages = 16

func (b *Bridge) clearRules() {
	r := &b.rules
	clear(b.mon[monitor.PathRows:monitor.Programs])
	r.used, r.lists, r.slots = 0, 0, map[ruleSlot]int{}
}

// ruleByPath makes the list of a system call, if its scope hangs on paths only, or on nothing.
func (b *Bridge) ruleByPath(nr int) bool {
	rules, ok := b.slow.OnPath(nr)
	r := &b.rules
	if !ok || b.cfg.ExitSwitching || r.lists+1 >= monitor.MaxPrograms {
		return false
	}
	if r.mem == nil {
		var err error
		if r.pa, r.mem, err = b.window.take(rulePages); err != nil {
			return false
		}
	}
	list, slots, ok := compileRules(rules)
	if !ok || r.used+len(list) > len(r.mem) {
		return false
	}
	copy(r.mem[r.used:], list)
	for name, at := range slots {
		r.slots[ruleSlot{uint64(nr), name}] = r.used + at
	}
	r.lists++
	binary.LittleEndian.PutUint16(b.mon[monitor.PathRows+2*nr:], uint16(r.lists))
	b.put(monitor.Programs+8*r.lists, windowBase+r.pa-viewsBase+uint64(r.used))
	r.used += len(list)
	return true
}

// compileRules makes the monitor's list of rules, and says where in it which scope is; ok is false if a path is too long.
func compileRules(rules []slowbridge.PathRule) (list []byte, slots map[string]int, ok bool) {
	slots, ok = map[string]int{}, true
	rule := func(name string, argument uint64, paths []string) {
		begin := len(list)
		slots[name] = begin
		list = append(list, make([]byte, monitor.RuleHead)...)
		for _, p := range paths {
			flags := byte(0)
			p, not := strings.CutPrefix(p, "!")
			p, tree := strings.CutSuffix(p, "*")
			if tree {
				flags |= monitor.PatternTree
			}
			if not {
				flags |= monitor.PatternNot
			}
			ok = ok && len(p) < 255
			list = append(append(list, byte(len(p)), flags), p...)
		}
		list = append(list, make([]byte, -len(list)&7)...)
		binary.LittleEndian.PutUint32(list[begin+monitor.RuleSize:], uint32(len(list)-begin))
		binary.LittleEndian.PutUint16(list[begin+monitor.RuleArgument:], uint16(argument))
		binary.LittleEndian.PutUint16(list[begin+monitor.RulePatterns:], uint16(len(paths)))
	}
	for _, s := range rules {
		rule(s.Scope, s.Argument, s.Paths)
	}
	rule("", 0, nil)
	return list, slots, ok
}
